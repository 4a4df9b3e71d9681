-- What operators decide about queues, and which library a dispatcher runs and what it serves: without them, that of a
-- version before this one.
-- Every statement commits by itself, so each can be repeated.

CREATE TABLE IF NOT EXISTS aiotaskstore_queues (
    name VARCHAR(100) PRIMARY KEY,
    paused_at DATETIME(6),
    pause_reason LONGTEXT,
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

SET @aiotaskstore_step = IF(
    EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = database()
        AND table_name = 'aiotaskstore_dispatchers' AND column_name = 'serves'),
    'DO 0',
    'ALTER TABLE aiotaskstore_dispatchers ADD COLUMN version VARCHAR(100), ADD COLUMN schema_version INT, ADD COLUMN serves LONGTEXT');
PREPARE aiotaskstore_step FROM @aiotaskstore_step;
EXECUTE aiotaskstore_step;
DEALLOCATE PREPARE aiotaskstore_step;
