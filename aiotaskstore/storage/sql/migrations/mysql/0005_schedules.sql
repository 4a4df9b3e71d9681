-- What makes tasks at given instants. A payload or a recurrence that is NULL is a function, which only code has.

CREATE TABLE IF NOT EXISTS aiotaskstore_schedules (
    id BINARY(16) PRIMARY KEY,
    name VARCHAR(100) NOT NULL,
    description LONGTEXT NOT NULL,
    status VARCHAR(20) NOT NULL CHECK (status IN ('draft', 'active', 'inactive', 'completed')),
    alias VARCHAR(100) NOT NULL,
    queue VARCHAR(100),
    payload LONGTEXT,
    options LONGTEXT NOT NULL,
    recurrence LONGTEXT,
    starts_at DATETIME(6),
    ends_at DATETIME(6),
    execution_count BIGINT NOT NULL DEFAULT 0,
    max_executions INT,
    misfire VARCHAR(20) NOT NULL,
    run_on_start TINYINT NOT NULL,
    code_owned TINYINT NOT NULL,
    last_run_at DATETIME(6),
    next_run_at DATETIME(6),
    last_start_at DATETIME(6),
    error LONGTEXT,
    -- Each write adds one; what was decided for an older revision is not written.
    revision BIGINT NOT NULL DEFAULT 1,
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    deleted_at DATETIME(6),
    live_name VARCHAR(100) GENERATED ALWAYS AS (IF(deleted_at IS NULL, name, NULL)) STORED,
    UNIQUE KEY by_name (live_name),
    KEY to_fire (status, next_run_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
