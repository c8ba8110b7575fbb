-- Columns that tables were given after they were first made. Each is also in the view of its table.
ALTER TABLE gyre.router_interactions_v1 ADD COLUMN IF NOT EXISTS releases Array(Tuple(
    start Int64, end Int64, verdict LowCardinality(String), bundle_version LowCardinality(String)
)) COMMENT 'Under which verdict, of which bundle, each part of the answer left: from code point start to before end';

ALTER TABLE gyre.router_interactions_v1 ADD COLUMN IF NOT EXISTS task_by LowCardinality(String) COMMENT 'Who said what the request is for: caller, classifier, unknown or default';

ALTER TABLE gyre.router_interactions_v1 ADD COLUMN IF NOT EXISTS cuts Array(Tuple(
    message Int64, start Int64, end Int64, tokens Int64
)) COMMENT 'What was left out to fit the budget: of which message, from code point start to before end';

ALTER TABLE gyre.context_documents_v1 ADD COLUMN IF NOT EXISTS conversation_id String COMMENT 'Conversation forgotten until then, where this is no document';

ALTER TABLE gyre.context_documents_v1 ADD COLUMN IF NOT EXISTS findings Array(Tuple(
    direction LowCardinality(String), kind LowCardinality(String), action LowCardinality(String), text_index
    Int64, start Int64, end Int64
)) COMMENT 'What the guardrails found in its title (text_index 0) and text (1): where, never what';

ALTER TABLE gyre.context_documents_v1 ADD COLUMN IF NOT EXISTS bundle_version LowCardinality(String) COMMENT 'Version of the bundle it was checked under';

ALTER TABLE gyre.router_interactions_v1 ADD COLUMN IF NOT EXISTS attempts Array(Tuple(
    model LowCardinality(String), model_version LowCardinality(String), tier LowCardinality(String), outcome
    LowCardinality(String), reason String, start_us Int64, duration_us Int64, prompt_tokens Int64,
    completion_tokens Int64, cost Float64
)) COMMENT 'Models that were asked, in this order, and what became of it: answered, failed, unsure or skipped';

ALTER TABLE gyre.router_interactions_v1 ADD COLUMN IF NOT EXISTS estimates Array(Tuple(
    model LowCardinality(String), chance Nullable(Float64), price Float64, seconds Nullable(Float64)
)) COMMENT 'What was expected of each candidate, in their order: chance of a right answer, price of this request, and seconds in which 95 of 100 of its latest answers were complete';

ALTER TABLE gyre.router_interactions_v1 ADD COLUMN IF NOT EXISTS propensity Float64 DEFAULT 1 COMMENT 'Probability with which the chosen candidate was picked';

ALTER TABLE gyre.serving_deployments_v1 ADD COLUMN IF NOT EXISTS gate_items Int64 COMMENT 'On how many requests its gate measured it';

ALTER TABLE gyre.serving_deployments_v1 ADD COLUMN IF NOT EXISTS gate_accuracy Float64 COMMENT 'Share of them that it got right';

ALTER TABLE gyre.serving_deployments_v1 ADD COLUMN IF NOT EXISTS incumbent String COMMENT 'What it was compared with: a candidate or the name of a model';

ALTER TABLE gyre.serving_deployments_v1 ADD COLUMN IF NOT EXISTS incumbent_accuracy Float64 COMMENT 'Share of them that the incumbent got right';

ALTER TABLE gyre.triage_edge_cases_v1 ADD COLUMN IF NOT EXISTS sum_logprob Nullable(Float64) COMMENT 'Sum of the log-probabilities of the answer\'s tokens';

ALTER TABLE gyre.triage_edge_cases_v1 ADD COLUMN IF NOT EXISTS findings Array(Tuple(
    direction LowCardinality(String), kind LowCardinality(String), action LowCardinality(String), text_index
    Int64, start Int64, end Int64
)) COMMENT 'What the guardrails found in the answer: where, never what';

ALTER TABLE gyre.triage_edge_cases_v1 ADD COLUMN IF NOT EXISTS citations Array(Tuple(
    document_id String, sensitivity LowCardinality(String), tokens Int64, score Float64, dropped Bool
)) COMMENT 'Documents the model was given, or that no cleared live model may see';

ALTER TABLE gyre.triage_edge_cases_v1 ADD COLUMN IF NOT EXISTS memory_turns Int64 COMMENT 'Earlier turns the model was reminded of';

ALTER TABLE gyre.triage_labels_v1 ADD COLUMN IF NOT EXISTS rating Nullable(Int64) COMMENT 'How good the model\'s answer was: 1 useless, 5 as good as can be';

ALTER TABLE gyre.trainer_candidates_v1 ADD COLUMN IF NOT EXISTS candidate_answers Array(Tuple(right Bool, sum_logprob Nullable(Float64))) COMMENT 'Of each request of the gate: whether the candidate got it right, and how likely it found its answer';

ALTER TABLE gyre.trainer_candidates_v1 ADD COLUMN IF NOT EXISTS incumbent_answers Array(Tuple(right Bool, sum_logprob Nullable(Float64))) COMMENT 'Of each request of the gate: whether the incumbent got it right, and how likely it found its answer';

ALTER TABLE gyre.serving_deployments_v1 ADD COLUMN IF NOT EXISTS candidate_answers Array(Tuple(right Bool, sum_logprob Nullable(Float64))) COMMENT 'Of each request of the gate: whether the candidate got it right, and how likely it found its answer';

ALTER TABLE gyre.serving_deployments_v1 ADD COLUMN IF NOT EXISTS incumbent_answers Array(Tuple(right Bool, sum_logprob Nullable(Float64))) COMMENT 'Of each request of the gate: whether the incumbent got it right, and how likely it found its answer';

ALTER TABLE gyre.audit_checkpoints_v1 ADD COLUMN IF NOT EXISTS tree_size Int64 COMMENT 'How many rows are covered';

ALTER TABLE gyre.audit_checkpoints_v1 ADD COLUMN IF NOT EXISTS note String COMMENT 'What was signed, with its signatures';

ALTER TABLE gyre.audit_checkpoints_v1 ADD COLUMN IF NOT EXISTS first_block Int64 COMMENT 'Number of the first of blocks';

ALTER TABLE gyre.audit_checkpoints_v1 ADD COLUMN IF NOT EXISTS blocks Array(String) COMMENT 'Roots of the blocks of 1,024 rows completed since the checkpoint before';

ALTER TABLE gyre.audit_drift_v1 ADD COLUMN IF NOT EXISTS model_version LowCardinality(String) COMMENT 'Version of the model';

ALTER TABLE gyre.audit_drift_v1 ADD COLUMN IF NOT EXISTS application LowCardinality(String) COMMENT 'Application whose objective it is; empty: a task\'s';

ALTER TABLE gyre.audit_drift_v1 ADD COLUMN IF NOT EXISTS aspect LowCardinality(String) COMMENT 'input, output, service or objective';

ALTER TABLE gyre.audit_drift_v1 ADD COLUMN IF NOT EXISTS state LowCardinality(String) DEFAULT 'detected' COMMENT 'detected; of objectives firing, then cleared';

ALTER TABLE gyre.audit_drift_v1 ADD COLUMN IF NOT EXISTS before Float64 COMMENT 'Mean of the measure until then; of names, the share of the one that moved most';

ALTER TABLE gyre.audit_drift_v1 ADD COLUMN IF NOT EXISTS after Float64 COMMENT 'The same since then';

ALTER TABLE gyre.audit_drift_v1 ADD COLUMN IF NOT EXISTS subject String COMMENT 'Of names, the one whose share moved most';

ALTER TABLE gyre.audit_drift_v1 ADD COLUMN IF NOT EXISTS requests Int64 COMMENT 'Requests seen since what is ordinary began to be learned';

ALTER TABLE gyre.triage_edge_cases_v1 ADD COLUMN IF NOT EXISTS share Float64 COMMENT 'Share of the traffic that experts were asked about then';

ALTER TABLE gyre.triage_edge_cases_v1 ADD COLUMN IF NOT EXISTS value Float64 COMMENT 'Its place in the queue: what it may tell for a minute of an expert\'s time';

ALTER TABLE gyre.triage_edge_cases_v1 ADD COLUMN IF NOT EXISTS same_as String COMMENT 'Request that this one repeats, about which experts are asked alone';

ALTER TABLE gyre.triage_labels_v1 ADD COLUMN IF NOT EXISTS question String COMMENT 'What was asked: the last user turn, masked, its beginning';

ALTER TABLE gyre.triage_labels_v1 ADD COLUMN IF NOT EXISTS model LowCardinality(String) COMMENT 'Model that answered';

ALTER TABLE gyre.triage_labels_v1 ADD COLUMN IF NOT EXISTS model_version LowCardinality(String) COMMENT 'Version of the model that answered';

ALTER TABLE gyre.triage_labels_v1 ADD COLUMN IF NOT EXISTS signals Array(Tuple(name LowCardinality(String), value Float64, explanation String)) COMMENT 'Reasons to think the answer was wrong, when experts were asked';

ALTER TABLE gyre.triage_labels_v1 ADD COLUMN IF NOT EXISTS propensity Float64 COMMENT 'Probability with which experts were asked; 0: by no chance of triage\'s';

ALTER TABLE gyre.triage_labels_v1 ADD COLUMN IF NOT EXISTS share Float64 COMMENT 'Share of the traffic that experts were asked about then';

ALTER TABLE gyre.triage_edge_cases_v1 ADD COLUMN IF NOT EXISTS imported Bool COMMENT 'Labelled elsewhere, so nobody was to be asked about it';

ALTER TABLE gyre.triage_labels_v1 ADD COLUMN IF NOT EXISTS kind LowCardinality(String) DEFAULT 'first' COMMENT 'first, overlap, adjudication, gold or imported';

ALTER TABLE gyre.triage_labels_v1 ADD COLUMN IF NOT EXISTS guideline_version LowCardinality(String) COMMENT 'Version of the guideline that the expert had before them';

ALTER TABLE gyre.triage_edge_cases_v1 ADD COLUMN IF NOT EXISTS overlap Bool COMMENT 'A second expert is to judge it as well';

ALTER TABLE gyre.triage_labels_v1 ADD COLUMN IF NOT EXISTS sum_logprob Nullable(Float64) COMMENT 'Sum of the log-probabilities of the answer\'s tokens';

ALTER TABLE gyre.triage_labels_v1 ADD COLUMN IF NOT EXISTS turns Int64 COMMENT 'Messages that were asked, in all';

ALTER TABLE gyre.triage_labels_v1 ADD COLUMN IF NOT EXISTS tools Int64 COMMENT 'Functions that were offered';

ALTER TABLE gyre.router_interactions_v1 ADD COLUMN IF NOT EXISTS name_logprob Nullable(Float64) COMMENT 'Log-probability of the beginning of a call, up to its arguments: of which function it is';

ALTER TABLE gyre.trainer_candidates_v1 ADD COLUMN IF NOT EXISTS latency_ms Float64 COMMENT '95 of 100 answers to the gate were complete by then';

ALTER TABLE gyre.trainer_candidates_v1 ADD COLUMN IF NOT EXISTS incumbent_latency_ms Float64 COMMENT 'The same of the incumbent';

ALTER TABLE gyre.trainer_candidates_v1 ADD COLUMN IF NOT EXISTS cost_of_thousand Float64 COMMENT 'What a thousand answers cost, by the prices of the bundle';

ALTER TABLE gyre.trainer_candidates_v1 ADD COLUMN IF NOT EXISTS incumbent_cost_of_thousand Float64 COMMENT 'The same of the incumbent';

ALTER TABLE gyre.trainer_candidates_v1 ADD COLUMN IF NOT EXISTS report_sha256 String COMMENT 'SHA-256 of the report in the run\'s folder, in hexadecimal';

ALTER TABLE gyre.trainer_candidates_v1 ADD COLUMN IF NOT EXISTS adapter_sha256 String COMMENT 'SHA-256 of what sha256sum prints of the adapter\'s files, in hexadecimal';

ALTER TABLE gyre.router_interactions_v1 ADD COLUMN IF NOT EXISTS temperature Float64 COMMENT 'At which tokens were drawn; 0: the likeliest were taken';

ALTER TABLE gyre.router_interactions_v1 ADD COLUMN IF NOT EXISTS canary Bool COMMENT 'Whether the specialist that answered was live for a share of the callers only';

ALTER TABLE gyre.serving_deployments_v1 ADD COLUMN IF NOT EXISTS share Float64 DEFAULT 1 COMMENT 'Of the callers of the task, the share that it answers: of a canary not all';

ALTER TABLE gyre.serving_deployments_v1 ADD COLUMN IF NOT EXISTS before Array(Tuple(
    candidate_id String, model_version LowCardinality(String), adapter_path String, system_prompt String,
    response_schema String, sensitivity LowCardinality(String)
)) COMMENT 'The specialist that was live before, if one was; the other callers of a canary are answered by it';

ALTER TABLE gyre.serving_deployments_v1 ADD COLUMN IF NOT EXISTS false_rollbacks Float64 COMMENT 'Chance at most with which serving takes it back though it is as good as before; 0: it does not';

ALTER TABLE gyre.serving_deployments_v1 ADD COLUMN IF NOT EXISTS asked_by LowCardinality(String) COMMENT 'Who had it rolled back; empty: serving decided by itself';

ALTER TABLE gyre.governance_bundles_v1 ADD COLUMN IF NOT EXISTS published_by LowCardinality(String) COMMENT 'Account that published it, and whose certificate it showed';
