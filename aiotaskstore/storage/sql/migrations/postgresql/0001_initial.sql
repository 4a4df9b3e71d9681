-- Version 1. Status codes: 0 scheduled, 1 pending, 2 waiting, 3 running, 4 paused,
-- 5 succeeded, 6 failed, 7 cancelled, 8 interrupted. on_stuck: 0 retry, 1 fail, 2 interrupt.

-- Unfinished tasks only, so that claims, vacuum and backlog never meet finished rows (docs/adr/0001).
CREATE TABLE aiotaskstore_tasks (
    id uuid PRIMARY KEY,
    queue text NOT NULL,
    alias text NOT NULL,
    status smallint NOT NULL CHECK (status BETWEEN 0 AND 4),
    priority integer NOT NULL,
    run_at timestamptz NOT NULL,
    payload json NOT NULL,
    attempt integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    max_attempts integer NOT NULL,
    timeout double precision,
    fence bigint NOT NULL DEFAULT 0,
    on_stuck smallint NOT NULL DEFAULT 0,
    owner_type text,
    owner_id text,
    source text,
    parent_id uuid,
    definition_id uuid,
    external_id text,
    serialization_key text,
    held_key text,
    strict boolean NOT NULL DEFAULT false,
    metadata json,
    retention text,
    cancel_requested_at timestamptz,
    cancel_reason text,
    dispatcher_id uuid,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    started_at timestamptz,
    deleted_at timestamptz
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
        autovacuum_analyze_scale_factor = 0.1);

-- All ascending: one DESC would make the claim sort, and lock what it sorts.
CREATE INDEX aiotaskstore_tasks_to_claim ON aiotaskstore_tasks (queue, priority, run_at, id, alias)
    WHERE status = 1;
CREATE INDEX aiotaskstore_tasks_to_promote ON aiotaskstore_tasks (run_at) WHERE status = 0;
CREATE INDEX aiotaskstore_tasks_of_dispatcher ON aiotaskstore_tasks (dispatcher_id) WHERE status = 3;
CREATE INDEX aiotaskstore_tasks_to_cancel ON aiotaskstore_tasks (dispatcher_id)
    WHERE cancel_requested_at IS NOT NULL;

CREATE TABLE aiotaskstore_history (
    id uuid PRIMARY KEY,
    queue text NOT NULL,
    alias text NOT NULL,
    status smallint NOT NULL CHECK (status BETWEEN 5 AND 8),
    priority integer NOT NULL,
    run_at timestamptz NOT NULL,
    payload json,
    attempt integer NOT NULL,
    max_attempts integer NOT NULL,
    timeout double precision,
    fence bigint NOT NULL,
    on_stuck smallint NOT NULL,
    owner_type text,
    owner_id text,
    source text,
    parent_id uuid,
    definition_id uuid,
    external_id text,
    serialization_key text,
    strict boolean NOT NULL,
    metadata json,
    retention text,
    cancel_requested_at timestamptz,
    cancel_reason text,
    dispatcher_id uuid,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    started_at timestamptz,
    deleted_at timestamptz,
    result json,
    error text,
    finish_reason text NOT NULL,
    finished_at timestamptz NOT NULL,
    cancelled_at timestamptz,
    expires_at timestamptz
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX aiotaskstore_history_to_clean ON aiotaskstore_history (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX aiotaskstore_history_unsuccessful ON aiotaskstore_history (status, id) WHERE status > 5;

-- External ids, unique over both halves: a row moves between them, so neither could promise it alone.
CREATE TABLE aiotaskstore_task_keys (
    alias text NOT NULL,
    external_id text NOT NULL,
    task_id uuid NOT NULL,
    PRIMARY KEY (alias, external_id)
);

-- Written only when used, so that the rows above stay narrow.
CREATE TABLE aiotaskstore_task_errors (
    task_id uuid NOT NULL,
    fence bigint NOT NULL,
    attempt integer NOT NULL,
    at timestamptz NOT NULL,
    type text NOT NULL,
    message text NOT NULL,
    PRIMARY KEY (task_id, fence)
);
CREATE TABLE aiotaskstore_task_progress (
    task_id uuid PRIMARY KEY,
    text text NOT NULL,
    fraction double precision,
    at timestamptz NOT NULL
) WITH (fillfactor = 70);
CREATE TABLE aiotaskstore_task_details (
    task_id uuid NOT NULL,
    fence bigint NOT NULL,
    line integer NOT NULL,
    text text NOT NULL,
    PRIMARY KEY (task_id, fence, line)
);

CREATE TABLE aiotaskstore_definitions (
    id uuid PRIMARY KEY,
    alias text NOT NULL,
    title text NOT NULL,
    description text NOT NULL,
    memo text NOT NULL DEFAULT '',
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'cancelled')),
    defaults json NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz
);
CREATE UNIQUE INDEX aiotaskstore_definitions_by_alias ON aiotaskstore_definitions (alias) WHERE deleted_at IS NULL;

CREATE TABLE aiotaskstore_dispatchers (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    lease double precision NOT NULL,
    idle boolean NOT NULL DEFAULT false,
    started_at timestamptz NOT NULL,
    heartbeat_at timestamptz NOT NULL
) WITH (fillfactor = 50);
