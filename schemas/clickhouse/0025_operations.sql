-- What people decided about the whole of it, and who. What experts decide about items is in gyre.labels and gyre.review_actions.
CREATE OR REPLACE VIEW gyre.operations
(
    at DateTime64(6, 'UTC') COMMENT 'When it was done',
    operation LowCardinality(String)
        COMMENT 'bundle published, person erased, specialist rolled back or accounts changed',
    who LowCardinality(String)
        COMMENT 'Who did it: account and certificate; empty where it is not known, as of accounts changed',
    tenant LowCardinality(String) COMMENT 'Business unit; empty: of no one\'s',
    subject String COMMENT 'Version of the bundle, id of the erasure, id of the deployment, or account',
    summary String COMMENT 'What was done, in words',
    hash String COMMENT 'Hash of its record in the chain, in hexadecimal; of an erasure, of its first'
)
AS SELECT
    published_at AS at, 'bundle published' AS operation, published_by AS who, '' AS tenant, version AS subject,
    concat(toString(length(content)), ' characters') AS summary, lower(hex(_hash)) AS hash
FROM gyre.governance_bundles_v1
WHERE _error = ''
UNION ALL
SELECT any(asked_at), 'person erased', any(asked_by), any(tenant), erasure_id,
    concat(toString(count()), ' requests'), argMin(hash, (partition, offset))
FROM gyre.erasures
GROUP BY erasure_id
UNION ALL
SELECT deployed_at, 'specialist rolled back', asked_by, tenant, deployment_id,
    concat(task, if(state = 'live', concat(', back to ', candidate_id), ', back to no specialist'), ': ', reason), hash
FROM gyre.deployments
WHERE asked_by != ''
UNION ALL
SELECT at, 'accounts changed', '', tenant, expert, detail, hash
FROM gyre.review_actions
WHERE action = 'accounts-changed'
COMMENT 'What operators did, and who: every bundle, erasure, rollback by hand and change of accounts';
