-- What makes tasks at given instants. A payload or a recurrence that is NULL is a function, which only code has.

CREATE TABLE aiotaskstore_schedules (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('draft', 'active', 'inactive', 'completed')),
    alias TEXT NOT NULL,
    queue TEXT,
    payload TEXT,
    options TEXT NOT NULL,
    recurrence TEXT,
    starts_at INTEGER,
    ends_at INTEGER,
    execution_count INTEGER NOT NULL DEFAULT 0,
    max_executions INTEGER,
    misfire TEXT NOT NULL,
    run_on_start INTEGER NOT NULL,
    code_owned INTEGER NOT NULL,
    last_run_at INTEGER,
    next_run_at INTEGER,
    last_start_at INTEGER,
    error TEXT,
    -- Each write adds one; what was decided for an older revision is not written.
    revision INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER
);
CREATE UNIQUE INDEX aiotaskstore_schedules_by_name ON aiotaskstore_schedules (name) WHERE deleted_at IS NULL;
CREATE INDEX aiotaskstore_schedules_to_fire ON aiotaskstore_schedules (next_run_at, id)
    WHERE status = 'active' AND deleted_at IS NULL;
