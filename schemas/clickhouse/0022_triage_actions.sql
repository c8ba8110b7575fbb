-- Every record of triage.actions.v1, in the order of its partitions.
CREATE TABLE IF NOT EXISTS gyre.triage_actions_v1
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
    action_id String COMMENT 'Id of the action',
    at DateTime64(6, 'UTC') COMMENT 'When it was done',
    expert LowCardinality(String) COMMENT 'Account; empty where nobody\'s was named',
    action LowCardinality(String)
        COMMENT 'signed-in, claimed, extended, released, submitted, skipped, escalated, undone, refused and so on',
    request_id String COMMENT 'Request whose item it is about; empty: none',
    tenant LowCardinality(String) COMMENT 'Business unit of that item',
    task LowCardinality(String) COMMENT 'What that request is for',
    detail String COMMENT 'How, or why not, in a few words',
    lease_id String COMMENT 'Of what was claimed, extended or released: under which lease',
    until Nullable(DateTime64(6, 'UTC')) COMMENT 'And until when',
    CONSTRAINT hash_follows_from_header CHECK SHA256(concat(
        'gyre.record.v1\n', _topic, '\n', toString(_partition), '\n', toString(_offset), '\n',
        toString(toUnixTimestamp64Milli(_timestamp)), '\n', lower(hex(_digest)), '\n', lower(hex(_prev_hash)), '\n'
    )) = _hash
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(_timestamp)
ORDER BY (_partition, _offset)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'What experts did, and what was refused them';

CREATE OR REPLACE VIEW gyre.review_actions
(
    action_id String COMMENT 'Id of the action',
    at DateTime64(6, 'UTC') COMMENT 'When it was done',
    expert LowCardinality(String) COMMENT 'Account; empty where nobody\'s was named',
    action LowCardinality(String)
        COMMENT 'signed-in, claimed, extended, released, submitted, skipped, escalated, undone, refused and so on',
    request_id String COMMENT 'Request whose item it is about; empty: none',
    tenant LowCardinality(String) COMMENT 'Business unit of that item',
    task LowCardinality(String) COMMENT 'What that request is for',
    detail String COMMENT 'How, or why not, in a few words',
    lease_id String COMMENT 'Of what was claimed, extended or released: under which lease',
    until Nullable(DateTime64(6, 'UTC')) COMMENT 'And until when',
    partition UInt32 COMMENT 'Kafka partition of its record',
    offset UInt64 COMMENT 'Kafka offset of its record',
    hash String COMMENT 'Hash of its record in the chain, in hexadecimal'
)
AS SELECT
    action_id, at, expert, action, request_id, tenant, task, detail, lease_id, until, _partition AS partition,
    _offset AS offset, lower(hex(_hash)) AS hash
FROM gyre.triage_actions_v1
WHERE _error = ''
COMMENT 'What experts did, and what was refused them';
