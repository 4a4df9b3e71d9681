-- What all three databases say. A dialect's file overrides by name.

-- Columns that a task has in both halves, in the order that rows.py reads.
-- list: kept
id, queue, alias, status, priority, run_at, payload, attempt, max_attempts, timeout, fence, on_stuck,
owner_type, owner_id, source, parent_id, definition_id, external_id, serialization_key, strict,
metadata, retention, cancel_requested_at, cancel_reason, dispatcher_id,
created_at, updated_at, started_at, deleted_at

-- The same without those that a finish writes anew, or a retry clears.
-- list: carried
id, queue, alias, priority, max_attempts, timeout, on_stuck,
owner_type, owner_id, source, parent_id, definition_id, external_id, serialization_key, strict,
metadata, retention, created_at, deleted_at

-- What only the finished half has.
-- list: ended
result, error, finish_reason, finished_at, cancelled_at, expires_at

-- list: not_ended
NULL, NULL, NULL, NULL, NULL, NULL

-- What a run needs, in the order of the fields of Claim; the claim adds started_at.
-- list: claim
id, queue, alias, priority, run_at, payload, attempt, max_attempts, timeout, fence, on_stuck,
owner_type, owner_id, source, parent_id, definition_id, external_id, serialization_key, strict,
metadata, retention, created_at

-- What a decision about a task needs, in the order of the fields of Held.
-- list: held
id, fence, status, attempt, max_attempts, on_stuck, retention, cancel_requested_at, cancel_reason,
alias, external_id, queue


-- name: schema_version
SELECT max(version) FROM aiotaskstore_migrations

-- name: record_migration
INSERT INTO aiotaskstore_migrations (version, name, applied_at) VALUES (:version, :name, :now)


-- Locks in the order of ids, so two batches never deadlock.
-- name: lock
SELECT {held} FROM aiotaskstore_tasks WHERE id IN :ids ORDER BY id FOR UPDATE

-- Which of these still run, as fences in the order of ids.
-- name: lock_running
SELECT fence FROM aiotaskstore_tasks WHERE id IN :ids AND status = 3 ORDER BY id FOR UPDATE

-- name: lock_finished
SELECT {held}, finish_reason, payload IS NULL FROM aiotaskstore_history WHERE id IN :ids ORDER BY id FOR UPDATE

-- name: live_among
SELECT id FROM aiotaskstore_tasks WHERE id IN :ids

-- name: stored_among
SELECT id FROM aiotaskstore_tasks WHERE id IN :ids UNION ALL SELECT id FROM aiotaskstore_history WHERE id IN :ids

-- name: key_owners
SELECT alias, external_id, task_id FROM aiotaskstore_task_keys
WHERE alias IN :aliases AND external_id IN :external_ids

-- name: lock_keys
SELECT alias, external_id, task_id FROM aiotaskstore_task_keys
WHERE alias IN :aliases AND external_id IN :external_ids ORDER BY alias, external_id FOR UPDATE

-- name: drop_keys
DELETE FROM aiotaskstore_task_keys
WHERE alias IN :aliases AND external_id IN :external_ids AND task_id IN :ids

-- name: drop_errors
DELETE FROM aiotaskstore_task_errors WHERE task_id IN :ids

-- name: drop_progress
DELETE FROM aiotaskstore_task_progress WHERE task_id IN :ids

-- name: drop_details
DELETE FROM aiotaskstore_task_details WHERE task_id IN :ids

-- name: delete_tasks
DELETE FROM aiotaskstore_tasks WHERE id IN :ids

-- name: delete_history
DELETE FROM aiotaskstore_history WHERE id IN :ids

-- name: request_cancel
UPDATE aiotaskstore_tasks SET cancel_requested_at = :now, cancel_reason = :reason, updated_at = :now
WHERE id IN :ids AND status = 3 AND cancel_requested_at IS NULL

-- An operator's retry of what has not finished: from the start, at once. The fence voids what is on its way.
-- name: restart
UPDATE aiotaskstore_tasks
SET status = 1, attempt = 0, run_at = :now, fence = fence + 1, dispatcher_id = NULL, held_key = NULL,
    cancel_requested_at = NULL, cancel_reason = NULL, updated_at = :now, started_at = NULL
WHERE id IN :ids AND status <> 3

-- An operator's retry of what has finished: the row comes back; delete_history follows.
-- name: revive
INSERT INTO aiotaskstore_tasks ({carried}, payload, fence, status, attempt, run_at, updated_at)
SELECT {carried}, payload, fence + 1, 1, 0, :now, :now FROM aiotaskstore_history WHERE id IN :ids

-- A late success of what was given up as failed (stuck) or interrupted.
-- name: correct_history
UPDATE aiotaskstore_history
SET status = 5, result = :result, error = NULL, finish_reason = 'ok', finished_at = :now, updated_at = :now
WHERE id = :id AND fence = :fence AND status > 5

-- name: next_due
SELECT min(run_at), :now FROM aiotaskstore_tasks WHERE status = 0

-- Which queues have pending tasks, without counting them: one index probe a queue.
-- name: pending_queues
WITH RECURSIVE q (queue) AS (
    SELECT min(queue) FROM aiotaskstore_tasks WHERE status = 1
    UNION ALL
    SELECT (SELECT min(t.queue) FROM aiotaskstore_tasks t WHERE t.status = 1 AND t.queue > q.queue)
    FROM q WHERE q.queue IS NOT NULL
)
SELECT queue FROM q WHERE queue IS NOT NULL

-- name: pending_aliases
SELECT DISTINCT alias FROM aiotaskstore_tasks WHERE status = 1

-- name: expired
SELECT id, alias, external_id FROM aiotaskstore_history
WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED

-- name: errors_of
SELECT task_id, attempt, at, type, message FROM aiotaskstore_task_errors WHERE task_id IN :ids
ORDER BY task_id, at, fence

-- name: progress_of
SELECT task_id, text, fraction, at FROM aiotaskstore_task_progress WHERE task_id IN :ids

-- name: details_of
SELECT task_id, text FROM aiotaskstore_task_details WHERE task_id IN :ids ORDER BY task_id, fence, line

-- name: status_of
SELECT status FROM aiotaskstore_tasks WHERE id = :id
UNION ALL
SELECT status FROM aiotaskstore_history WHERE id = :id

-- name: counts
SELECT queue, status, count(*), min(run_at) FROM aiotaskstore_tasks GROUP BY queue, status
UNION ALL
SELECT queue, status, count(*), NULL FROM aiotaskstore_history GROUP BY queue, status


-- name: register_dispatcher
INSERT INTO aiotaskstore_dispatchers (id, name, host, pid, lease, started_at, heartbeat_at)
VALUES (:id, :name, :host, :pid, :lease, :now, :now)

-- name: beat
UPDATE aiotaskstore_dispatchers SET heartbeat_at = :now WHERE id = :id

-- name: known_dispatcher
SELECT 1 FROM aiotaskstore_dispatchers WHERE id = :id

-- name: set_idle
UPDATE aiotaskstore_dispatchers SET idle = :idle WHERE id = :id

-- name: leave
DELETE FROM aiotaskstore_dispatchers WHERE id = :id

-- name: dead_dispatchers
SELECT id, name FROM aiotaskstore_dispatchers WHERE heartbeat_at < :later(0 - lease) AND id <> :me

-- name: lives
SELECT 1 FROM aiotaskstore_dispatchers WHERE id = :id AND heartbeat_at >= :later(0 - lease) FOR UPDATE

-- Running tasks of a dispatcher whose row is gone: it died between a claim and its last sign of life.
-- name: orphaned_dispatchers
SELECT DISTINCT t.dispatcher_id FROM aiotaskstore_tasks t
WHERE t.status = 3 AND NOT EXISTS (SELECT 1 FROM aiotaskstore_dispatchers d WHERE d.id = t.dispatcher_id)

-- name: running_of
SELECT id, fence FROM aiotaskstore_tasks WHERE dispatcher_id = :id AND status = 3 ORDER BY id LIMIT :limit

-- name: cancel_requests
SELECT id, fence, cancel_reason FROM aiotaskstore_tasks
WHERE dispatcher_id = :id AND status = 3 AND cancel_requested_at IS NOT NULL

-- name: dispatchers
SELECT id, name, host, pid, idle, started_at, heartbeat_at, :now FROM aiotaskstore_dispatchers ORDER BY started_at


-- name: definition
SELECT id, alias, title, description, memo, status, created_at, updated_at, deleted_at, defaults
FROM aiotaskstore_definitions WHERE alias = :alias AND deleted_at IS NULL

-- name: definition_aliases
SELECT alias FROM aiotaskstore_definitions WHERE deleted_at IS NULL
