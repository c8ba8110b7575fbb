-- Every record of triage.edge-cases.v1, in the order of its partitions.
CREATE TABLE IF NOT EXISTS gyre.triage_edge_cases_v1
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
    flagged_at DateTime64(6, 'UTC') COMMENT 'When triage flagged the request',
    score Float64 COMMENT 'How likely the answer is wrong, by triage',
    threshold Float64 COMMENT 'Score from which requests were flagged then',
    explored Bool COMMENT 'Picked at random, not for its score',
    propensity Float64 COMMENT 'Probability with which it was picked',
    signals Array(Tuple(name LowCardinality(String), value Float64, explanation String)) CODEC(ZSTD)
        COMMENT 'Reasons to think the answer was wrong',
    messages Array(Tuple(
        role LowCardinality(String), content String, tool_calls Array(Tuple(id String, name
        LowCardinality(String), arguments String)), tool_call_id String
    )) CODEC(ZSTD) COMMENT 'What was asked, as the model saw it, masked',
    tools Array(Tuple(name LowCardinality(String), description String, parameters String)) CODEC(ZSTD)
        COMMENT 'Functions the model could ask for',
    answer String CODEC(ZSTD) COMMENT 'What the model answered',
    model LowCardinality(String) COMMENT 'Model that answered',
    model_version LowCardinality(String) COMMENT 'Version of the model that answered',
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
COMMENT 'Interactions that are worth an expert\'s time';
