-- How well experts judge, by what, and what came of it.

CREATE OR REPLACE VIEW gyre.guidelines
(
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the requests are for',
    version String COMMENT 'Version that labels name: the beginning of the text\'s SHA-256',
    text String COMMENT 'What experts were to hold answers to',
    since DateTime64(6, 'UTC') COMMENT 'When a bundle with it was first published',
    until DateTime64(6, 'UTC') COMMENT 'When a bundle with it was last published'
)
AS SELECT
    tenant, task, substring(lower(hex(SHA256(text))), 1, 12) AS version, text,
    min(published_at) AS since, max(published_at) AS until
FROM (
    SELECT
        published_at, each.1 AS task, JSONExtractString(each.2, 'tenant') AS tenant,
        JSONExtractString(each.2, 'guideline') AS text
    FROM gyre.governance_bundles_v1
    ARRAY JOIN JSONExtractKeysAndValuesRaw(content, 'tasks') AS each
    WHERE _error = ''
)
WHERE text != ''
GROUP BY tenant, task, text
COMMENT 'Each text of each guideline that bundles have had';

CREATE OR REPLACE VIEW gyre.checks
(
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the request is for',
    request_id String COMMENT 'Id of the request',
    expert LowCardinality(String) COMMENT 'Who judged',
    is_gold Bool COMMENT 'Whether what is right was known when the expert was asked',
    labelled_at DateTime64(6, 'UTC') COMMENT 'When the expert judged',
    outcome LowCardinality(String) COMMENT 'What the expert found: confirmed, corrected or unsafe',
    expected LowCardinality(String) COMMENT 'What the labels of the request come to',
    state LowCardinality(String) COMMENT 'agreed (by two experts or more) or adjudicated (a lead decided)',
    is_right Bool COMMENT 'Whether both are the same, and of a function call the call as well'
)
AS WITH
    settled AS (
        SELECT states.tenant, states.task, states.request_id, states.state, states.outcome AS expected, known.answer
        FROM gyre.label_states AS states
        INNER JOIN (
            SELECT label_id, any(answer) AS answer FROM gyre.labels
            WHERE outcome IN ('confirmed', 'corrected', 'unsafe')
            GROUP BY label_id
        ) AS known USING (label_id)
        WHERE states.state IN ('agreed', 'adjudicated')
    ),
    -- Of each expert the newest; of gold the first, also where it was taken back: by then they may know that it is gold.
    said AS (
        SELECT
            tenant, task, request_id, expert, is_gold, if(is_gold, argMin(judged, age), argMax(judged, age)) AS judgement,
            if(is_gold, min(age), max(age)).1 AS labelled_at
        FROM (
            SELECT
                tenant, task, request_id, expert, kind = 'gold' AS is_gold, (toString(outcome), answer) AS judged,
                (labels.labelled_at, label_id) AS age
            FROM gyre.labels AS labels
            WHERE outcome IN ('confirmed', 'corrected', 'unsafe') AND kind != 'adjudication'
                AND (kind = 'gold' OR label_id NOT IN (SELECT label_id FROM gyre.labels WHERE outcome = 'retracted'))
        )
        GROUP BY tenant, task, request_id, expert, is_gold
    )
SELECT
    tenant, task, request_id, expert, is_gold, labelled_at, judgement.1 AS outcome, expected, state,
    [judgement.2, settled.answer] AS both,
    arrayMap(each -> trimBoth(replaceRegexpAll(caseFoldUTF8(normalizeUTF8NFKC(each)), '\\s+', ' ')), both) AS normalised,
    -- Calls are the same as in gyre.label_states. How a text is worded is the expert's own.
    outcome = expected AND (
        NOT arrayAll(each -> JSONHas(each, 'name') AND JSONHas(each, 'arguments'), both)
        OR arrayUniq(arrayMap(
            (each, text) -> (
                JSONExtractString(each, 'name'),
                ifNull(toString(accurateCastOrNull(text, 'JSON(max_dynamic_paths=0)')), text)
            ),
            both, normalised
        )) = 1
    ) AS is_right
FROM said
INNER JOIN settled USING (tenant, task, request_id)
COMMENT 'What experts judged, beside what the labels of the same request come to where that is settled';

CREATE OR REPLACE VIEW gyre.contributions
(
    expert LowCardinality(String) COMMENT 'Who judged',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the specialist is for',
    candidate_id String COMMENT 'Specialist',
    labels UInt64 COMMENT 'Requests that it learned from, and that this expert had judged by then',
    learned_from UInt64 COMMENT 'Requests that it learned from in all',
    decided_at DateTime64(6, 'UTC') COMMENT 'When the gate had decided',
    verdict LowCardinality(String) COMMENT 'promote or refuse',
    live_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When it first went live; null if it never did',
    incumbent_accuracy Float64 COMMENT 'Share of the held-out labels that was right before',
    candidate_accuracy Float64 COMMENT 'Share of them that is right with it',
    gain Float64 COMMENT 'Difference of the two',
    gain_low Float64 COMMENT 'Lower end of the confidence interval of the gain',
    gain_high Float64 COMMENT 'Upper end of the confidence interval of the gain'
)
AS SELECT
    judged.expert AS expert, gates.tenant AS tenant, gates.task AS task, gates.candidate_id AS candidate_id,
    uniqExact(learned.request_id) AS labels, any(learned.learned_from) AS learned_from, any(gates.decided_at) AS decided_at,
    any(gates.verdict) AS verdict, any(gates.live_at) AS live_at, any(gates.incumbent_accuracy) AS incumbent_accuracy,
    any(gates.candidate_accuracy) AS candidate_accuracy, any(gates.gain) AS gain, any(gates.gain_low) AS gain_low,
    any(gates.gain_high) AS gain_high
FROM (
    SELECT candidate_id, created_at, arrayJoin(training_request_ids) AS request_id,
        length(training_request_ids) AS learned_from
    FROM gyre.candidates
) AS learned
INNER JOIN gyre.judgements AS judged ON judged.request_id = learned.request_id
INNER JOIN gyre.gates AS gates ON gates.candidate_id = learned.candidate_id
WHERE judged.labelled_at <= learned.created_at
GROUP BY expert, tenant, task, candidate_id
COMMENT 'Which specialists learned from what each expert judged, and what these gained';
