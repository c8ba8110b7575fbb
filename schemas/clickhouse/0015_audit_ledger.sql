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
    request_id String COMMENT 'Id of the request (UUIDv7), the thread of lineage',
    erasure_id String COMMENT 'Id of the wish, which may concern many requests',
    tenant LowCardinality(String) COMMENT 'Business unit',
    asked_at DateTime64(6, 'UTC') COMMENT 'When it was asked for',
    is_whole Bool COMMENT 'Whether all of the request was erased, or only feedback on it',
    rows Array(Tuple(topic LowCardinality(String), partition Int64, offset Int64)) CODEC(ZSTD)
        COMMENT 'Rows whose content was erased',
    dataset_ids Array(String) COMMENT 'Datasets that held the request',
    candidate_ids Array(String) COMMENT 'Specialists that learned from it or were measured by it: to be made anew',
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
COMMENT 'What was erased: where it stood, never what it was or whose';

ALTER TABLE gyre.audit_erasures_v1 ADD COLUMN IF NOT EXISTS asked_by LowCardinality(String) COMMENT 'Who had it erased';

CREATE OR REPLACE VIEW gyre.erasures
(
    request_id String COMMENT 'Id of the request (UUIDv7), the thread of lineage',
    erasure_id String COMMENT 'Id of the wish, which may concern many requests',
    tenant LowCardinality(String) COMMENT 'Business unit',
    asked_at DateTime64(6, 'UTC') COMMENT 'When it was asked for',
    is_whole Bool COMMENT 'Whether all of the request was erased, or only feedback on it',
    rows Array(Tuple(topic LowCardinality(String), partition Int64, offset Int64))
        COMMENT 'Rows whose content was erased',
    dataset_ids Array(String) COMMENT 'Datasets that held the request',
    candidate_ids Array(String) COMMENT 'Specialists that learned from it or were measured by it: to be made anew',
    asked_by LowCardinality(String) COMMENT 'Who had it erased',
    partition UInt32 COMMENT 'Kafka partition of its record',
    offset UInt64 COMMENT 'Kafka offset of its record',
    hash String COMMENT 'Hash of its record in the chain, in hexadecimal'
)
AS SELECT
    request_id, erasure_id, tenant, asked_at, is_whole, rows, dataset_ids, candidate_ids, asked_by,
    _partition AS partition, _offset AS offset, lower(hex(_hash)) AS hash
FROM gyre.audit_erasures_v1
WHERE _error = ''
COMMENT 'What was erased, and what had learned from it';

CREATE OR REPLACE VIEW gyre.retraining
(
    candidate_id String COMMENT 'Specialist',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What it is for',
    dataset_id String COMMENT 'Dataset it was made from',
    learned_from UInt64 COMMENT 'Erased requests that it learned from',
    measured_on UInt64 COMMENT 'Erased requests that it was measured on',
    asked_at DateTime64(6, 'UTC') COMMENT 'When the last of them was erased'
)
AS SELECT
    candidate_id, tenant, task, dataset_id,
    uniqExactIf(request_id, is_training) AS learned_from,
    uniqExactIf(request_id, NOT is_training) AS measured_on,
    max(erasures.asked_at) AS asked_at
FROM (
    SELECT candidate_id, tenant, task, dataset_id, true AS is_training, arrayJoin(training_request_ids) AS request_id
    FROM gyre.candidates
    UNION ALL
    SELECT candidate_id, tenant, task, dataset_id, false AS is_training, arrayJoin(holdout_request_ids) AS request_id
    FROM gyre.candidates
) AS uses
INNER JOIN (SELECT request_id, asked_at FROM gyre.erasures WHERE is_whole) AS erasures USING (request_id)
GROUP BY candidate_id, tenant, task, dataset_id
COMMENT 'Specialists that know something that was erased, and want to be made anew';

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
