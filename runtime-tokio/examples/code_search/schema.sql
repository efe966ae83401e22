-- One transaction; the lock keeps several servers that start at once from getting into each other's way.
SELECT pg_advisory_xact_lock(7043226281943297024);
CREATE SCHEMA IF NOT EXISTS code_search;
CREATE TABLE IF NOT EXISTS code_search.file (
    path text PRIMARY KEY,
    language text NOT NULL,
    size bigint NOT NULL,
    modified_ns bigint NOT NULL,
    hash bytea NOT NULL,
    content text NOT NULL,
    words tsvector NOT NULL,
    indexed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS file_words ON code_search.file USING gin (words);
