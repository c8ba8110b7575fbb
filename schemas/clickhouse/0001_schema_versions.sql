CREATE DATABASE IF NOT EXISTS gyre COMMENT 'The record that Gyre keeps, and the views of it for analysts';

-- What audit has applied of this folder. A file is applied again when its text has changed.
CREATE TABLE IF NOT EXISTS gyre.schema_versions
(
    number UInt32 COMMENT 'Number of the file',
    name String COMMENT 'Name of the file',
    digest String COMMENT 'SHA-256 of its text, in hexadecimal',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it was applied'
)
ENGINE = ReplacingMergeTree(applied_at)
ORDER BY number
COMMENT 'Which of the numbered statements have been applied';
