-- Columns that tables were given after they were first made. Each is also in the view of its table.
ALTER TABLE gyre.router_interactions_v1 ADD COLUMN IF NOT EXISTS releases Array(Tuple(
    start Int64, end Int64, verdict LowCardinality(String), bundle_version LowCardinality(String)
)) COMMENT 'Under which verdict, of which bundle, each part of the answer left: from code point start to before end';
