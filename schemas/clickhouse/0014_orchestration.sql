-- Time per function of the pipeline, one row per request and stage; 0020 has the daily shares.
CREATE OR REPLACE VIEW gyre.stages
(
    request_id String COMMENT 'Id of the request',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the request is for',
    model LowCardinality(String) COMMENT 'Model that answered',
    received_at DateTime64(6, 'UTC') COMMENT 'When the request came in',
    stage LowCardinality(String) COMMENT 'Function of the pipeline',
    start_us Int64 COMMENT 'Microseconds from the request to the first beginning of the stage',
    duration_us Int64 COMMENT 'Microseconds the stage took in all; stages may overlap'
)
AS SELECT
    request_id, tenant, task, model, received_at,
    stage,
    -- A stage that comes back, as governance does for the answer, is one row all the same.
    arrayMin(arrayFilter((start_us, name) -> name = stage, stages.start_us, stages.name)) AS start_us,
    arraySum((us, name) -> if(name = stage, us, 0), stages.duration_us, stages.name) AS duration_us
FROM gyre.router_interactions_v1
ARRAY JOIN arrayDistinct(stages.name) AS stage
WHERE _error = '' AND phase = 'finished'
COMMENT 'One row per request and function of the pipeline';
