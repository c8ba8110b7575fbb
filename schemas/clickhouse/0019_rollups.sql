-- What is counted ahead of being asked. A materialized view counts each insert as it comes; should one be missed or counted
-- twice, which a killed server can leave, audit counts that Kafka partition's month anew. A rollup's columns and its
-- materialized view never change, because rows that exist already would not follow: make another rollup.

CREATE TABLE IF NOT EXISTS gyre.rollup_minutes
(
    month Date COMMENT 'Month (UTC) in which Kafka got the records: with the partition, what is counted anew at once',
    partition UInt32 COMMENT 'Kafka partition of the records',
    minute DateTime('UTC') COMMENT 'Minute in which the requests came in; of what could not be decoded, in which Kafka got it',
    tenant LowCardinality(String) COMMENT 'Business unit',
    application LowCardinality(String) COMMENT 'Caller, as its key says',
    task LowCardinality(String) COMMENT 'What the requests are for',
    model LowCardinality(String) COMMENT 'Model that answered',
    model_version LowCardinality(String) COMMENT 'Version of the model that answered',
    tier LowCardinality(String) COMMENT 'Class of model: specialist, small, large or frontier',
    records SimpleAggregateFunction(sum, UInt64) COMMENT 'Rows of the record, those included that are no request',
    undecoded SimpleAggregateFunction(sum, UInt64) COMMENT 'Records that could not be decoded',
    opened SimpleAggregateFunction(sum, UInt64) COMMENT 'Streams that were opened',
    requests SimpleAggregateFunction(sum, UInt64) COMMENT 'Requests that have ended',
    refused SimpleAggregateFunction(sum, UInt64) COMMENT 'Of these, refused',
    failed SimpleAggregateFunction(sum, UInt64) COMMENT 'Of these, ended by an error',
    cancelled SimpleAggregateFunction(sum, UInt64) COMMENT 'Of these, given up by the caller',
    cut_off SimpleAggregateFunction(sum, UInt64) COMMENT 'Of these, answers cut off at their longest',
    masked SimpleAggregateFunction(sum, UInt64) COMMENT 'Of these, masked in request or answer',
    prompt_tokens SimpleAggregateFunction(sum, Int64) COMMENT 'Tokens read by the models that answered',
    completion_tokens SimpleAggregateFunction(sum, Int64) COMMENT 'Tokens written by the models that answered',
    cost SimpleAggregateFunction(sum, Float64)
        COMMENT 'Cost of all that was asked of models for these requests, in the unit of the bundle\'s prices',
    unused_cost SimpleAggregateFunction(sum, Float64) COMMENT 'Of this, for answers that were not given',
    expected_price SimpleAggregateFunction(sum, Float64)
        COMMENT 'What the models that answered were expected to cost, where estimates are on record',
    generic_price SimpleAggregateFunction(sum, Float64)
        COMMENT 'What the cheapest generic model that was cleared and live was expected to cost, for the same requests',
    dearest_price SimpleAggregateFunction(sum, Float64)
        COMMENT 'What the dearest model that was cleared and live was expected to cost, for the same requests',
    total_us SimpleAggregateFunction(sum, Int64) COMMENT 'Microseconds that the requests took',
    total_us_digest AggregateFunction(quantilesTDigest(0.5, 0.95, 0.99), Int64)
        COMMENT 'The same as a t-digest, for quantilesTDigestMerge(0.5, 0.95, 0.99)',
    first_token_us_digest AggregateFunction(quantilesTDigest(0.5, 0.95, 0.99), Int64)
        COMMENT 'Microseconds to the first token, of answers that have one'
)
ENGINE = AggregatingMergeTree
PARTITION BY month
ORDER BY (minute, tenant, application, task, model, model_version, tier, partition, month)
TTL month + INTERVAL 14 MONTH
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000
COMMENT 'Requests per minute, of the last 13 months; rows add up';

CREATE MATERIALIZED VIEW IF NOT EXISTS gyre.rollup_minutes_feed TO gyre.rollup_minutes AS
WITH
    phase = 'finished' AS is_request,
    -- Whatever a record holds, counting it must not fail: the lists are made equally long before they are read together.
    is_request AND has(estimates.model, model) AND length(estimates) = length(candidates) AS is_priced,
    estimates.price[indexOf(estimates.model, model)] AS price,
    arrayFilter(
        (each, cleared, live) -> cleared AND live,
        arrayResize(estimates.price, length(candidates)), candidates.cleared, candidates.live
    ) AS prices,
    arrayFilter(
        (each, cleared, live, class) -> cleared AND live AND class != 'specialist',
        arrayResize(estimates.price, length(candidates)), candidates.cleared, candidates.live, candidates.tier
    ) AS generic_prices
SELECT
    toStartOfMonth(_timestamp) AS month,
    _partition AS partition,
    toStartOfMinute(if(_error = '', received_at, _timestamp)) AS minute,
    tenant,
    application,
    task,
    model,
    model_version,
    tier,
    count() AS records,
    countIf(_error NOT IN ('', 'erased')) AS undecoded,
    countIf(phase = 'opened') AS opened,
    countIf(is_request) AS requests,
    countIf(is_request AND finish_reason = 'refused') AS refused,
    countIf(is_request AND finish_reason = 'error') AS failed,
    countIf(is_request AND finish_reason = 'cancelled') AS cancelled,
    countIf(is_request AND finish_reason = 'length') AS cut_off,
    countIf(is_request AND (input_verdict = 'mask' OR output_verdict = 'mask')) AS masked,
    sumIf(source.prompt_tokens, is_request) AS prompt_tokens,
    sumIf(source.completion_tokens, is_request) AS completion_tokens,
    sumIf(arraySum(attempts.cost), is_request) AS cost,
    sumIf(
        arraySum((each, outcome) -> if(outcome = 'answered', 0, each), attempts.cost, attempts.outcome), is_request
    ) AS unused_cost,
    sumIf(price, is_priced) AS expected_price,
    sumIf(if(empty(generic_prices), price, arrayMin(generic_prices)), is_priced) AS generic_price,
    sumIf(if(empty(prices), price, arrayMax(prices)), is_priced) AS dearest_price,
    sumIf(source.total_us, is_request) AS total_us,
    quantilesTDigestStateIf(0.5, 0.95, 0.99)(source.total_us, is_request) AS total_us_digest,
    quantilesTDigestStateIf(0.5, 0.95, 0.99)(first_token_us, is_request AND first_token_us > 0) AS first_token_us_digest
FROM gyre.router_interactions_v1 AS source
GROUP BY month, partition, minute, tenant, application, task, model, model_version, tier
COMMENT 'Counts each insert of interactions into rollup_minutes';

CREATE TABLE IF NOT EXISTS gyre.rollup_stages
(
    month Date COMMENT 'Month (UTC) in which Kafka got the records: with the partition, what is counted anew at once',
    partition UInt32 COMMENT 'Kafka partition of the records',
    hour DateTime('UTC') COMMENT 'Hour in which the requests came in; of what could not be decoded, in which Kafka got it',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the requests are for',
    stage LowCardinality(String) COMMENT 'Function of the pipeline; empty for the requests as a whole',
    records SimpleAggregateFunction(sum, UInt64)
        COMMENT 'Where the stage is empty, rows of the record, those included that are no request',
    requests SimpleAggregateFunction(sum, UInt64) COMMENT 'Requests that went through it',
    duration_us SimpleAggregateFunction(sum, Int64) COMMENT 'Microseconds spent in it',
    duration_us_digest AggregateFunction(quantilesTDigest(0.5, 0.95, 0.99), Int64)
        COMMENT 'Microseconds per request as a t-digest, for quantilesTDigestMerge(0.5, 0.95, 0.99)'
)
ENGINE = AggregatingMergeTree
PARTITION BY month
ORDER BY (hour, tenant, task, stage, partition, month)
TTL month + INTERVAL 14 MONTH
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000
COMMENT 'Time per hour and function of the pipeline, of the last 13 months; rows add up';

CREATE MATERIALIZED VIEW IF NOT EXISTS gyre.rollup_stages_feed TO gyre.rollup_stages AS
WITH
    phase = 'finished' AS is_request,
    -- A stage that comes back, as governance does for the answer, is counted once, with all its time: by name, the time
    -- run up to the last of each name, less that of the name before. An arraySum per name takes twice as long.
    arraySort(stages.name) AS names,
    arrayCumSum(arraySort((each_us, name) -> name, stages.duration_us, stages.name)) AS run_up_us,
    arrayMap(
        (name, following) -> name != following, names, arrayResize(arrayPopFront(names), length(names))
    ) AS is_last,
    arrayDifference(arrayPushFront(arrayFilter((each_us, last) -> last, run_up_us, is_last), 0)) AS in_all_us
SELECT
    toStartOfMonth(_timestamp) AS month,
    _partition AS partition,
    toStartOfHour(if(_error = '', received_at, _timestamp)) AS hour,
    tenant,
    task,
    stage,
    countIf(stage = '') AS records,
    countIf(is_request) AS requests,
    sumIf(us, is_request) AS duration_us,
    quantilesTDigestStateIf(0.5, 0.95, 0.99)(us, is_request) AS duration_us_digest
FROM gyre.router_interactions_v1
ARRAY JOIN
    arrayPushFront(arrayFilter((name, last) -> last, names, is_last), '') AS stage,
    arrayPushFront(arrayPopFront(in_all_us), total_us) AS us
GROUP BY month, partition, hour, tenant, task, stage
COMMENT 'Counts each insert of interactions into rollup_stages';
