-- The stable names that analysts use; docs/analysts.md shows each. Rows that could not be decoded are not in them.

CREATE OR REPLACE VIEW gyre.interactions
(
    request_id String COMMENT 'Id of the request (UUIDv7), the thread of lineage',
    state LowCardinality(String)
        COMMENT 'finished, or unfinished for a stream that was opened and has no end on record',
    tenant LowCardinality(String) COMMENT 'Business unit',
    application LowCardinality(String) COMMENT 'Caller, as its key says',
    task LowCardinality(String) COMMENT 'What the request is for',
    task_by LowCardinality(String)
        COMMENT 'Who said what the request is for: caller, classifier, unknown or default',
    user String COMMENT 'Person on whose behalf the application asked, as it named them',
    conversation_id String COMMENT 'Conversation the request belongs to',
    received_at DateTime64(6, 'UTC') COMMENT 'When the request came in',
    finished_at DateTime64(6, 'UTC') COMMENT 'When the answer was complete',
    streamed Bool COMMENT 'Whether the answer was streamed',
    temperature Float64 COMMENT 'At which tokens were drawn; 0: the likeliest were taken',
    messages Array(Tuple(
        role LowCardinality(String), content String, tool_calls Array(Tuple(id String, name
        LowCardinality(String), arguments String)), tool_call_id String
    )) COMMENT 'What was asked, as the model saw it, masked',
    tools Array(Tuple(name LowCardinality(String), description String, parameters String))
        COMMENT 'Functions the model could ask for',
    language LowCardinality(String) COMMENT 'Language detected, ISO 639-1',
    truncated_tokens Int64 COMMENT 'Tokens cut off to fit the budget',
    cuts Array(Tuple(message Int64, start Int64, end Int64, tokens Int64))
        COMMENT 'What was left out to fit the budget: of which message, from code point start to before end',
    answer String COMMENT 'Text of the answer',
    tool_calls Array(Tuple(id String, name LowCardinality(String), arguments String))
        COMMENT 'Functions the model asked for',
    finish_reason LowCardinality(String) COMMENT 'stop, length, tool_calls, refused, cancelled or error',
    error String COMMENT 'Why there is no proper answer',
    model LowCardinality(String) COMMENT 'Model that answered',
    model_version LowCardinality(String) COMMENT 'Version of the model that answered',
    tier LowCardinality(String) COMMENT 'Class of model: specialist, small, large or frontier',
    candidate_id String COMMENT 'Specialist that answered, empty for a generic model',
    canary Bool COMMENT 'Whether that specialist was live for a share of the callers only',
    candidates Array(Tuple(
        model LowCardinality(String), model_version LowCardinality(String), tier LowCardinality(String), cleared
        Bool, live Bool, chosen Bool, reason String
    )) COMMENT 'Models that might have answered, and why they did or did not',
    attempts Array(Tuple(
        model LowCardinality(String), model_version LowCardinality(String), tier LowCardinality(String), outcome
        LowCardinality(String), reason String, start_us Int64, duration_us Int64, prompt_tokens Int64,
        completion_tokens Int64, cost Float64
    )) COMMENT 'Models that were asked, in this order, and what became of it: answered, failed, unsure or skipped',
    estimates Array(Tuple(
        model LowCardinality(String), chance Nullable(Float64), price Float64, seconds Nullable(Float64)
    )) COMMENT 'What was expected of each candidate, in their order: chance of a right answer, price of this request, and seconds in which 95 of 100 of its latest answers were complete',
    propensity Float64 COMMENT 'Probability with which the chosen candidate was picked',
    bundle_version LowCardinality(String) COMMENT 'Version of the bundle it was decided under',
    sensitivity LowCardinality(String) COMMENT 'public, internal, confidential or restricted',
    input_verdict LowCardinality(String) COMMENT 'What governance said of the request',
    output_verdict LowCardinality(String) COMMENT 'What governance said of the answer',
    findings Array(Tuple(
        direction LowCardinality(String), kind LowCardinality(String), action LowCardinality(String), text_index
        Int64, start Int64, end Int64
    )) COMMENT 'What the guardrails found: where, never what',
    releases Array(Tuple(
        start Int64, end Int64, verdict LowCardinality(String), bundle_version LowCardinality(String)
    )) COMMENT 'Under which verdict, of which bundle, each part of the answer left: from code point start to before end',
    policies Array(LowCardinality(String)) COMMENT 'Policies that decided which models were cleared',
    citations Array(Tuple(
        document_id String, sensitivity LowCardinality(String), tokens Int64, score Float64, dropped Bool
    )) COMMENT 'Documents the model was given, or that were dropped',
    memory_turns Int64 COMMENT 'Earlier turns the model was given',
    context_available Bool COMMENT 'Whether context answered in time',
    prompt_tokens Int64 COMMENT 'Tokens read by the model',
    completion_tokens Int64 COMMENT 'Tokens written by the model',
    sum_logprob Nullable(Float64) COMMENT 'Sum of the log-probabilities of the tokens written',
    mean_logprob Nullable(Float64) COMMENT 'Mean log-probability of the tokens written',
    min_logprob Nullable(Float64) COMMENT 'Lowest log-probability of a token written',
    name_logprob Nullable(Float64)
        COMMENT 'Log-probability of the beginning of a call, up to its arguments: of which function it is',
    first_token_us Int64 COMMENT 'Microseconds to the first token',
    total_us Int64 COMMENT 'Microseconds from the request until its record was sealed, before Kafka acknowledged it',
    stages Array(Tuple(name LowCardinality(String), start_us Int64, duration_us Int64))
        COMMENT 'Microseconds spent in each function of the pipeline; stages may overlap',
    partition UInt32 COMMENT 'Kafka partition of its record',
    offset UInt64 COMMENT 'Kafka offset of its record',
    hash String COMMENT 'Hash of its record in the chain, in hexadecimal'
)
AS SELECT
    request_id, if(phase = 'finished', 'finished', 'unfinished') AS state, tenant, application, task, task_by, user,
    conversation_id, received_at, finished_at, streamed, temperature, messages, tools, language, truncated_tokens, cuts,
    answer, tool_calls, finish_reason, error, model, model_version, tier, candidate_id, canary, candidates,
    attempts, estimates, propensity, bundle_version, sensitivity, input_verdict, output_verdict, findings, releases, policies,
    citations, memory_turns, context_available, prompt_tokens, completion_tokens, sum_logprob, mean_logprob, min_logprob,
    name_logprob, first_token_us, total_us, stages, _partition AS partition, _offset AS offset, lower(hex(_hash)) AS hash
FROM gyre.router_interactions_v1
WHERE _error = ''
    AND (
        phase = 'finished'
        -- Found ahead, as one value, so that only the rows of the answer are read whole. That among ten million streams
        -- two share a hash, which would hide one, has a chance of three in a million.
        OR bitmapContains(
            (
                SELECT groupBitmapState(stream)
                FROM (
                    SELECT cityHash64(request_id) AS stream
                    FROM gyre.router_interactions_v1
                    WHERE _error = '' AND streamed
                    GROUP BY stream
                    HAVING min(phase) = 'opened'
                )
            ),
            cityHash64(request_id)
        )
    )
COMMENT 'One row per request: its answer and everything that was decided on the way';

CREATE OR REPLACE VIEW gyre.feedback
(
    feedback_id String COMMENT 'Id of the feedback',
    request_id String COMMENT 'Id of the request (UUIDv7), the thread of lineage',
    tenant LowCardinality(String) COMMENT 'Business unit',
    application LowCardinality(String) COMMENT 'Caller, as its key says',
    given_at DateTime64(6, 'UTC') COMMENT 'When it was given',
    source LowCardinality(String) COMMENT 'explicit or implicit',
    kind LowCardinality(String) COMMENT 'rating, edit, correct_answer, outcome or asked_again',
    rating Nullable(Float64) COMMENT 'Rating, where one was given',
    text String COMMENT 'Text given: the edit or the correct answer',
    comment String COMMENT 'Comment in free text',
    user String COMMENT 'Person on whose behalf the application asked, as it named them',
    partition UInt32 COMMENT 'Kafka partition of its record',
    offset UInt64 COMMENT 'Kafka offset of its record',
    hash String COMMENT 'Hash of its record in the chain, in hexadecimal'
)
AS SELECT
    feedback_id, request_id, tenant, application, given_at, source, kind, rating, text, comment, user,
    _partition AS partition, _offset AS offset, lower(hex(_hash)) AS hash
FROM gyre.router_feedback_v1
WHERE _error = ''
COMMENT 'What people and systems had to say of earlier answers';

CREATE OR REPLACE VIEW gyre.edge_cases
(
    request_id String COMMENT 'Id of the request (UUIDv7), the thread of lineage',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the request is for',
    flagged_at DateTime64(6, 'UTC') COMMENT 'When triage flagged the request',
    score Float64 COMMENT 'How likely the answer is wrong, by triage',
    threshold Float64 COMMENT 'Score from which requests were flagged then',
    explored Bool COMMENT 'Picked at random, not for its score',
    propensity Float64 COMMENT 'Probability with which it was picked',
    share Float64 COMMENT 'Share of the traffic that experts were asked about then',
    value Float64 COMMENT 'Its place in the queue: what it may tell for a minute of an expert\'s time',
    overlap Bool COMMENT 'A second expert is to judge it as well',
    signals Array(Tuple(name LowCardinality(String), value Float64, explanation String))
        COMMENT 'Reasons to think the answer was wrong',
    messages Array(Tuple(
        role LowCardinality(String), content String, tool_calls Array(Tuple(id String, name
        LowCardinality(String), arguments String)), tool_call_id String
    )) COMMENT 'What was asked, as the model saw it, masked',
    tools Array(Tuple(name LowCardinality(String), description String, parameters String))
        COMMENT 'Functions the model could ask for',
    answer String COMMENT 'What the model answered',
    model LowCardinality(String) COMMENT 'Model that answered',
    model_version LowCardinality(String) COMMENT 'Version of the model that answered',
    sum_logprob Nullable(Float64) COMMENT 'Sum of the log-probabilities of the answer\'s tokens',
    sensitivity LowCardinality(String) COMMENT 'public, internal, confidential or restricted',
    bundle_version LowCardinality(String) COMMENT 'Version of the bundle it was decided under',
    findings Array(Tuple(
        direction LowCardinality(String), kind LowCardinality(String), action LowCardinality(String), text_index
        Int64, start Int64, end Int64
    )) COMMENT 'What the guardrails found in the answer: where, never what',
    citations Array(Tuple(
        document_id String, sensitivity LowCardinality(String), tokens Int64, score Float64, dropped Bool
    )) COMMENT 'Documents the model was given, or that no cleared live model may see',
    memory_turns Int64 COMMENT 'Earlier turns the model was reminded of',
    imported Bool COMMENT 'Labelled elsewhere, so nobody was to be asked about it',
    partition UInt32 COMMENT 'Kafka partition of its record',
    offset UInt64 COMMENT 'Kafka offset of its record',
    hash String COMMENT 'Hash of its record in the chain, in hexadecimal'
)
AS SELECT
    request_id, tenant, task, flagged_at, score, threshold, explored, propensity, share, value, overlap, signals,
    messages, tools, answer, model, model_version, sum_logprob, sensitivity, bundle_version, findings, citations,
    memory_turns, imported,
    _partition AS partition, _offset AS offset, lower(hex(_hash)) AS hash
FROM gyre.triage_edge_cases_v1
WHERE _error = '' AND same_as = ''
COMMENT 'Requests that triage found worth an expert\'s time, and those whose labels were imported';

CREATE OR REPLACE VIEW gyre.repeated_requests
(
    request_id String COMMENT 'Id of the request (UUIDv7), the thread of lineage',
    same_as String COMMENT 'The request that it repeats, about which experts are asked alone',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the request is for',
    flagged_at DateTime64(6, 'UTC') COMMENT 'When triage flagged the request',
    score Float64 COMMENT 'How likely the answer is wrong, by triage',
    partition UInt32 COMMENT 'Kafka partition of its record',
    offset UInt64 COMMENT 'Kafka offset of its record',
    hash String COMMENT 'Hash of its record in the chain, in hexadecimal'
)
AS SELECT
    request_id, same_as, tenant, task, flagged_at, score, _partition AS partition, _offset AS offset,
    lower(hex(_hash)) AS hash
FROM gyre.triage_edge_cases_v1
WHERE _error = '' AND same_as != ''
COMMENT 'Requests that were worth an expert\'s time and are asked about already';

CREATE OR REPLACE VIEW gyre.labels
(
    label_id String COMMENT 'Id of the label',
    request_id String COMMENT 'Id of the request (UUIDv7), the thread of lineage',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the request is for',
    expert LowCardinality(String) COMMENT 'Who answered',
    labelled_at DateTime64(6, 'UTC') COMMENT 'When the expert answered',
    outcome LowCardinality(String)
        COMMENT 'confirmed, corrected, unsafe, skipped, escalated, or retracted: it takes the label of its id back',
    kind LowCardinality(String) COMMENT 'first, overlap, adjudication, gold or imported',
    answer String COMMENT 'The right answer, when confirmed or corrected',
    model_answer String COMMENT 'What the model had answered',
    delta Array(Tuple(start Int64, end Int64, text String))
        COMMENT 'Steps from what the model said to what was wanted',
    distance Float64 COMMENT '0 the same, 1 nothing in common',
    comment String COMMENT 'Comment in free text',
    seconds_spent Float64 COMMENT 'Seconds the expert took',
    rating Nullable(Int64) COMMENT 'How good the model\'s answer was: 1 useless, 5 as good as can be',
    question String COMMENT 'What was asked: the last user turn, masked, its beginning',
    sensitivity LowCardinality(String) COMMENT 'public, internal, confidential or restricted',
    guideline_version LowCardinality(String) COMMENT 'Version of the guideline that the expert had before them',
    bundle_version LowCardinality(String) COMMENT 'Version of the bundle it was decided under',
    model LowCardinality(String) COMMENT 'Model that answered',
    model_version LowCardinality(String) COMMENT 'Version of the model that answered',
    sum_logprob Nullable(Float64) COMMENT 'Sum of the log-probabilities of the answer\'s tokens',
    turns Int64 COMMENT 'Messages that were asked, in all',
    tools Int64 COMMENT 'Functions that were offered',
    signals Array(Tuple(name LowCardinality(String), value Float64, explanation String))
        COMMENT 'Reasons to think the answer was wrong, when experts were asked',
    propensity Float64 COMMENT 'Probability with which experts were asked; 0: by no chance of triage\'s',
    share Float64 COMMENT 'Share of the traffic that experts were asked about then',
    partition UInt32 COMMENT 'Kafka partition of its record',
    offset UInt64 COMMENT 'Kafka offset of its record',
    hash String COMMENT 'Hash of its record in the chain, in hexadecimal'
)
AS SELECT
    label_id, request_id, tenant, task, expert, labelled_at, outcome, kind, answer, model_answer, delta, distance,
    comment, seconds_spent, rating, sensitivity, guideline_version, bundle_version, question, model, model_version,
    sum_logprob, turns, tools, signals, propensity, share, _partition AS partition, _offset AS offset,
    lower(hex(_hash)) AS hash
FROM gyre.triage_labels_v1
WHERE _error = ''
COMMENT 'Every record of what experts said of edge cases; gyre.judgements has what stands of it';

CREATE OR REPLACE VIEW gyre.judgements
(
    label_id String COMMENT 'Id of the label',
    request_id String COMMENT 'Id of the request (UUIDv7), the thread of lineage',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the request is for',
    expert LowCardinality(String) COMMENT 'Who answered',
    labelled_at DateTime64(6, 'UTC') COMMENT 'When the expert answered',
    outcome LowCardinality(String) COMMENT 'confirmed, corrected or unsafe',
    kind LowCardinality(String) COMMENT 'first, overlap, adjudication or imported',
    answer String COMMENT 'The right answer, when confirmed or corrected',
    model_answer String COMMENT 'What the model had answered',
    distance Float64 COMMENT '0 the same, 1 nothing in common',
    comment String COMMENT 'Comment in free text',
    seconds_spent Float64 COMMENT 'Seconds the expert took',
    sensitivity LowCardinality(String) COMMENT 'public, internal, confidential or restricted',
    guideline_version LowCardinality(String) COMMENT 'Version of the guideline that the expert had before them',
    bundle_version LowCardinality(String) COMMENT 'Version of the bundle it was decided under',
    hash String COMMENT 'Hash of its record in the chain, in hexadecimal'
)
AS SELECT
    label_id, request_id, tenant, task, expert, labelled_at, outcome, kind, answer, model_answer, distance, comment,
    seconds_spent, sensitivity, guideline_version, bundle_version, hash
FROM gyre.labels
WHERE outcome IN ('confirmed', 'corrected', 'unsafe') AND kind != 'gold'
    AND label_id NOT IN (SELECT label_id FROM gyre.labels WHERE outcome = 'retracted')
LIMIT 1 BY label_id
COMMENT 'What stands of what experts said of models: each label once, without gold questions and what was taken back';

CREATE OR REPLACE VIEW gyre.candidates
(
    candidate_id String COMMENT 'Id of the candidate',
    run_id String COMMENT 'Training run',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the request is for',
    created_at DateTime64(6, 'UTC') COMMENT 'When the gate had decided',
    verdict LowCardinality(String) COMMENT 'promote or refuse',
    reasons Array(String) COMMENT 'Why the gate decided so',
    base_model LowCardinality(String) COMMENT 'Model the adapter belongs to',
    adapter_path String COMMENT 'Folder of the adapter, relative to the artifacts folder',
    system_prompt String COMMENT 'System prompt the specialist is asked with',
    response_schema String COMMENT 'JSON Schema that answers are held to',
    dataset_id String COMMENT 'Dataset it learned from',
    training_request_ids Array(String) COMMENT 'Requests whose labels it learned from',
    holdout_request_ids Array(String) COMMENT 'Requests it was measured on',
    incumbent String COMMENT 'What it was compared with',
    candidate_accuracy Float64 COMMENT 'Share of the hold-out it got right',
    incumbent_accuracy Float64 COMMENT 'Share of the hold-out the incumbent got right',
    candidate_answers Array(Tuple(right Bool, sum_logprob Nullable(Float64)))
        COMMENT 'Of each request of the gate: whether the candidate got it right, and how likely it found its answer',
    incumbent_answers Array(Tuple(right Bool, sum_logprob Nullable(Float64)))
        COMMENT 'Of each request of the gate: whether the incumbent got it right, and how likely it found its answer',
    gain Float64 COMMENT 'Difference of the two',
    gain_low Float64 COMMENT 'Lower end of the confidence interval of the gain',
    gain_high Float64 COMMENT 'Upper end of the confidence interval of the gain',
    confidence Float64 COMMENT 'Confidence level of the interval',
    latency_ms Float64 COMMENT '95 of 100 answers to the gate were complete by then',
    incumbent_latency_ms Float64 COMMENT 'The same of the incumbent',
    cost_of_thousand Float64 COMMENT 'What a thousand answers cost, by the prices of the bundle',
    incumbent_cost_of_thousand Float64 COMMENT 'The same of the incumbent',
    report_sha256 String COMMENT 'SHA-256 of the report in the run\'s folder, in hexadecimal',
    adapter_sha256 String COMMENT 'SHA-256 of what sha256sum prints of the adapter\'s files, in hexadecimal',
    training_tokens Int64 COMMENT 'Tokens trained on',
    training_seconds Float64 COMMENT 'Seconds of training',
    sensitivity LowCardinality(String) COMMENT 'Highest sensitivity of what it learned from',
    bundle_version LowCardinality(String) COMMENT 'Version of the bundle it was decided under',
    partition UInt32 COMMENT 'Kafka partition of its record',
    offset UInt64 COMMENT 'Kafka offset of its record',
    hash String COMMENT 'Hash of its record in the chain, in hexadecimal'
)
AS SELECT
    candidate_id, run_id, tenant, task, created_at, verdict, reasons, base_model, adapter_path, system_prompt,
    response_schema, dataset_id, training_request_ids, holdout_request_ids, incumbent, candidate_accuracy,
    incumbent_accuracy, candidate_answers, incumbent_answers, gain, gain_low, gain_high, confidence, latency_ms,
    incumbent_latency_ms, cost_of_thousand, incumbent_cost_of_thousand, report_sha256, adapter_sha256, training_tokens,
    training_seconds, sensitivity, bundle_version, _partition AS partition, _offset AS offset, lower(hex(_hash)) AS hash
FROM gyre.trainer_candidates_v1
WHERE _error = ''
COMMENT 'Training runs: each candidate, what it learned from, and what the gate said';

CREATE OR REPLACE VIEW gyre.deployments
(
    task_key String COMMENT 'tenant/task',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the request is for',
    deployment_id String COMMENT 'Id of the deployment',
    state LowCardinality(String) COMMENT 'live or none',
    candidate_id String COMMENT 'Candidate that is deployed',
    model LowCardinality(String) COMMENT 'Triton model that serves it',
    model_version LowCardinality(String) COMMENT 'Version of the Triton model',
    adapter_path String COMMENT 'Folder of the adapter, relative to the artifacts folder',
    system_prompt String COMMENT 'System prompt the specialist is asked with',
    response_schema String COMMENT 'JSON Schema that answers are held to',
    sensitivity LowCardinality(String) COMMENT 'public, internal, confidential or restricted',
    deployed_at DateTime64(6, 'UTC') COMMENT 'When it was decided',
    reason String COMMENT 'Why it was decided',
    previous Array(String) COMMENT 'Deployments it replaced, newest last',
    gate_items Int64 COMMENT 'On how many requests its gate measured it',
    gate_accuracy Float64 COMMENT 'Share of them that it got right',
    incumbent String COMMENT 'What it was compared with: a candidate or the name of a model',
    incumbent_accuracy Float64 COMMENT 'Share of them that the incumbent got right',
    candidate_answers Array(Tuple(right Bool, sum_logprob Nullable(Float64)))
        COMMENT 'Of each request of the gate: whether the candidate got it right, and how likely it found its answer',
    incumbent_answers Array(Tuple(right Bool, sum_logprob Nullable(Float64)))
        COMMENT 'Of each request of the gate: whether the incumbent got it right, and how likely it found its answer',
    share Float64 COMMENT 'Of the callers of the task, the share that it answers: of a canary not all',
    before Array(Tuple(candidate_id String, model_version LowCardinality(String), adapter_path String,
        system_prompt String, response_schema String, sensitivity LowCardinality(String)))
        COMMENT 'The specialist that was live before, if one was; the other callers of a canary are answered by it',
    false_rollbacks Float64
        COMMENT 'Chance at most with which serving takes it back though it is as good as before; 0: it does not',
    asked_by LowCardinality(String) COMMENT 'Who had it rolled back; empty: serving decided by itself',
    partition UInt32 COMMENT 'Kafka partition of its record',
    offset UInt64 COMMENT 'Kafka offset of its record',
    hash String COMMENT 'Hash of its record in the chain, in hexadecimal'
)
AS SELECT
    task_key, tenant, task, deployment_id, state, candidate_id, model, model_version, adapter_path,
    system_prompt, response_schema, sensitivity, deployed_at, reason, previous, gate_items, gate_accuracy, incumbent,
    incumbent_accuracy, candidate_answers, incumbent_answers, share, before, false_rollbacks, asked_by,
    _partition AS partition, _offset AS offset, lower(hex(_hash)) AS hash
FROM gyre.serving_deployments_v1
WHERE _error = ''
COMMENT 'What was wanted live for each task of each tenant, over time';

CREATE OR REPLACE VIEW gyre.drift
(
    task_key String COMMENT 'tenant/task',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the requests are for; empty: of all the tenant\'s, or of an application\'s',
    application LowCardinality(String) COMMENT 'Application whose objective it is; empty: a task\'s',
    model LowCardinality(String) COMMENT 'Model whose answers changed; empty: whichever answered',
    model_version LowCardinality(String) COMMENT 'Version of the model',
    aspect LowCardinality(String) COMMENT 'input, output, service or objective',
    measure LowCardinality(String) COMMENT 'What was measured',
    state LowCardinality(String) COMMENT 'detected; of objectives firing, then cleared',
    subject String COMMENT 'Where the measure\'s values are names, the one whose share moved most',
    before Float64 COMMENT 'Mean of the measure until then, or that name\'s share; of objectives what is promised',
    after Float64 COMMENT 'The same since then; of objectives what was kept over the long window',
    requests Int64 COMMENT 'Seen since what is ordinary began to be learned; of objectives in the long window',
    method LowCardinality(String) COMMENT 'How the change was tested',
    statistic Float64 COMMENT 'Value of the test',
    threshold Float64 COMMENT 'Value from which it is drift',
    window_start DateTime64(6, 'UTC') COMMENT 'From when on, probably; of objectives where the long window begins',
    detected_at DateTime64(6, 'UTC') COMMENT 'Time of the request that it showed at',
    partition UInt32 COMMENT 'Kafka partition of its record',
    offset UInt64 COMMENT 'Kafka offset of its record',
    hash String COMMENT 'Hash of its record in the chain, in hexadecimal'
)
AS SELECT
    task_key, tenant, task, application, model, model_version, aspect, measure, state, subject, before, after, requests,
    method, statistic, threshold, window_start, detected_at, _partition AS partition, _offset AS offset,
    lower(hex(_hash)) AS hash
FROM gyre.audit_drift_v1
WHERE _error = ''
COMMENT 'What changed in requests, answers and service, and objectives that were missed';
