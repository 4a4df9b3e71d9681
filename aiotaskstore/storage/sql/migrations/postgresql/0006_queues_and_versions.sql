-- What operators decide about queues, and which library a dispatcher runs and what it serves: without them, that of a
-- version before this one.

CREATE TABLE aiotaskstore_queues (
    name text PRIMARY KEY,
    paused_at timestamptz,
    pause_reason text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

ALTER TABLE aiotaskstore_dispatchers
    ADD COLUMN version text,
    ADD COLUMN schema_version integer,
    ADD COLUMN serves text;
