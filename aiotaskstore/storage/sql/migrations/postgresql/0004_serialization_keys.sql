-- Tasks with a serialization key: at most one of them holds it, and the others wait for it in order.
CREATE UNIQUE INDEX aiotaskstore_tasks_held ON aiotaskstore_tasks (held_key) WHERE held_key IS NOT NULL;
CREATE INDEX aiotaskstore_tasks_waiting ON aiotaskstore_tasks (serialization_key, priority, run_at, id)
    WHERE status = 2 AND deleted_at IS NULL;
