-- What operators decide about queues, and which library a dispatcher runs and what it serves: without them, that of a
-- version before this one.

CREATE TABLE aiotaskstore_queues (
    name TEXT PRIMARY KEY,
    paused_at INTEGER,
    pause_reason TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);

ALTER TABLE aiotaskstore_dispatchers ADD COLUMN version TEXT;
ALTER TABLE aiotaskstore_dispatchers ADD COLUMN schema_version INTEGER;
ALTER TABLE aiotaskstore_dispatchers ADD COLUMN serves TEXT;
