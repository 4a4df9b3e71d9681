-- Soft-deleted rows leave the indexes that claims and promotions walk.

DROP INDEX aiotaskstore_tasks_to_claim;
CREATE INDEX aiotaskstore_tasks_to_claim ON aiotaskstore_tasks (queue, priority, run_at, id, alias)
    WHERE status = 1 AND deleted_at IS NULL;
DROP INDEX aiotaskstore_tasks_to_promote;
CREATE INDEX aiotaskstore_tasks_to_promote ON aiotaskstore_tasks (run_at) WHERE status = 0 AND deleted_at IS NULL;
