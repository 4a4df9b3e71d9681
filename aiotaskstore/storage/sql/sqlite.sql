-- What SQLite says differently. Everything runs under the file's one write lock, so nothing locks rows; batches
-- run inside the writer's thread, in one transaction: row by row, or where it counts as `VALUES :rows`, some rows at
-- once (two thirds of the time, and the interpreter's lock changes hands a fiftieth as often). INSERT comes before
-- WITH: by its first word, Python's sqlite3 knows that a caller's connection must open a transaction.

-- name: lock
SELECT {held} FROM aiotaskstore_tasks WHERE id IN :ids

-- name: lock_running
SELECT fence FROM aiotaskstore_tasks WHERE id IN :ids AND status = 3 ORDER BY id

-- name: lock_finished
SELECT {held}, finish_reason, payload IS NULL FROM aiotaskstore_history WHERE id IN :ids

-- name: lock_keys
SELECT alias, external_id, task_id FROM aiotaskstore_task_keys
WHERE alias IN :aliases AND external_id IN :external_ids

-- name: lives
SELECT 1 FROM aiotaskstore_dispatchers WHERE id = :id AND heartbeat_at >= :later(0 - lease)

-- name: expired
SELECT id, alias, external_id FROM aiotaskstore_history
WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit

-- name: insert_tasks
INSERT INTO aiotaskstore_tasks (
    id, queue, alias, priority, status, run_at, payload, max_attempts, timeout, on_stuck,
    owner_type, owner_id, source, parent_id, definition_id, external_id, serialization_key, strict,
    metadata, retention, created_at, updated_at)
WITH d (
    id, queue, alias, priority, run_at, delay, payload, max_attempts, timeout, on_stuck,
    owner_type, owner_id, source, parent_id, definition_id, external_id, serialization_key, strict,
    metadata, retention
) AS (VALUES :rows)
SELECT
    id, queue, alias, priority,
    CASE WHEN run_at > :now OR delay > 0 THEN 0 ELSE 1 END,
    coalesce(run_at, :later(delay), :now),
    payload, max_attempts, timeout, on_stuck,
    owner_type, owner_id, source, parent_id, definition_id, external_id, serialization_key, strict,
    metadata, retention, :now, :now
FROM d

-- name: insert_keys
INSERT INTO aiotaskstore_task_keys (alias, external_id, task_id) VALUES (:alias, :external_id, :task_id)
ON CONFLICT DO NOTHING

-- name: take_over_keys
UPDATE aiotaskstore_task_keys SET task_id = :task_id
WHERE alias = :alias AND external_id = :external_id AND task_id = :old_id

-- name: claim
UPDATE aiotaskstore_tasks
SET status = 3, fence = fence + 1, attempt = attempt + 1, dispatcher_id = :dispatcher,
    started_at = :now, updated_at = :now
WHERE id IN (
    SELECT id FROM aiotaskstore_tasks
    WHERE queue = :queue AND status = 1 AND alias IN :aliases
    ORDER BY priority, run_at, id LIMIT :limit)
RETURNING {claim}, started_at

-- CROSS: for each of d look into tasks, never the other way round.
-- name: bury
INSERT INTO aiotaskstore_history (
    {carried}, run_at, payload, attempt, fence, cancel_requested_at, dispatcher_id, started_at,
    status, updated_at, result, error, finish_reason, cancel_reason, finished_at, cancelled_at, expires_at)
WITH d (id, status, result, error, reason, why, expires_in, keep_payload) AS (VALUES :rows)
SELECT {t.carried}, t.run_at, CASE WHEN d.keep_payload THEN t.payload END, t.attempt, t.fence,
    t.cancel_requested_at, t.dispatcher_id, t.started_at,
    d.status, :now, d.result, d.error, d.reason, coalesce(d.why, t.cancel_reason), :now,
    CASE WHEN d.status = 7 THEN :now END, :later(d.expires_in)
FROM d CROSS JOIN aiotaskstore_tasks t ON t.id = d.id

-- name: give_back
UPDATE aiotaskstore_tasks
SET status = CASE WHEN :delay > 0 THEN 0 ELSE 1 END,
    run_at = CASE WHEN :delay IS NULL THEN run_at ELSE :later(:delay) END,
    attempt = max(attempt - :refund, 0), fence = fence + :void, dispatcher_id = NULL, updated_at = :now
WHERE id = :id

-- name: insert_errors
INSERT INTO aiotaskstore_task_errors (task_id, fence, attempt, type, message, at)
VALUES (:task_id, :fence, :attempt, :type, :message, :now)
ON CONFLICT DO NOTHING

-- name: put_progress
INSERT INTO aiotaskstore_task_progress (task_id, text, fraction, at) VALUES (:task_id, :text, :fraction, :now)
ON CONFLICT (task_id) DO UPDATE SET text = excluded.text, fraction = excluded.fraction, at = excluded.at

-- name: insert_details
INSERT INTO aiotaskstore_task_details (task_id, fence, line, text) VALUES (:task_id, :fence, :line, :text)
ON CONFLICT DO NOTHING

-- name: promote
UPDATE aiotaskstore_tasks SET status = 1, updated_at = :now
WHERE id IN (
    SELECT id FROM aiotaskstore_tasks WHERE status = 0 AND run_at <= :now ORDER BY run_at LIMIT :limit)
RETURNING queue

-- name: publish_definitions
INSERT INTO aiotaskstore_definitions (id, alias, title, description, defaults, created_at, updated_at)
VALUES (:id, :alias, :title, :description, :defaults, :now, :now)
ON CONFLICT (alias) WHERE deleted_at IS NULL DO UPDATE
SET title = excluded.title, description = excluded.description, defaults = excluded.defaults,
    updated_at = excluded.updated_at
