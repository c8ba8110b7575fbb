-- What one request led to, and where its answer came from. Ask for one request at a time.
CREATE OR REPLACE VIEW gyre.lineage
(
    request_id String COMMENT 'Id of the request whose lineage this is',
    direction LowCardinality(String)
        COMMENT 'origin (where its answer came from), itself, or consequence (what it led to)',
    kind LowCardinality(String)
        COMMENT 'interaction, feedback, edge case, label, dataset, adapter, gate, deployment, later answers or erasure',
    id String COMMENT 'Id of that step',
    at DateTime64(6, 'UTC') COMMENT 'When it happened',
    summary String COMMENT 'What happened, in words',
    hash String COMMENT 'Hash of its record in the chain, in hexadecimal; empty for later answers, which are many'
)
AS WITH
    uses AS (
        SELECT arrayJoin(training_request_ids) AS request_id, 'consequence' AS direction, 'learned from it' AS part,
            candidate_id, created_at, dataset_id, adapter_path, base_model, verdict, gain, gain_low, gain_high, hash,
            length(training_request_ids) AS learned_from, length(holdout_request_ids) AS measured_on
        FROM gyre.candidates
        UNION ALL
        SELECT arrayJoin(holdout_request_ids), 'consequence', 'was measured on it',
            candidate_id, created_at, dataset_id, adapter_path, base_model, verdict, gain, gain_low, gain_high, hash,
            length(training_request_ids), length(holdout_request_ids)
        FROM gyre.candidates
        UNION ALL
        SELECT answers.request_id, 'origin', 'gave the answer',
            candidate_id, created_at, dataset_id, adapter_path, base_model, verdict, gain, gain_low, gain_high,
            candidates.hash, length(training_request_ids), length(holdout_request_ids)
        FROM gyre.candidates AS candidates
        INNER JOIN (
            SELECT request_id, candidate_id FROM gyre.interactions WHERE candidate_id != ''
        ) AS answers USING (candidate_id)
    ),
    answered AS (
        SELECT candidate_id, min(finished_at) AS first_at, max(finished_at) AS last_at,
            uniqExact(cityHash64(request_id)) AS answers
        FROM gyre.interactions
        WHERE candidate_id != ''
        GROUP BY candidate_id
    )
SELECT request_id, 'itself' AS direction, 'interaction' AS kind, request_id AS id, finished_at AS at,
    concat(task, ' of ', tenant, ', ', if(state = 'finished', finish_reason, 'unfinished'), ', by ',
        if(model = '', 'no model', concat(model, ' ', model_version))) AS summary, hash
FROM gyre.interactions
UNION ALL
SELECT request_id, 'consequence', 'feedback', feedback_id, given_at,
    concat(source, ' ', kind, ifNull(concat(' ', toString(rating)), '')), hash
FROM gyre.feedback
UNION ALL
SELECT request_id, 'consequence', 'edge case', request_id, flagged_at,
    concat('score ', toString(round(score, 3)), if(explored, ', picked at random', ''), ': ',
        arrayStringConcat(signals.name, ', ')), hash
FROM gyre.edge_cases
UNION ALL
SELECT request_id, 'consequence', 'label', label_id, labelled_at,
    concat(outcome, ' by ', expert, if(kind = 'first', '', concat(' (', kind, ')'))), hash
FROM gyre.labels
UNION ALL
SELECT request_id, direction, step.1 AS kind, step.2 AS id, created_at, step.3 AS summary, hash
FROM uses
ARRAY JOIN [
    ('dataset', dataset_id, concat(toString(learned_from), ' requests to learn from, ', toString(measured_on),
        ' to be measured on')),
    ('adapter', candidate_id, concat(part, ': ', adapter_path, ' on ', base_model)),
    ('gate', candidate_id, concat(verdict, ', gain ', toString(round(gain, 3)), ' (', toString(round(gain_low, 3)),
        ' to ', toString(round(gain_high, 3)), ')'))
] AS step
UNION ALL
SELECT request_id, direction, 'deployment', deployment_id, deployed_at,
    concat(state, ' as ', model, ' ', model_version, ': ', reason), deployments.hash
FROM uses
INNER JOIN gyre.deployments AS deployments USING (candidate_id)
UNION ALL
SELECT request_id, direction, 'later answers', candidate_id, first_at,
    concat(toString(answers), ' requests answered until ', toString(last_at)), ''
FROM uses
INNER JOIN answered USING (candidate_id)
UNION ALL
SELECT request_id, 'consequence', 'erasure', erasure_id, asked_at,
    concat(toString(length(rows)), ' rows emptied', if(empty(candidate_ids), '',
        concat('; to be made anew: ', arrayStringConcat(candidate_ids, ', ')))), hash
FROM gyre.erasures
COMMENT 'What a request led to and where its answer came from: filter by request_id, order by at';

CREATE OR REPLACE VIEW gyre.taught
(
    label_id String COMMENT 'Id of the label',
    labelled_request_id String COMMENT 'Request that was labelled',
    candidate_id String COMMENT 'Specialist that learned from it',
    request_id String COMMENT 'Request that the specialist has answered since',
    at DateTime64(6, 'UTC') COMMENT 'When it was answered',
    summary String COMMENT 'What happened, in words',
    hash String COMMENT 'Hash of the answer\'s record in the chain, in hexadecimal'
)
AS SELECT
    label_id, labels.request_id AS labelled_request_id, candidate_id, answers.request_id AS request_id,
    answers.finished_at AS at, concat('answered by ', answers.model, ' ', answers.model_version) AS summary,
    answers.hash AS hash
FROM (
    -- What was taken back has taught those who learned from it before.
    SELECT label_id, request_id, minIf(labelled_at, outcome = 'retracted') AS retracted_at,
        countIf(outcome = 'retracted') = 0 AS stands
    FROM gyre.labels
    WHERE outcome IN ('confirmed', 'corrected', 'retracted') AND kind != 'gold'
    GROUP BY label_id, request_id
    HAVING countIf(outcome != 'retracted') > 0
) AS labels
INNER JOIN (
    SELECT candidate_id, created_at, arrayJoin(training_request_ids) AS request_id FROM gyre.candidates
) AS learned ON learned.request_id = labels.request_id
INNER JOIN gyre.interactions AS answers ON answers.candidate_id = learned.candidate_id
WHERE stands OR created_at < retracted_at
COMMENT 'From a label to the answers that specialists have given since they learned from it: filter by label_id';
