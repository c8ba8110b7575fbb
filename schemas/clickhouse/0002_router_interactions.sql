-- Every record of router.interactions.v1, in the order of its partitions.
CREATE TABLE IF NOT EXISTS gyre.router_interactions_v1
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
    phase LowCardinality(String) COMMENT 'opened (before the first byte of a stream) or finished',
    tenant LowCardinality(String) COMMENT 'Business unit',
    application LowCardinality(String) COMMENT 'Caller, as its key says',
    task LowCardinality(String) COMMENT 'What the request is for',
    user String COMMENT 'Person on whose behalf the application asked, as it named them',
    conversation_id String COMMENT 'Conversation the request belongs to',
    received_at DateTime64(6, 'UTC') COMMENT 'When the request came in',
    finished_at DateTime64(6, 'UTC') COMMENT 'When the answer was complete',
    streamed Bool COMMENT 'Whether the answer was streamed',
    messages Array(Tuple(
        role LowCardinality(String), content String, tool_calls Array(Tuple(id String, name
        LowCardinality(String), arguments String)), tool_call_id String
    )) CODEC(ZSTD) COMMENT 'What was asked, as the model saw it, masked',
    tools Array(Tuple(name LowCardinality(String), description String, parameters String)) CODEC(ZSTD)
        COMMENT 'Functions the model could ask for',
    language LowCardinality(String) COMMENT 'Language detected, ISO 639-1',
    truncated_tokens Int64 COMMENT 'Tokens cut off to fit the budget',
    answer String CODEC(ZSTD) COMMENT 'Text of the answer',
    tool_calls Array(Tuple(id String, name LowCardinality(String), arguments String)) CODEC(ZSTD)
        COMMENT 'Functions the model asked for',
    finish_reason LowCardinality(String) COMMENT 'stop, length, tool_calls, refused, cancelled or error',
    error String COMMENT 'Why there is no proper answer',
    model LowCardinality(String) COMMENT 'Model that answered',
    model_version LowCardinality(String) COMMENT 'Version of the model that answered',
    tier LowCardinality(String) COMMENT 'Class of model: specialist, small, large or frontier',
    candidate_id String COMMENT 'Specialist that answered, empty for a generic model',
    candidates Array(Tuple(
        model LowCardinality(String), model_version LowCardinality(String), tier LowCardinality(String), cleared
        Bool, live Bool, chosen Bool, reason String
    )) CODEC(ZSTD) COMMENT 'Models that might have answered, and why they did or did not',
    bundle_version LowCardinality(String) COMMENT 'Version of the bundle it was decided under',
    sensitivity LowCardinality(String) COMMENT 'public, internal, confidential or restricted',
    input_verdict LowCardinality(String) COMMENT 'What governance said of the request',
    output_verdict LowCardinality(String) COMMENT 'What governance said of the answer',
    findings Array(Tuple(
        direction LowCardinality(String), kind LowCardinality(String), action LowCardinality(String), text_index
        Int64, start Int64, end Int64
    )) CODEC(ZSTD) COMMENT 'What the guardrails found: where, never what',
    policies Array(LowCardinality(String)) COMMENT 'Policies that decided which models were cleared',
    citations Array(Tuple(
        document_id String, sensitivity LowCardinality(String), tokens Int64, score Float64, dropped Bool
    )) CODEC(ZSTD) COMMENT 'Documents the model was given, or that were dropped',
    memory_turns Int64 COMMENT 'Earlier turns the model was given',
    context_available Bool COMMENT 'Whether context answered in time',
    prompt_tokens Int64 COMMENT 'Tokens read by the model',
    completion_tokens Int64 COMMENT 'Tokens written by the model',
    sum_logprob Nullable(Float64) COMMENT 'Sum of the log-probabilities of the tokens written',
    mean_logprob Nullable(Float64) COMMENT 'Mean log-probability of the tokens written',
    min_logprob Nullable(Float64) COMMENT 'Lowest log-probability of a token written',
    first_token_us Int64 COMMENT 'Microseconds to the first token',
    total_us Int64 COMMENT 'Microseconds from the request until its record was sealed, before Kafka acknowledged it',
    stages Array(Tuple(name LowCardinality(String), start_us Int64, duration_us Int64)) CODEC(ZSTD)
        COMMENT 'Microseconds spent in each function of the pipeline; stages may overlap',
    CONSTRAINT hash_follows_from_header CHECK SHA256(concat(
        'gyre.record.v1\n', _topic, '\n', toString(_partition), '\n', toString(_offset), '\n',
        toString(toUnixTimestamp64Milli(_timestamp)), '\n', lower(hex(_digest)), '\n', lower(hex(_prev_hash)), '\n'
    )) = _hash,
    INDEX by_request request_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_candidate candidate_id TYPE set(100) GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(_timestamp)
ORDER BY (_partition, _offset)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'One request and its answer, with everything that was decided on the way';
