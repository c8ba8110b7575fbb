-- Every record of router.shadows.v1, in the order of its partitions.
CREATE TABLE IF NOT EXISTS gyre.router_shadows_v1
(
    _topic LowCardinality(String) COMMENT 'Kafka topic',
    _partition UInt32 COMMENT 'Partition of the topic',
    _offset UInt64 CODEC(Delta, ZSTD) COMMENT 'Offset in the partition; compaction and transactions leave gaps',
    _timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD) COMMENT 'Time that Kafka holds for the record',
    _key String CODEC(ZSTD) COMMENT 'Key of the record',
    _schema_id UInt32 COMMENT 'Avro schema the payload was written with, 0 where it names none',
    _prev_hash FixedString(32) COMMENT '_hash of the row before it in the partition, zeros for the first',
    _salt FixedString(16) COMMENT 'Random bytes that keep a short payload from being guessed by its digest',
    _digest FixedString(32) COMMENT 'SHA-256 of _salt, length of _key in decimal, a colon, _key, _payload',
    _hash FixedString(32) COMMENT 'SHA-256 of the header, which names the row, its _digest and its _prev_hash',
    _payload String CODEC(ZSTD) COMMENT 'Value of the record as Kafka held it: what the hash chain vouches for',
    _error String COMMENT 'Why the payload could not be decoded; empty when it was',
    request_id String COMMENT 'Id of the request (UUIDv7), the thread of lineage',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the request is for',
    candidate_id String COMMENT 'Candidate of the specialist',
    model LowCardinality(String) COMMENT 'Its name',
    model_version LowCardinality(String) COMMENT 'Its version',
    answered_at DateTime64(6, 'UTC') COMMENT 'When it had answered',
    temperature Float64 COMMENT 'At which its tokens were drawn; 0: the likeliest were taken',
    answer String CODEC(ZSTD) COMMENT 'What it says, masked; nobody got it',
    finish_reason LowCardinality(String) COMMENT 'stop, length, tool_calls, refused or error',
    error String COMMENT 'Why there is no answer, if there is none',
    attempts Array(Tuple(
        model String, model_version String, tier String, outcome String, reason String, start_us Int64,
        duration_us Int64, prompt_tokens Int64, completion_tokens Int64, cost Float64
    )) COMMENT 'How often it was asked, and what came of it',
    bundle_version LowCardinality(String) COMMENT 'Version of the bundle it was decided under',
    sensitivity LowCardinality(String) COMMENT 'public, internal, confidential or restricted',
    findings Array(Tuple(direction String, kind String, action String, text_index Int64, start Int64, end Int64))
        COMMENT 'What guardrails found in its answer',
    prompt_tokens Int64 COMMENT 'Tokens of the prompt',
    completion_tokens Int64 COMMENT 'Tokens of the answer',
    sum_logprob Nullable(Float64) COMMENT 'Sum of the log-probabilities of the answer\'s tokens',
    mean_logprob Nullable(Float64) COMMENT 'Their mean',
    min_logprob Nullable(Float64) COMMENT 'The least of them',
    CONSTRAINT hash_follows_from_header CHECK SHA256(concat(
        'gyre.record.v1\n', _topic, '\n', toString(_partition), '\n', toString(_offset), '\n',
        toString(toUnixTimestamp64Milli(_timestamp)), '\n', lower(hex(_digest)), '\n', lower(hex(_prev_hash)), '\n'
    )) = _hash,
    INDEX by_request request_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(_timestamp)
ORDER BY (_partition, _offset)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'What specialists in the shadow answer to requests that others have answered';

CREATE OR REPLACE VIEW gyre.shadows
(
    request_id String COMMENT 'Id of the request (UUIDv7), the thread of lineage',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the request is for',
    candidate_id String COMMENT 'Candidate of the specialist',
    model LowCardinality(String) COMMENT 'Its name',
    model_version LowCardinality(String) COMMENT 'Its version',
    answered_at DateTime64(6, 'UTC') COMMENT 'When it had answered',
    temperature Float64 COMMENT 'At which its tokens were drawn; 0: the likeliest were taken',
    answer String COMMENT 'What it says, masked; nobody got it',
    finish_reason LowCardinality(String) COMMENT 'stop, length, tool_calls, refused or error',
    error String COMMENT 'Why there is no answer, if there is none',
    attempts Array(Tuple(
        model String, model_version String, tier String, outcome String, reason String, start_us Int64,
        duration_us Int64, prompt_tokens Int64, completion_tokens Int64, cost Float64
    )) COMMENT 'How often it was asked, and what came of it',
    bundle_version LowCardinality(String) COMMENT 'Version of the bundle it was decided under',
    sensitivity LowCardinality(String) COMMENT 'public, internal, confidential or restricted',
    findings Array(Tuple(direction String, kind String, action String, text_index Int64, start Int64, end Int64))
        COMMENT 'What guardrails found in its answer',
    prompt_tokens Int64 COMMENT 'Tokens of the prompt',
    completion_tokens Int64 COMMENT 'Tokens of the answer',
    sum_logprob Nullable(Float64) COMMENT 'Sum of the log-probabilities of the answer\'s tokens',
    mean_logprob Nullable(Float64) COMMENT 'Their mean',
    min_logprob Nullable(Float64) COMMENT 'The least of them',
    partition UInt32 COMMENT 'Kafka partition of its record',
    offset UInt64 COMMENT 'Kafka offset of its record',
    hash String COMMENT 'Hash of its record in the chain, in hexadecimal'
)
AS SELECT
    request_id, tenant, task, candidate_id, model, model_version, answered_at, temperature, answer, finish_reason, error,
    attempts, bundle_version, sensitivity, findings, prompt_tokens, completion_tokens, sum_logprob, mean_logprob,
    min_logprob, _partition AS partition, _offset AS offset, lower(hex(_hash)) AS hash
FROM gyre.router_shadows_v1
WHERE _error = ''
COMMENT 'What specialists in the shadow answer to requests that others have answered'
