-- What makes tasks at given instants. A payload or a recurrence that is NULL is a function, which only code has.

CREATE TABLE aiotaskstore_schedules (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    description text NOT NULL,
    status text NOT NULL CHECK (status IN ('draft', 'active', 'inactive', 'completed')),
    alias text NOT NULL,
    queue text,
    payload text,
    options text NOT NULL,
    recurrence text,
    starts_at timestamptz,
    ends_at timestamptz,
    execution_count bigint NOT NULL DEFAULT 0,
    max_executions integer,
    misfire text NOT NULL,
    run_on_start boolean NOT NULL,
    code_owned boolean NOT NULL,
    last_run_at timestamptz,
    next_run_at timestamptz,
    last_start_at timestamptz,
    error text,
    -- Each write adds one; what was decided for an older revision is not written.
    revision bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX aiotaskstore_schedules_by_name ON aiotaskstore_schedules (name) WHERE deleted_at IS NULL;
CREATE INDEX aiotaskstore_schedules_to_fire ON aiotaskstore_schedules (next_run_at, id)
    WHERE status = 'active' AND deleted_at IS NULL;
