-- Every record of audit.erasures.v1, in the order of its partitions.
CREATE TABLE IF NOT EXISTS gyre.audit_erasures_v1
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
    erasure_id String COMMENT 'Id of the erasure',
    tenant LowCardinality(String) COMMENT 'Business unit',
    asked_at DateTime64(6, 'UTC') COMMENT 'When it was asked for',
    request_ids Array(String) CODEC(ZSTD) COMMENT 'Requests whose content was erased',
    rows Array(Tuple(topic LowCardinality(String), partition Int64, offsets Array(Int64))) CODEC(ZSTD)
        COMMENT 'Rows whose content was erased',
    dataset_ids Array(String) COMMENT 'Datasets that held them',
    candidate_ids Array(String) COMMENT 'Specialists that learned from them or were measured by them: to be made anew',
    CONSTRAINT hash_follows_from_header CHECK SHA256(concat(
        'gyre.record.v1\n', _topic, '\n', toString(_partition), '\n', toString(_offset), '\n',
        toString(toUnixTimestamp64Milli(_timestamp)), '\n', lower(hex(_digest)), '\n', lower(hex(_prev_hash)), '\n'
    )) = _hash
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(_timestamp)
ORDER BY (_partition, _offset)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'What was erased: where it stood, never what it was or whose';

CREATE OR REPLACE VIEW gyre.erasures
(
    erasure_id String COMMENT 'Id of the erasure',
    tenant LowCardinality(String) COMMENT 'Business unit',
    asked_at DateTime64(6, 'UTC') COMMENT 'When it was asked for',
    request_ids Array(String) COMMENT 'Requests whose content was erased',
    rows Array(Tuple(topic LowCardinality(String), partition Int64, offsets Array(Int64)))
        COMMENT 'Rows whose content was erased',
    dataset_ids Array(String) COMMENT 'Datasets that held them',
    candidate_ids Array(String) COMMENT 'Specialists that learned from them or were measured by them: to be made anew',
    partition UInt32 COMMENT 'Kafka partition of its record',
    offset UInt64 COMMENT 'Kafka offset of its record',
    hash String COMMENT 'Hash of its record in the chain, in hexadecimal'
)
AS SELECT
    erasure_id, tenant, asked_at, request_ids, rows, dataset_ids, candidate_ids,
    _partition AS partition, _offset AS offset, lower(hex(_hash)) AS hash
FROM gyre.audit_erasures_v1
WHERE _error = ''
COMMENT 'What was erased, and what had learned from it';

CREATE OR REPLACE VIEW gyre.checkpoints
(
    chain String COMMENT 'topic/partition',
    signed_at DateTime64(6, 'UTC') COMMENT 'When it was signed',
    rows Int64 COMMENT 'How many rows of the chain it covers: all up to last_offset',
    last_offset Int64 COMMENT 'Last offset covered',
    root String COMMENT 'Merkle root over these rows, in hexadecimal',
    key_id LowCardinality(String) COMMENT 'First of the keys it was signed with',
    note String COMMENT 'What was signed, with its signatures: give it to an auditor',
    partition UInt32 COMMENT 'Kafka partition of its record',
    offset UInt64 COMMENT 'Kafka offset of its record',
    hash String COMMENT 'Hash of its record in the chain, in hexadecimal'
)
AS SELECT
    chain, signed_at, tree_size AS rows, last_offset, lower(hex(root)) AS root, key_id, note,
    _partition AS partition, _offset AS offset, lower(hex(_hash)) AS hash
FROM gyre.audit_checkpoints_v1
WHERE _error = ''
COMMENT 'What was signed of the record, and when';
