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
AS WITH
    -- A stage that comes back, as governance does for the answer, is one row with all its time: see rollup_stages_feed.
    arraySort(stages.name) AS names,
    arrayCumSum(arraySort((each_us, name) -> name, stages.duration_us, stages.name)) AS run_up_us,
    arrayMap(
        (name, following) -> name != following, names, arrayResize(arrayPopFront(names), length(names))
    ) AS is_last
SELECT
    request_id, tenant, task, model, received_at,
    stage,
    arrayMin(arrayFilter((start_us, name) -> name = stage, stages.start_us, stages.name)) AS start_us,
    in_all_us AS duration_us
FROM gyre.router_interactions_v1
ARRAY JOIN
    arrayFilter((name, last) -> last, names, is_last) AS stage,
    arrayPopFront(
        arrayDifference(arrayPushFront(arrayFilter((each_us, last) -> last, run_up_us, is_last), 0))
    ) AS in_all_us
WHERE _error = '' AND phase = 'finished'
COMMENT 'One row per request and function of the pipeline';
