-- What analysts would otherwise work out of the rows themselves. What is per minute, day or model comes from the rollups.

CREATE OR REPLACE VIEW gyre.minutes
(
    minute DateTime('UTC') COMMENT 'Minute in which the requests came in; of what could not be decoded, in which Kafka got it',
    tenant LowCardinality(String) COMMENT 'Business unit',
    application LowCardinality(String) COMMENT 'Caller, as its key says',
    task LowCardinality(String) COMMENT 'What the requests are for',
    model LowCardinality(String) COMMENT 'Model that answered',
    model_version LowCardinality(String) COMMENT 'Version of the model that answered',
    tier LowCardinality(String) COMMENT 'Class of model: specialist, small, large or frontier',
    undecoded UInt64 COMMENT 'Records that could not be decoded',
    opened UInt64 COMMENT 'Streams that were opened',
    requests UInt64 COMMENT 'Requests that have ended',
    refused UInt64 COMMENT 'Of these, refused',
    failed UInt64 COMMENT 'Of these, ended by an error',
    cancelled UInt64 COMMENT 'Of these, given up by the caller',
    cut_off UInt64 COMMENT 'Of these, answers cut off at their longest',
    masked UInt64 COMMENT 'Of these, masked in request or answer',
    prompt_tokens Int64 COMMENT 'Tokens read by the models that answered',
    completion_tokens Int64 COMMENT 'Tokens written by the models that answered',
    cost Float64 COMMENT 'Cost of all that was asked of models for these requests, in the unit of the bundle\'s prices',
    unused_cost Float64 COMMENT 'Of this, for answers that were not given',
    expected_price Float64 COMMENT 'What the models that answered were expected to cost, where estimates are on record',
    generic_price Float64
        COMMENT 'What the cheapest generic model that was cleared and live was expected to cost, for the same requests',
    dearest_price Float64
        COMMENT 'What the dearest model that was cleared and live was expected to cost, for the same requests',
    total_us Int64 COMMENT 'Microseconds that the requests took',
    total_us_digest AggregateFunction(quantilesTDigest(0.5, 0.95, 0.99), Int64)
        COMMENT 'The same as a t-digest, for quantilesTDigestMerge(0.5, 0.95, 0.99)',
    first_token_us_digest AggregateFunction(quantilesTDigest(0.5, 0.95, 0.99), Int64)
        COMMENT 'Microseconds to the first token, of answers that have one'
)
AS SELECT
    minute, tenant, application, task, model, model_version, tier, undecoded, opened, requests, refused, failed, cancelled,
    cut_off, masked, prompt_tokens, completion_tokens, cost, unused_cost, expected_price, generic_price, dearest_price,
    total_us, total_us_digest, first_token_us_digest
FROM gyre.rollup_minutes
COMMENT 'Requests per minute; one minute may have several rows: add them up, and merge the digests';

CREATE OR REPLACE VIEW gyre.orchestration_breakdown
(
    day Date COMMENT 'Day (UTC) on which the requests came in',
    tenant LowCardinality(String) COMMENT 'Business unit',
    stage LowCardinality(String) COMMENT 'Function of the pipeline',
    is_orchestration Bool COMMENT 'Whether it is one of the seven orchestration functions, and not the model itself',
    requests UInt64 COMMENT 'Requests that went through it',
    total_us Int64 COMMENT 'Microseconds spent in it',
    mean_us Float64 COMMENT 'Mean microseconds per request that went through it',
    p50_us Float64 COMMENT 'Median of the same, by t-digest',
    p95_us Float64 COMMENT '95th percentile of the same, by t-digest',
    share_of_orchestration Nullable(Float64)
        COMMENT 'Its part of the time spent in the seven functions that day, 0 to 1; null for what is none of them',
    share_of_request Nullable(Float64)
        COMMENT 'Its part of the time from request to record that day, 0 to 1; overlapping stages may add up to more than 1'
)
AS WITH
    ['routing', 'governance', 'context-stitching', 'monitoring', 'policy', 'data-prep', 'audit'] AS orchestration,
    by_day AS (
        SELECT
            toDate(hour) AS day, tenant, stage,
            has(orchestration, stage) AS is_orchestration,
            sum(rollup.requests) AS requests,
            sum(duration_us) AS total_us,
            quantilesTDigestMerge(0.5, 0.95, 0.99)(duration_us_digest) AS quantiles,
            -- The stage without a name is the request as a whole.
            anyIf(total_us, stage = '') OVER (PARTITION BY day, tenant) AS request_us,
            sumIf(total_us, is_orchestration) OVER (PARTITION BY day, tenant) AS orchestration_us
        FROM gyre.rollup_stages AS rollup
        GROUP BY day, tenant, stage
        HAVING requests > 0
    )
SELECT
    day, tenant, stage, is_orchestration, requests, total_us,
    total_us / requests AS mean_us, quantiles[1] AS p50_us, quantiles[2] AS p95_us,
    if(is_orchestration, total_us / nullIf(orchestration_us, 0), NULL) AS share_of_orchestration,
    total_us / nullIf(request_us, 0) AS share_of_request
FROM by_day
WHERE stage != ''
COMMENT 'Share of each function of the pipeline, per day and tenant';

CREATE OR REPLACE VIEW gyre.models
(
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the requests are for',
    model LowCardinality(String) COMMENT 'Model that answered',
    model_version LowCardinality(String) COMMENT 'Version of the model that answered',
    tier LowCardinality(String) COMMENT 'Class of model: specialist, small, large or frontier',
    since DateTime('UTC') COMMENT 'Minute of its first request',
    until DateTime('UTC') COMMENT 'Minute of its latest request',
    requests UInt64 COMMENT 'Requests that it was the last to be asked',
    failed UInt64 COMMENT 'Of these, ended by an error',
    prompt_tokens Int64 COMMENT 'Tokens it read',
    completion_tokens Int64 COMMENT 'Tokens it wrote',
    cost Float64
        COMMENT 'Cost of its requests, those models included that were asked before it, in the unit of the bundle\'s prices',
    p50_us Float64 COMMENT 'Median of the microseconds its requests took',
    p95_us Float64 COMMENT '95th percentile of the same',
    p99_us Float64 COMMENT '99th percentile of the same',
    first_token_p50_us Nullable(Float64) COMMENT 'Median of the microseconds to its first token; null where none is known',
    first_token_p95_us Nullable(Float64) COMMENT '95th percentile of the same',
    labelled UInt64 COMMENT 'Of its answers, judged by experts',
    accuracy Nullable(Float64)
        COMMENT 'Share of right ones among all its answers, estimated from the labelled ones by 1 / propensity; null without'
)
AS WITH
    answered AS (
        SELECT
            tenant, task, model, model_version, tier, min(minute) AS since, max(minute) AS until,
            sum(rollup.requests) AS requests, sum(rollup.failed) AS failed, sum(rollup.prompt_tokens) AS prompt_tokens,
            sum(rollup.completion_tokens) AS completion_tokens, sum(rollup.cost) AS cost,
            quantilesTDigestMerge(0.5, 0.95, 0.99)(total_us_digest) AS in_us,
            quantilesTDigestMerge(0.5, 0.95, 0.99)(first_token_us_digest) AS first_in_us
        FROM gyre.rollup_minutes AS rollup
        WHERE model != ''
        GROUP BY tenant, task, model, model_version, tier
        HAVING requests > 0
    ),
    -- The same last words as in gyre.flywheel: of labels that stand, as an outcome has the time of its label.
    last_words AS (
        SELECT
            tenant, task, model, model_version, tier, request_id,
            argMax(success, found_at) AS right, 1 / argMax(propensity, found_at) AS weight
        FROM gyre.outcomes
        WHERE source = 'label' AND propensity > 0
            AND (request_id, found_at) NOT IN (
                SELECT request_id, labelled_at FROM gyre.labels
                WHERE kind = 'gold' OR label_id IN (SELECT label_id FROM gyre.labels WHERE outcome = 'retracted')
            )
        GROUP BY tenant, task, model, model_version, tier, request_id
    ),
    judged AS (
        SELECT tenant, task, model, model_version, tier, count() AS labelled,
            sum(weight * right) / sum(weight) AS accuracy
        FROM last_words
        GROUP BY tenant, task, model, model_version, tier
    )
SELECT
    tenant, task, model, model_version, tier, since, until, requests, failed, prompt_tokens, completion_tokens, cost,
    in_us[1] AS p50_us, in_us[2] AS p95_us, in_us[3] AS p99_us,
    if(isNaN(first_in_us[1]), NULL, first_in_us[1]) AS first_token_p50_us,
    if(isNaN(first_in_us[2]), NULL, first_in_us[2]) AS first_token_p95_us,
    labelled, if(labelled = 0, NULL, judged.accuracy) AS accuracy
FROM answered
LEFT JOIN judged USING (tenant, task, model, model_version, tier)
COMMENT 'What each version of each model did for each task';

CREATE OR REPLACE VIEW gyre.cost
(
    day Date COMMENT 'Day (UTC) on which the requests came in',
    tenant LowCardinality(String) COMMENT 'Business unit',
    application LowCardinality(String) COMMENT 'Caller, as its key says',
    task LowCardinality(String) COMMENT 'What the requests are for',
    model LowCardinality(String) COMMENT 'Model that answered',
    tier LowCardinality(String) COMMENT 'Class of model: specialist, small, large or frontier',
    requests UInt64 COMMENT 'Requests that have ended',
    prompt_tokens Int64 COMMENT 'Tokens read by the model that answered',
    completion_tokens Int64 COMMENT 'Tokens written by the model that answered',
    cost Float64 COMMENT 'Cost of all that was asked of models for these requests, in the unit of the bundle\'s prices',
    unused_cost Float64 COMMENT 'Of this, for answers that were not given',
    expected_price Float64 COMMENT 'What the model that answered was expected to cost, where estimates are on record',
    generic_price Float64
        COMMENT 'What the cheapest generic model that was cleared and live was expected to cost, for the same requests',
    dearest_price Float64
        COMMENT 'What the dearest model that was cleared and live was expected to cost, for the same requests',
    saved_by_specialist Float64
        COMMENT 'generic_price less expected_price where a specialist answered, else 0; below 0 where it was dearer',
    saved_by_routing Float64 COMMENT 'dearest_price less expected_price'
)
AS SELECT
    toDate(minute) AS day, tenant, application, task, model, tier,
    sum(rollup.requests) AS requests, sum(rollup.prompt_tokens) AS prompt_tokens,
    sum(rollup.completion_tokens) AS completion_tokens, sum(rollup.cost) AS cost, sum(rollup.unused_cost) AS unused_cost,
    sum(rollup.expected_price) AS expected_price, sum(rollup.generic_price) AS generic_price,
    sum(rollup.dearest_price) AS dearest_price,
    if(tier = 'specialist', generic_price - expected_price, 0) AS saved_by_specialist,
    dearest_price - expected_price AS saved_by_routing
FROM gyre.rollup_minutes AS rollup
GROUP BY day, tenant, application, task, model, tier
HAVING requests > 0
COMMENT 'What answers cost per day, and what they would have cost elsewhere, by the estimates that the router had';

CREATE OR REPLACE VIEW gyre.label_states
(
    request_id String COMMENT 'Id of the request',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the request is for',
    state LowCardinality(String)
        COMMENT 'open (no judgement stands), provisional (one does), agreed, disputed, adjudicated (a lead decided) or escalated (a lead is to decide)',
    label_id String COMMENT 'Label that counts; empty where none does: open, disputed, escalated',
    outcome LowCardinality(String) COMMENT 'What that label says: confirmed, corrected or unsafe',
    experts Array(String) COMMENT 'Whose judgements and escalations stand',
    labelled_at DateTime64(6, 'UTC') COMMENT 'Time of the newest record of a label of it, one taking a label back included'
)
AS WITH
    -- As schemas/labels.py has it: (labelled_at, label_id, expert, kind, outcome, answer) of what stands, oldest first.
    records AS (
        SELECT
            tenant, task, request_id, max(labels.labelled_at) AS newest_at,
            arraySort(groupArrayIf(
                (labels.labelled_at, label_id, expert, toString(kind), toString(labels.outcome), answer),
                labels.outcome IN ('confirmed', 'corrected', 'unsafe', 'escalated')
                    AND label_id NOT IN (SELECT label_id FROM gyre.labels WHERE outcome = 'retracted')
            )) AS standing
        FROM gyre.labels AS labels
        WHERE kind != 'gold'
        GROUP BY tenant, task, request_id
    )
SELECT
    request_id, tenant, task,
    arrayFilter(each -> each.4 = 'adjudication' AND each.5 != 'escalated', standing) AS decisions,
    arrayFilter(each -> each.4 != 'adjudication', standing) AS of_experts,
    -- Of each expert the newest.
    arrayFilter(
        (each, place) -> NOT has(arraySlice(of_experts.3, place + 1), each.3), of_experts, arrayEnumerate(of_experts)
    ) AS said,
    notEmpty(decisions) OR has(said.5, 'escalated') OR length(said) < 2 OR arrayUniq(said.5) > 1 AS is_settled,
    -- Answers are the same by schemas/answers.py: texts without regard to case and white space, calls by value. Where JSON
    -- is compared here, null is the same as absent. It takes long, so only what may be in dispute is looked at.
    arrayMap(
        each -> trimBoth(replaceRegexpAll(caseFoldUTF8(normalizeUTF8NFKC(each)), '\\s+', ' ')),
        if(is_settled OR arrayUniq(said.6) = 1, [], said.6)
    ) AS normalised,
    arrayUniq(arrayMap(
        (each, text) -> (
            JSONExtractString(each, 'name'),
            ifNull(toString(accurateCastOrNull(text, 'JSON(max_dynamic_paths=0)')), text)
        ),
        if(empty(normalised), [], said.6), normalised
    )) AS answers,
    multiIf(
        notEmpty(decisions), 'adjudicated', has(said.5, 'escalated'), 'escalated', empty(said), 'open',
        length(said) = 1, 'provisional', NOT is_settled AND answers < 2, 'agreed', 'disputed'
    ) AS state,
    multiIf(state = 'adjudicated', decisions[-1], state IN ('provisional', 'agreed'), said[1], said[-1 - length(said)]) AS counts,
    counts.2 AS label_id, counts.5 AS outcome, arraySort(arrayDistinct(arrayConcat(said.3, decisions.3))) AS experts,
    newest_at AS labelled_at
FROM records
COMMENT 'What the labels of each request come to, and which of them counts';

CREATE OR REPLACE VIEW gyre.agreement
(
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the requests are for',
    expert LowCardinality(String) COMMENT 'One expert',
    other LowCardinality(String) COMMENT 'The other expert, later in the alphabet',
    requests UInt64
        COMMENT 'Requests that both judged by themselves, gold questions aside; of several labels of one the last counts',
    agreement Float64 COMMENT 'Share of them with the same outcome: confirmed, corrected or unsafe',
    kappa Nullable(Float64)
        COMMENT 'Cohen\'s kappa: 1 full agreement, 0 no more than by chance; null where chance alone would agree always'
)
AS WITH
    judgements AS (
        SELECT tenant, task, request_id, expert, argMax(each.outcome, (labelled_at, label_id)) AS outcome
        FROM gyre.judgements AS each
        WHERE kind != 'adjudication'
        GROUP BY tenant, task, request_id, expert
    )
SELECT
    one.tenant AS tenant, one.task AS task, one.expert AS expert, two.expert AS other,
    count() AS requests,
    avg(one.outcome = two.outcome) AS agreement,
    -- By chance they agree as often as their own habits make them (Cohen 1960).
    arraySum(
        each -> countEqual(groupArray(one.outcome), each) * countEqual(groupArray(two.outcome), each),
        groupUniqArray(one.outcome)
    ) / pow(requests, 2) AS by_chance,
    if(by_chance = 1, NULL, (agreement - by_chance) / (1 - by_chance)) AS kappa
FROM judgements AS one
INNER JOIN judgements AS two USING (tenant, task, request_id)
WHERE one.expert < two.expert
GROUP BY tenant, task, expert, other
COMMENT 'How far two experts agree on the requests that both have judged';

CREATE OR REPLACE VIEW gyre.calibration
(
    day Date COMMENT 'Day (UTC) on which experts judged',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the requests are for',
    model LowCardinality(String) COMMENT 'Model that answered',
    model_version LowCardinality(String) COMMENT 'Version of the model that answered',
    band Float64 COMMENT 'Lower end of the tenth in which triage\'s chance of a wrong answer lay',
    labelled UInt64 COMMENT 'Requests that experts judged',
    expected Float64 COMMENT 'Mean chance of a wrong answer that triage gave them, each weighed by 1 / propensity',
    found Float64 COMMENT 'Share of them that experts found wrong, weighed in the same way'
)
AS SELECT
    toDate(judged_at) AS day, tenant, task, model, model_version, band, count() AS labelled,
    sum(score / propensity) / sum(1 / propensity) AS expected, sum(wrong / propensity) / sum(1 / propensity) AS found
FROM (
    SELECT
        cases.tenant AS tenant, cases.task AS task, cases.model AS model, cases.model_version AS model_version,
        cases.score AS score, cases.propensity AS propensity, least(floor(cases.score * 10) / 10, 0.9) AS band,
        labels.judged_at AS judged_at, labels.outcome != 'confirmed' AS wrong
    FROM gyre.edge_cases AS cases
    INNER JOIN (
        SELECT request_id, argMin(labels.outcome, labelled_at) AS outcome, min(labelled_at) AS judged_at
        FROM gyre.labels AS labels
        WHERE labels.outcome IN ('confirmed', 'corrected', 'unsafe')
        GROUP BY request_id
    ) AS labels USING (request_id)
    WHERE cases.propensity > 0
)
GROUP BY day, tenant, task, model, model_version, band
COMMENT 'How far the chances that triage gives answers of being wrong are what experts then find';

CREATE OR REPLACE VIEW gyre.runs
(
    run_id String COMMENT 'Training run',
    candidate_id String COMMENT 'Id of the candidate that it made',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the candidate is for',
    ended_at DateTime64(6, 'UTC') COMMENT 'When the gate had decided',
    base_model LowCardinality(String) COMMENT 'Model the adapter belongs to',
    dataset_id String COMMENT 'Dataset it learned from',
    learned_from UInt64 COMMENT 'Labels it learned from',
    measured_on UInt64 COMMENT 'Labels that were held out',
    training_tokens Int64 COMMENT 'Tokens trained on',
    training_seconds Float64 COMMENT 'Seconds of training',
    verdict LowCardinality(String) COMMENT 'promote or refuse',
    sensitivity LowCardinality(String) COMMENT 'Highest sensitivity of what it learned from',
    bundle_version LowCardinality(String) COMMENT 'Version of the bundle it was decided under',
    hash String COMMENT 'Hash of its record in the chain, in hexadecimal'
)
AS SELECT
    run_id, candidate_id, tenant, task, created_at AS ended_at, base_model, dataset_id,
    length(training_request_ids) AS learned_from, length(holdout_request_ids) AS measured_on, training_tokens,
    training_seconds, verdict, sensitivity, bundle_version, hash
FROM gyre.candidates
COMMENT 'Training runs that came to their end: what each learned from and what it took';

CREATE OR REPLACE VIEW gyre.gates
(
    candidate_id String COMMENT 'Id of the candidate',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the candidate is for',
    decided_at DateTime64(6, 'UTC') COMMENT 'When the gate had decided',
    verdict LowCardinality(String) COMMENT 'promote or refuse',
    reasons Array(String) COMMENT 'Why the gate decided so',
    incumbent String COMMENT 'What it was compared with: a candidate or the name of a model',
    items UInt64 COMMENT 'Requests that both were asked',
    candidate_accuracy Float64 COMMENT 'Share of them that the candidate got right',
    incumbent_accuracy Float64 COMMENT 'Share of them that the incumbent got right',
    gain Float64 COMMENT 'Difference of the two',
    gain_low Float64 COMMENT 'Lower end of the confidence interval of the gain',
    gain_high Float64 COMMENT 'Upper end of the confidence interval of the gain',
    confidence Float64 COMMENT 'Confidence level of the interval',
    won Nullable(UInt64) COMMENT 'Requests that only the candidate got right; null where answers are not on record',
    lost Nullable(UInt64) COMMENT 'Requests that only the incumbent got right; null where answers are not on record',
    live_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When it first went live; null if it never did',
    hash String COMMENT 'Hash of its record in the chain, in hexadecimal'
)
AS WITH
    lived AS (
        SELECT candidate_id, toNullable(min(deployed_at)) AS live_at
        FROM gyre.deployments
        WHERE state = 'live'
        GROUP BY candidate_id
    )
SELECT
    candidate_id, tenant, task, created_at AS decided_at, verdict, reasons, incumbent,
    length(holdout_request_ids) AS items, candidate_accuracy, incumbent_accuracy, gain, gain_low, gain_high, confidence,
    notEmpty(candidate_answers) AND length(candidate_answers) = length(incumbent_answers) AS is_paired,
    arrayResize(incumbent_answers.right, length(candidate_answers)) AS theirs,
    if(is_paired, arrayCount((own, other) -> own AND NOT other, candidate_answers.right, theirs), NULL) AS won,
    if(is_paired, arrayCount((own, other) -> other AND NOT own, candidate_answers.right, theirs), NULL) AS lost,
    live_at, hash
FROM gyre.candidates AS candidates
LEFT JOIN lived USING (candidate_id)
COMMENT 'What the gate said of each candidate, request by request against the incumbent, and when it went live';

CREATE OR REPLACE VIEW gyre.flywheel
(
    day Date COMMENT 'Day (UTC) on which requests came in, and on which labels were given',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the requests are for',
    model LowCardinality(String) COMMENT 'Model that answered',
    model_version LowCardinality(String) COMMENT 'Version of the model that answered',
    tier LowCardinality(String) COMMENT 'Class of model: specialist, small, large or frontier',
    requests UInt64 COMMENT 'Requests of that day that it answered',
    specialist_share Nullable(Float64)
        COMMENT 'Share of the requests of that day and task, by any model, that specialists answered, 0 to 1',
    labelled UInt64 COMMENT 'Answers of it that experts judged on that day',
    accuracy Nullable(Float64)
        COMMENT 'Share of right ones among all its answers, estimated from the labelled ones by 1 / propensity; null without',
    accuracy_low Nullable(Float64)
        COMMENT 'Lower end of its 95 % interval: Wilson\'s, for as many labels as the weights leave (Kish)',
    accuracy_high Nullable(Float64) COMMENT 'Upper end of the same'
)
AS WITH
    1.96 AS z,
    last_words AS (
        SELECT
            tenant, task, model, model_version, tier, request_id, max(found_at) AS at,
            argMax(success, found_at) AS right, 1 / argMax(propensity, found_at) AS weight
        FROM gyre.outcomes
        WHERE source = 'label' AND propensity > 0
            AND (request_id, found_at) NOT IN (
                SELECT request_id, labelled_at FROM gyre.labels
                WHERE kind = 'gold' OR label_id IN (SELECT label_id FROM gyre.labels WHERE outcome = 'retracted')
            )
        GROUP BY tenant, task, model, model_version, tier, request_id
    ),
    days AS (
        SELECT
            day, tenant, task, model, model_version, tier, sum(answers) AS requests, sum(labels) AS labelled,
            sum(weights) AS weight, sum(weighed) / weight AS p, pow(weight, 2) / sum(squares) AS n
        FROM (
            SELECT toDate(minute) AS day, tenant, task, model, model_version, tier,
                sum(requests) AS answers, 0 AS labels, 0. AS weights, 0. AS weighed, 0. AS squares
            FROM gyre.rollup_minutes
            WHERE model != ''
            GROUP BY day, tenant, task, model, model_version, tier
            UNION ALL
            SELECT toDate(at) AS day, tenant, task, model, model_version, tier,
                0, count(), sum(weight), sum(weight * right), sum(weight * weight)
            FROM last_words
            GROUP BY day, tenant, task, model, model_version, tier
        )
        GROUP BY day, tenant, task, model, model_version, tier
        HAVING requests > 0 OR labelled > 0
    )
SELECT
    day, tenant, task, model, model_version, tier, requests,
    sumIf(requests, tier = 'specialist') OVER same_task / nullIf(sum(requests) OVER same_task, 0) AS specialist_share,
    labelled,
    if(labelled = 0, NULL, p) AS accuracy,
    z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) AS half,
    if(labelled = 0, NULL, (p + z * z / (2 * n) - half) / (1 + z * z / n)) AS accuracy_low,
    if(labelled = 0, NULL, (p + z * z / (2 * n) + half) / (1 + z * z / n)) AS accuracy_high
FROM days
WINDOW same_task AS (PARTITION BY day, tenant, task)
COMMENT 'How right each version of each model was, day by day, and how much of the traffic specialists answer';

CREATE OR REPLACE VIEW gyre.days
(
    day Date COMMENT 'Day (UTC)',
    tenant LowCardinality(String) COMMENT 'Business unit',
    task LowCardinality(String) COMMENT 'What the requests are for',
    requests UInt64 COMMENT 'Requests that came in',
    by_specialist UInt64 COMMENT 'Of these, answered by a specialist',
    refused UInt64 COMMENT 'Of these, refused',
    failed UInt64 COMMENT 'Of these, ended by an error',
    p95_us Nullable(Float64) COMMENT '95th percentile of the microseconds they took',
    cost Float64 COMMENT 'What they cost, in the unit of the bundle\'s prices',
    saved_by_specialist Float64 COMMENT 'What the cheapest generic model would have cost more than specialists did, as expected',
    flagged UInt64 COMMENT 'Edge cases found that day, imported ones aside',
    labelled UInt64 COMMENT 'Requests judged that day, as far as the labels stand'
)
AS SELECT
    day, tenant, task, sum(each.requests) AS requests, sum(each.by_specialist) AS by_specialist,
    sum(each.refused) AS refused, sum(each.failed) AS failed, if(requests = 0, NULL, max(each.p95_us)) AS p95_us,
    sum(each.cost) AS cost, sum(each.saved_by_specialist) AS saved_by_specialist, sum(each.flagged) AS flagged,
    sum(each.labelled) AS labelled
FROM (
    SELECT
        toDate(minute) AS day, tenant, task, sum(rollup.requests) AS requests,
        sumIf(rollup.requests, tier = 'specialist') AS by_specialist, sum(rollup.refused) AS refused,
        sum(rollup.failed) AS failed, quantilesTDigestMerge(0.5, 0.95, 0.99)(total_us_digest)[2] AS p95_us,
        sum(rollup.cost) AS cost, sumIf(generic_price - expected_price, tier = 'specialist') AS saved_by_specialist,
        0 AS flagged, 0 AS labelled
    FROM gyre.rollup_minutes AS rollup
    GROUP BY day, tenant, task
    HAVING requests > 0
    UNION ALL
    SELECT toDate(flagged_at) AS day, tenant, task, 0, 0, 0, 0, 0, 0, 0, uniqExact(request_id), 0
    FROM gyre.edge_cases
    WHERE NOT imported
    GROUP BY day, tenant, task
    UNION ALL
    SELECT toDate(labelled_at) AS day, tenant, task, 0, 0, 0, 0, 0, 0, 0, 0, uniqExact(request_id)
    FROM gyre.judgements
    GROUP BY day, tenant, task
) AS each
GROUP BY day, tenant, task
COMMENT 'The loop day by day: traffic, what it cost and saved, what was flagged and labelled';

CREATE OR REPLACE VIEW gyre.incidents
(
    at DateTime64(6, 'UTC') COMMENT 'When it happened or was noticed',
    kind LowCardinality(String)
        COMMENT 'drift, objective (an alert that began), rollback, undecoded (a record that nobody could read), unfinished (a stream that was opened at least ten minutes ago and has no end on record), failures or refusals (of a task, in five minutes: at least ten, and a fifth of all its requests)',
    tenant LowCardinality(String) COMMENT 'Business unit; empty where it is not known',
    task LowCardinality(String) COMMENT 'What the requests are for; empty where it is not known',
    subject String COMMENT 'What it is about: a model, an application, a candidate, a request, or topic/partition/offset',
    summary String COMMENT 'What happened, in words',
    hash String COMMENT 'Hash of its record in the chain, in hexadecimal; empty for failures and refusals, which are many'
)
AS SELECT
    detected_at AS at, if(aspect = 'objective', 'objective', 'drift') AS kind, tenant, task,
    if(aspect = 'objective', application, model) AS subject,
    concat(measure, ' by ', method, ': ', toString(round(statistic, 4)), ', threshold ', toString(round(threshold, 4)))
        AS summary,
    lower(hex(_hash)) AS hash
FROM gyre.audit_drift_v1
WHERE _error = '' AND state != 'cleared'
UNION ALL
SELECT deployed_at, 'rollback', tenant, task, candidate_id,
    concat(if(state = 'live', 'back to what was live before: ', 'back to no specialist: '), reason), hash
FROM (
    -- By its gate a candidate goes live once: in the shadow and as a canary, if it is to, and then for all.
    SELECT *, row_number() OVER (
        PARTITION BY task_key, candidate_id, (share > 0) + (share >= 1) ORDER BY offset
    ) AS times
    FROM gyre.deployments
)
WHERE state != 'live' OR times > 1
UNION ALL
SELECT _timestamp, 'undecoded', '', '', concat(_topic, '/', toString(_partition), '/', toString(_offset)), _error,
    lower(hex(_hash))
FROM merge('gyre', '_v1$')
WHERE _error NOT IN ('', 'erased')
UNION ALL
SELECT received_at, 'unfinished', tenant, task, request_id, concat('a stream of ', application, ', by ', model), hash
FROM gyre.interactions
WHERE state = 'unfinished' AND received_at < now64(6, 'UTC') - INTERVAL 10 MINUTE
UNION ALL
SELECT began, counted.1, tenant, task, '', concat(toString(counted.2), ' of ', toString(asked), ' requests'), ''
FROM (
    SELECT toStartOfFiveMinutes(minute) AS began, tenant, task, sum(requests) AS asked, sum(failed) AS failures,
        sum(refused) AS refusals
    FROM gyre.rollup_minutes
    GROUP BY began, tenant, task
)
ARRAY JOIN [('failures', failures), ('refusals', refusals)] AS counted
WHERE counted.2 >= 10 AND counted.2 >= asked / 5
COMMENT 'What went wrong and may want a person';
