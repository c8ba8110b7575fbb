-- Time per function of the pipeline: one row per request and stage, and the daily shares.
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
    arrayMin(each -> each.start_us, arrayFilter(each -> each.name = stage, stages)) AS start_us,
    arraySum(each -> each.duration_us, arrayFilter(each -> each.name = stage, stages)) AS duration_us
FROM gyre.router_interactions_v1
ARRAY JOIN arrayDistinct(arrayMap(each -> each.name, stages)) AS stage
WHERE _error = '' AND phase = 'finished'
COMMENT 'One row per request and function of the pipeline';

CREATE OR REPLACE VIEW gyre.orchestration_breakdown
(
    day Date COMMENT 'Day (UTC) on which the requests came in',
    tenant LowCardinality(String) COMMENT 'Business unit',
    stage LowCardinality(String) COMMENT 'Function of the pipeline',
    is_orchestration Bool COMMENT 'Whether it is one of the seven orchestration functions, and not the model itself',
    requests UInt64 COMMENT 'Requests that went through it',
    total_us Int64 COMMENT 'Microseconds spent in it',
    mean_us Float64 COMMENT 'Mean microseconds per request that went through it',
    p50_us Float64 COMMENT 'Median of the same',
    p95_us Float64 COMMENT '95th percentile of the same',
    share_of_orchestration Nullable(Float64)
        COMMENT 'Its part of the time spent in the seven functions that day, 0 to 1; null for what is none of them',
    share_of_request Nullable(Float64)
        COMMENT 'Its part of the time from request to record that day, 0 to 1; overlapping stages may add up to more than 1'
)
AS WITH
    ['routing', 'governance', 'context-stitching', 'monitoring', 'policy', 'data-prep', 'audit'] AS orchestration,
    requests_by_day AS (
        SELECT toDate(received_at) AS day, tenant, sum(total_us) AS request_us
        FROM gyre.router_interactions_v1
        WHERE _error = '' AND phase = 'finished'
        GROUP BY day, tenant
    ),
    stages_by_day AS (
        SELECT
            toDate(received_at) AS day, tenant, stage,
            has(orchestration, stage) AS is_orchestration,
            uniqExact(request_id) AS requests,
            sum(duration_us) AS total_us,
            quantile(0.5)(duration_us) AS p50_us,
            quantile(0.95)(duration_us) AS p95_us
        FROM gyre.stages
        GROUP BY day, tenant, stage
    )
SELECT
    day, tenant, stage, is_orchestration, requests, total_us,
    total_us / requests AS mean_us, p50_us, p95_us,
    if(
        is_orchestration,
        total_us / nullIf(sumIf(total_us, is_orchestration) OVER (PARTITION BY day, tenant), 0),
        NULL
    ) AS share_of_orchestration,
    total_us / nullIf(request_us, 0) AS share_of_request
FROM stages_by_day
INNER JOIN requests_by_day USING (day, tenant)
COMMENT 'Share of each function of the pipeline, per day and tenant';
