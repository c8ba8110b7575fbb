-- Every record of trainer.candidates.v1, in the order of its partitions.
CREATE TABLE IF NOT EXISTS gyre.trainer_candidates_v1
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
    candidate_id String COMMENT 'Id of the candidate',
    run_id String COMMENT 'Training run',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the request is for',
    created_at DateTime64(6, 'UTC') COMMENT 'When the gate had decided',
    verdict LowCardinality(String) COMMENT 'promote or refuse',
    reasons Array(String) COMMENT 'Why the gate decided so',
    base_model LowCardinality(String) COMMENT 'Model the adapter belongs to',
    adapter_path String COMMENT 'Folder of the adapter, relative to the artifacts folder',
    system_prompt String CODEC(ZSTD) COMMENT 'System prompt the specialist is asked with',
    response_schema String CODEC(ZSTD) COMMENT 'JSON Schema that answers are held to',
    dataset_id String COMMENT 'Dataset it learned from',
    training_request_ids Array(String) CODEC(ZSTD) COMMENT 'Requests whose labels it learned from',
    holdout_request_ids Array(String) CODEC(ZSTD) COMMENT 'Requests it was measured on',
    incumbent String COMMENT 'What it was compared with',
    candidate_accuracy Float64 COMMENT 'Share of the hold-out it got right',
    incumbent_accuracy Float64 COMMENT 'Share of the hold-out the incumbent got right',
    gain Float64 COMMENT 'Difference of the two',
    gain_low Float64 COMMENT 'Lower end of the confidence interval of the gain',
    gain_high Float64 COMMENT 'Upper end of the confidence interval of the gain',
    confidence Float64 DEFAULT 0.95 COMMENT 'Confidence level of the interval',
    training_tokens Int64 COMMENT 'Tokens trained on',
    training_seconds Float64 COMMENT 'Seconds of training',
    sensitivity LowCardinality(String) COMMENT 'Highest sensitivity of what it learned from',
    bundle_version LowCardinality(String) COMMENT 'Version of the bundle it was decided under',
    CONSTRAINT hash_follows_from_header CHECK SHA256(concat(
        'gyre.record.v1\n', _topic, '\n', toString(_partition), '\n', toString(_offset), '\n',
        toString(toUnixTimestamp64Milli(_timestamp)), '\n', lower(hex(_digest)), '\n', lower(hex(_prev_hash)), '\n'
    )) = _hash
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(_timestamp)
ORDER BY (_partition, _offset)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Trained specialists and what the gate said of them';
