-- Tasks with a serialization key: at most one of them holds it, and the others wait for it in order. There are no
-- partial indexes here, so a column says for which key a row waits; it stays NULL where a task has none, and costs a
-- change of its status nothing. Every statement commits by itself, so each looks first whether it has been run.

SET @aiotaskstore_step = IF(
    EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = database()
        AND table_name = 'aiotaskstore_tasks' AND column_name = 'waiting_key'),
    'DO 0',
    'ALTER TABLE aiotaskstore_tasks ADD COLUMN waiting_key VARCHAR(255)
        GENERATED ALWAYS AS (IF(status = 2 AND deleted_at IS NULL, serialization_key, NULL)) STORED,
        ADD KEY waiting (waiting_key, priority, run_at, id), ADD UNIQUE KEY held (held_key)');
PREPARE aiotaskstore_step FROM @aiotaskstore_step;
EXECUTE aiotaskstore_step;
DEALLOCATE PREPARE aiotaskstore_step;
