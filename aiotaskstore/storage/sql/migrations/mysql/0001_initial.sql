-- Version 1. Status codes: 0 scheduled, 1 pending, 2 waiting, 3 running, 4 paused,
-- 5 succeeded, 6 failed, 7 cancelled, 8 interrupted. on_stuck: 0 retry, 1 fail, 2 interrupt.

-- Unfinished tasks only, so that claims, vacuum and backlog never meet finished rows (docs/adr/0001).
CREATE TABLE IF NOT EXISTS aiotaskstore_tasks (
    id BINARY(16) PRIMARY KEY,
    queue VARCHAR(100) NOT NULL,
    alias VARCHAR(100) NOT NULL,
    status TINYINT NOT NULL CHECK (status BETWEEN 0 AND 4),
    priority INT NOT NULL,
    run_at DATETIME(6) NOT NULL,
    payload LONGTEXT NOT NULL,
    attempt INT NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    max_attempts INT NOT NULL,
    timeout DOUBLE,
    fence BIGINT NOT NULL DEFAULT 0,
    on_stuck TINYINT NOT NULL DEFAULT 0,
    owner_type VARCHAR(100),
    owner_id VARCHAR(255),
    source VARCHAR(100),
    parent_id BINARY(16),
    definition_id BINARY(16),
    external_id VARCHAR(255),
    serialization_key VARCHAR(255),
    held_key VARCHAR(255),
    strict TINYINT NOT NULL DEFAULT 0,
    metadata LONGTEXT,
    retention VARCHAR(100),
    cancel_requested_at DATETIME(6),
    cancel_reason LONGTEXT,
    dispatcher_id BINARY(16),
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    started_at DATETIME(6),
    deleted_at DATETIME(6),
    KEY to_promote (status, run_at),
    KEY of_dispatcher (dispatcher_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- No partial indexes here, so what may be claimed also stands in a narrow table: a claim locks and deletes
-- there, and touches tasks by primary key only.
CREATE TABLE IF NOT EXISTS aiotaskstore_ready (
    id BINARY(16) PRIMARY KEY,
    queue VARCHAR(100) NOT NULL,
    priority INT NOT NULL,
    run_at DATETIME(6) NOT NULL,
    alias VARCHAR(100) NOT NULL,
    -- All ascending: one DESC would make the claim sort, and lock what it sorts.
    KEY to_claim (queue, priority, run_at, id, alias)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS aiotaskstore_history (
    id BINARY(16) PRIMARY KEY,
    queue VARCHAR(100) NOT NULL,
    alias VARCHAR(100) NOT NULL,
    status TINYINT NOT NULL CHECK (status BETWEEN 5 AND 8),
    priority INT NOT NULL,
    run_at DATETIME(6) NOT NULL,
    payload LONGTEXT,
    attempt INT NOT NULL,
    max_attempts INT NOT NULL,
    timeout DOUBLE,
    fence BIGINT NOT NULL,
    on_stuck TINYINT NOT NULL,
    owner_type VARCHAR(100),
    owner_id VARCHAR(255),
    source VARCHAR(100),
    parent_id BINARY(16),
    definition_id BINARY(16),
    external_id VARCHAR(255),
    serialization_key VARCHAR(255),
    strict TINYINT NOT NULL,
    metadata LONGTEXT,
    retention VARCHAR(100),
    cancel_requested_at DATETIME(6),
    cancel_reason LONGTEXT,
    dispatcher_id BINARY(16),
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    started_at DATETIME(6),
    deleted_at DATETIME(6),
    result LONGTEXT,
    error LONGTEXT,
    finish_reason VARCHAR(20) NOT NULL,
    finished_at DATETIME(6) NOT NULL,
    cancelled_at DATETIME(6),
    expires_at DATETIME(6),
    KEY to_clean (expires_at),
    KEY by_status (status, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;


-- External ids, unique over both halves: a row moves between them, so neither could promise it alone.
CREATE TABLE IF NOT EXISTS aiotaskstore_task_keys (
    alias VARCHAR(100) NOT NULL,
    external_id VARCHAR(255) NOT NULL,
    task_id BINARY(16) NOT NULL,
    PRIMARY KEY (alias, external_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Written only when used, so that the rows above stay narrow.
CREATE TABLE IF NOT EXISTS aiotaskstore_task_errors (
    task_id BINARY(16) NOT NULL,
    fence BIGINT NOT NULL,
    attempt INT NOT NULL,
    at DATETIME(6) NOT NULL,
    type LONGTEXT NOT NULL,
    message LONGTEXT NOT NULL,
    PRIMARY KEY (task_id, fence)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE TABLE IF NOT EXISTS aiotaskstore_task_progress (
    task_id BINARY(16) PRIMARY KEY,
    text LONGTEXT NOT NULL,
    fraction DOUBLE,
    at DATETIME(6) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE TABLE IF NOT EXISTS aiotaskstore_task_details (
    task_id BINARY(16) NOT NULL,
    fence BIGINT NOT NULL,
    line INT NOT NULL,
    text LONGTEXT NOT NULL,
    PRIMARY KEY (task_id, fence, line)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS aiotaskstore_definitions (
    id BINARY(16) PRIMARY KEY,
    alias VARCHAR(100) NOT NULL,
    title VARCHAR(255) NOT NULL,
    description LONGTEXT NOT NULL,
    memo LONGTEXT NOT NULL,
    status VARCHAR(20) NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'cancelled')),
    defaults LONGTEXT NOT NULL,
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    deleted_at DATETIME(6),
    live_alias VARCHAR(100) GENERATED ALWAYS AS (IF(deleted_at IS NULL, alias, NULL)) STORED,
    UNIQUE KEY by_alias (live_alias)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS aiotaskstore_dispatchers (
    id BINARY(16) PRIMARY KEY,
    name VARCHAR(255) NOT NULL,
    host VARCHAR(255) NOT NULL,
    pid INT NOT NULL,
    lease DOUBLE NOT NULL,
    idle TINYINT NOT NULL DEFAULT 0,
    started_at DATETIME(6) NOT NULL,
    heartbeat_at DATETIME(6) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
