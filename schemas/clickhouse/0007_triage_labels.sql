-- Every record of triage.labels.v1, in the order of its partitions.
CREATE TABLE IF NOT EXISTS gyre.triage_labels_v1
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
    label_id String COMMENT 'Id of the label',
    request_id String COMMENT 'Id of the request (UUIDv7), the thread of lineage',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the request is for',
    expert LowCardinality(String) COMMENT 'Who answered',
    labelled_at DateTime64(6, 'UTC') COMMENT 'When the expert answered',
    outcome LowCardinality(String) COMMENT 'confirmed, corrected, unsafe or skipped',
    answer String CODEC(ZSTD) COMMENT 'The right answer, when confirmed or corrected',
    model_answer String CODEC(ZSTD) COMMENT 'What the model had answered',
    delta Array(Tuple(start Int64, end Int64, text String)) CODEC(ZSTD)
        COMMENT 'Steps from what the model said to what was wanted',
    distance Float64 COMMENT '0 the same, 1 nothing in common',
    comment String CODEC(ZSTD) COMMENT 'Comment in free text',
    seconds_spent Float64 COMMENT 'Seconds the expert took',
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
COMMENT 'What experts said of edge cases';
