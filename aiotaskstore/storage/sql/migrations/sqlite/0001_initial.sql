-- Version 1. Status codes: 0 scheduled, 1 pending, 2 waiting, 3 running, 4 paused,
-- 5 succeeded, 6 failed, 7 cancelled, 8 interrupted. on_stuck: 0 retry, 1 fail, 2 interrupt.
-- Instants are microseconds since 1970, UTC; ids are 16 bytes.

-- Unfinished tasks only, so that claims, vacuum and backlog never meet finished rows (docs/adr/0001).
CREATE TABLE aiotaskstore_tasks (
    id BLOB PRIMARY KEY,
    queue TEXT NOT NULL,
    alias TEXT NOT NULL,
    status INTEGER NOT NULL CHECK (status BETWEEN 0 AND 4),
    priority INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    payload TEXT NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    max_attempts INTEGER NOT NULL,
    timeout REAL,
    fence INTEGER NOT NULL DEFAULT 0,
    on_stuck INTEGER NOT NULL DEFAULT 0,
    owner_type TEXT,
    owner_id TEXT,
    source TEXT,
    parent_id BLOB,
    definition_id BLOB,
    external_id TEXT,
    serialization_key TEXT,
    held_key TEXT,
    strict INTEGER NOT NULL DEFAULT 0,
    metadata TEXT,
    retention TEXT,
    cancel_requested_at INTEGER,
    cancel_reason TEXT,
    dispatcher_id BLOB,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    started_at INTEGER,
    deleted_at INTEGER
);

-- All ascending: one DESC would make the claim sort, and lock what it sorts.
CREATE INDEX aiotaskstore_tasks_to_claim ON aiotaskstore_tasks (queue, priority, run_at, id, alias)
    WHERE status = 1;
CREATE INDEX aiotaskstore_tasks_to_promote ON aiotaskstore_tasks (run_at) WHERE status = 0;
CREATE INDEX aiotaskstore_tasks_of_dispatcher ON aiotaskstore_tasks (dispatcher_id) WHERE status = 3;
CREATE INDEX aiotaskstore_tasks_to_cancel ON aiotaskstore_tasks (dispatcher_id)
    WHERE cancel_requested_at IS NOT NULL;

CREATE TABLE aiotaskstore_history (
    id BLOB PRIMARY KEY,
    queue TEXT NOT NULL,
    alias TEXT NOT NULL,
    status INTEGER NOT NULL CHECK (status BETWEEN 5 AND 8),
    priority INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    payload TEXT,
    attempt INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    timeout REAL,
    fence INTEGER NOT NULL,
    on_stuck INTEGER NOT NULL,
    owner_type TEXT,
    owner_id TEXT,
    source TEXT,
    parent_id BLOB,
    definition_id BLOB,
    external_id TEXT,
    serialization_key TEXT,
    strict INTEGER NOT NULL,
    metadata TEXT,
    retention TEXT,
    cancel_requested_at INTEGER,
    cancel_reason TEXT,
    dispatcher_id BLOB,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    started_at INTEGER,
    deleted_at INTEGER,
    result TEXT,
    error TEXT,
    finish_reason TEXT NOT NULL,
    finished_at INTEGER NOT NULL,
    cancelled_at INTEGER,
    expires_at INTEGER
);

CREATE INDEX aiotaskstore_history_to_clean ON aiotaskstore_history (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX aiotaskstore_history_unsuccessful ON aiotaskstore_history (status, id) WHERE status > 5;

-- External ids, unique over both halves: a row moves between them, so neither could promise it alone.
CREATE TABLE aiotaskstore_task_keys (
    alias TEXT NOT NULL,
    external_id TEXT NOT NULL,
    task_id BLOB NOT NULL,
    PRIMARY KEY (alias, external_id)
);

-- Written only when used, so that the rows above stay narrow.
CREATE TABLE aiotaskstore_task_errors (
    task_id BLOB NOT NULL,
    fence INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at INTEGER NOT NULL,
    type TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (task_id, fence)
);
CREATE TABLE aiotaskstore_task_progress (
    task_id BLOB PRIMARY KEY,
    text TEXT NOT NULL,
    fraction REAL,
    at INTEGER NOT NULL
);
CREATE TABLE aiotaskstore_task_details (
    task_id BLOB NOT NULL,
    fence INTEGER NOT NULL,
    line INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (task_id, fence, line)
);

CREATE TABLE aiotaskstore_definitions (
    id BLOB PRIMARY KEY,
    alias TEXT NOT NULL,
    title TEXT NOT NULL,
    description TEXT NOT NULL,
    memo TEXT NOT NULL DEFAULT '',
    status TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'cancelled')),
    defaults TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER
);
CREATE UNIQUE INDEX aiotaskstore_definitions_by_alias ON aiotaskstore_definitions (alias) WHERE deleted_at IS NULL;

CREATE TABLE aiotaskstore_dispatchers (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    lease REAL NOT NULL,
    idle INTEGER NOT NULL DEFAULT 0,
    started_at INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL
);
