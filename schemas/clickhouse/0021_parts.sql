-- Files of a table. ClickHouse gives each column files of its own from 10 MB on; of a table so wide, writing 5,000 rows then
-- takes two to three times as long, and so does each merge.
ALTER TABLE gyre.router_interactions_v1 MODIFY SETTING min_bytes_for_wide_part = 1073741824;
