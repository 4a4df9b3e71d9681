-- Soft-deleted rows stand apart in the index that promotions walk; claims walk `ready`, where they never are.

SET @aiotaskstore_step = IF(
    EXISTS (SELECT 1 FROM information_schema.statistics WHERE table_schema = database()
        AND table_name = 'aiotaskstore_tasks' AND index_name = 'to_promote' AND column_name = 'deleted_at'),
    'DO 0',
    'ALTER TABLE aiotaskstore_tasks DROP KEY to_promote, ADD KEY to_promote (status, deleted_at, run_at)');
PREPARE aiotaskstore_step FROM @aiotaskstore_step;
EXECUTE aiotaskstore_step;
DEALLOCATE PREPARE aiotaskstore_step;
