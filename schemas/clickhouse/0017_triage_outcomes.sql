-- Every record of triage.outcomes.v1, in the order of its partitions.
CREATE TABLE IF NOT EXISTS gyre.triage_outcomes_v1
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
    found_at DateTime64(6, 'UTC') COMMENT 'When it was found',
    source LowCardinality(String) COMMENT 'label or feedback',
    success Float64 COMMENT 'From 0, wrong, to 1, right; feedback leaves doubt',
    propensity Float64 COMMENT 'Probability with which experts were asked; 1 of feedback',
    model LowCardinality(String) COMMENT 'Model that answered',
    model_version LowCardinality(String) COMMENT 'Version of the model that answered',
    tier LowCardinality(String) COMMENT 'Class of model: specialist, small, large or frontier',
    question String CODEC(ZSTD) COMMENT 'What was asked, masked: the beginning of the last user turn',
    turns Int64 COMMENT 'Messages in all',
    tools Int64 COMMENT 'Functions that the request offered',
    sensitivity LowCardinality(String) COMMENT 'public, internal, confidential or restricted',
    bundle_version LowCardinality(String) COMMENT 'Version of the bundle it was decided under',
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
COMMENT 'What came of answers, by labels and feedback: what models are judged by';

ALTER TABLE gyre.triage_outcomes_v1 ADD COLUMN IF NOT EXISTS sum_logprob Nullable(Float64) COMMENT 'Sum of the log-probabilities of the answer\'s tokens';

CREATE OR REPLACE VIEW gyre.outcomes
(
    request_id String COMMENT 'Id of the request (UUIDv7), the thread of lineage',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the request is for',
    found_at DateTime64(6, 'UTC') COMMENT 'When it was found',
    source LowCardinality(String) COMMENT 'label or feedback',
    success Float64 COMMENT 'From 0, wrong, to 1, right; feedback leaves doubt',
    propensity Float64 COMMENT 'Probability with which experts were asked; 1 of feedback',
    model LowCardinality(String) COMMENT 'Model that answered',
    model_version LowCardinality(String) COMMENT 'Version of the model that answered',
    tier LowCardinality(String) COMMENT 'Class of model: specialist, small, large or frontier',
    sum_logprob Nullable(Float64) COMMENT 'Sum of the log-probabilities of the answer\'s tokens',
    question String COMMENT 'What was asked, masked: the beginning of the last user turn',
    turns Int64 COMMENT 'Messages in all',
    tools Int64 COMMENT 'Functions that the request offered',
    sensitivity LowCardinality(String) COMMENT 'public, internal, confidential or restricted',
    bundle_version LowCardinality(String) COMMENT 'Version of the bundle it was decided under',
    partition UInt32 COMMENT 'Kafka partition of its record',
    offset UInt64 COMMENT 'Kafka offset of its record',
    hash String COMMENT 'Hash of its record in the chain, in hexadecimal'
)
AS SELECT
    request_id, tenant, task, found_at, source, success, propensity, model, model_version, tier, sum_logprob, question,
    turns, tools, sensitivity, bundle_version, _partition AS partition, _offset AS offset, lower(hex(_hash)) AS hash
FROM gyre.triage_outcomes_v1
WHERE _error = ''
COMMENT 'What came of answers, by labels and feedback: what the router judges models by';
