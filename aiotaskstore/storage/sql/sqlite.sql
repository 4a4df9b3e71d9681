-- The statements of SQLite. Everything runs under the file's one write lock, so nothing locks rows; batches
-- run inside the writer's thread, in one transaction: row by row, or where it counts as `VALUES :rows`, some rows at
-- once (two thirds of the time, and the interpreter's lock changes hands a fiftieth as often). INSERT comes before
-- WITH: by a statement's first word Python's sqlite3 knows that a caller's connection must open a transaction.

-- name: lock
SELECT {locked} FROM aiotaskstore_tasks WHERE id IN :ids

-- name: lock_free
SELECT {locked} FROM aiotaskstore_tasks WHERE id IN :ids

-- name: lock_running
SELECT fence FROM aiotaskstore_tasks WHERE id IN :ids AND status = {running} ORDER BY id

-- name: lock_running_free
SELECT fence FROM aiotaskstore_tasks WHERE id IN :ids AND status = {running} ORDER BY id

-- name: lock_finished
SELECT {locked}, finish_reason, payload IS NULL FROM aiotaskstore_history WHERE id IN :ids

-- name: lock_finished_free
SELECT {locked}, finish_reason, payload IS NULL FROM aiotaskstore_history WHERE id IN :ids

-- name: lock_keys
SELECT alias, external_id, task_id FROM aiotaskstore_task_keys
WHERE alias IN :aliases AND external_id IN :external_ids

-- name: lock_keys_free
SELECT alias, external_id, task_id FROM aiotaskstore_task_keys
WHERE alias IN :aliases AND external_id IN :external_ids

-- name: lock_dispatcher
SELECT heartbeat_at, CASE WHEN heartbeat_at < :heartbeat_later(0 - lease) THEN 1 ELSE 0 END
FROM aiotaskstore_dispatchers WHERE id = :id

-- name: lock_running_of
SELECT {locked} FROM aiotaskstore_tasks WHERE dispatcher_id = :id AND status = {running} LIMIT :limit

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
    {placed(run_at > :now OR delay > 0)},
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
SET status = {running}, fence = fence + 1, attempt = attempt + 1, dispatcher_id = :dispatcher,
    started_at = :now, updated_at = :now
WHERE id IN (
    SELECT id FROM aiotaskstore_tasks
    WHERE queue = :queue AND status = {pending} AND deleted_at IS NULL AND alias IN :aliases
    ORDER BY priority, run_at, id LIMIT :limit)
RETURNING {claim}, started_at

-- CROSS: for each of d look into tasks, never the other way round.
-- name: archive
INSERT INTO aiotaskstore_history (
    {carried}, run_at, payload, attempt, fence, cancel_requested_at, dispatcher_id, started_at,
    status, updated_at, result, error, finish_reason, cancel_reason, finished_at, cancelled_at, expires_at)
WITH d (id, status, result, error, reason, why, expires_in, keep_payload) AS (VALUES :rows)
SELECT {t.carried}, t.run_at, CASE WHEN d.keep_payload THEN t.payload END, t.attempt, t.fence,
    t.cancel_requested_at, t.dispatcher_id, t.started_at,
    d.status, :now, d.result, d.error, d.reason, coalesce(d.why, t.cancel_reason), :now,
    CASE WHEN d.status = {cancelled} THEN :now END, :later(d.expires_in)
FROM d CROSS JOIN aiotaskstore_tasks t ON t.id = d.id

-- Another end of finished tasks: a late success, or an operator's word.
-- name: correct_history
UPDATE aiotaskstore_history
SET status = :status, result = :result, error = :error, finish_reason = :reason, expires_at = :later(:expires_in),
    payload = CASE WHEN :keep_payload THEN payload END, fence = fence + :void, finished_at = :now, updated_at = :now
WHERE id = :id

-- name: return_to_queue
UPDATE aiotaskstore_tasks
SET status = {placed_again(:delay > 0)},
    held_key = CASE WHEN :delay > 0 AND NOT strict OR deleted_at IS NOT NULL THEN NULL ELSE held_key END,
    run_at = CASE WHEN :delay IS NULL THEN run_at ELSE :later(:delay) END,
    attempt = max(attempt - :refund, 0), fence = fence + :void, dispatcher_id = NULL, updated_at = :now
WHERE id = :id

-- name: insert_errors
INSERT INTO aiotaskstore_task_errors (task_id, fence, attempt, type, message, traceback, at)
VALUES (:task_id, :fence, :attempt, :type, :message, :traceback, :now)
ON CONFLICT DO NOTHING

-- name: mark_errors_left_out
UPDATE aiotaskstore_task_errors SET left_out = :left_out, type = '', message = '', traceback = NULL
WHERE task_id = :task_id AND fence = :fence

-- name: leave_out_errors
DELETE FROM aiotaskstore_task_errors WHERE task_id = :task_id AND fence > :fence AND fence < :end_fence

-- name: put_progress
INSERT INTO aiotaskstore_task_progress (task_id, text, fraction, at) VALUES (:task_id, :text, :fraction, :now)
ON CONFLICT (task_id) DO UPDATE SET text = excluded.text, fraction = excluded.fraction, at = excluded.at

-- name: insert_details
INSERT INTO aiotaskstore_task_details (task_id, fence, line, text, left_out)
VALUES (:task_id, :fence, :line, :text, :left_out)
ON CONFLICT DO NOTHING

-- name: mark_details_left_out
UPDATE aiotaskstore_task_details SET left_out = :left_out, text = ''
WHERE task_id = :task_id AND fence = :fence AND line = :line

-- name: leave_out_details
DELETE FROM aiotaskstore_task_details
WHERE task_id = :task_id AND (fence, line) > (:fence, :line) AND (fence, line) < (:end_fence, :end_line)

-- name: promote
UPDATE aiotaskstore_tasks SET status = {due_again}, updated_at = :now
WHERE id IN (
    SELECT id FROM aiotaskstore_tasks WHERE status = {scheduled} AND deleted_at IS NULL AND run_at <= :now
    ORDER BY run_at LIMIT :limit)
RETURNING queue, CASE WHEN status = {waiting} THEN serialization_key END

-- The first waiting row of a key that nobody holds.
-- name: grant_keys
UPDATE aiotaskstore_tasks SET status = {pending}, held_key = serialization_key, updated_at = :now
WHERE id = (
    SELECT id FROM aiotaskstore_tasks
    WHERE serialization_key = :serialization_key AND status = {waiting} AND deleted_at IS NULL
    ORDER BY priority, run_at, id LIMIT 1)
  AND NOT EXISTS (SELECT 1 FROM aiotaskstore_tasks WHERE held_key = :serialization_key)

-- The first waiting row of each of these keys that nobody holds; the keys are one JSON document.
-- list: candidate
t.id, t.queue, t.alias, t.priority, t.run_at, t.serialization_key

-- name: first_of_keys
SELECT {candidate}
FROM (SELECT DISTINCT value AS serialization_key FROM json_each(:document)) k CROSS JOIN aiotaskstore_tasks t ON t.id = (
    SELECT w.id FROM aiotaskstore_tasks w
    WHERE w.serialization_key = k.serialization_key AND w.status = {waiting} AND w.deleted_at IS NULL
    ORDER BY w.priority, w.run_at, w.id LIMIT 1)
WHERE NOT EXISTS (SELECT 1 FROM aiotaskstore_tasks h WHERE h.held_key = k.serialization_key)

-- name: claim_candidates
SELECT {candidate} FROM aiotaskstore_tasks t
WHERE t.queue = :queue AND t.status = {pending} AND t.deleted_at IS NULL AND t.alias IN :aliases
ORDER BY t.priority, t.run_at, t.id LIMIT :limit

-- name: run
UPDATE aiotaskstore_tasks
SET status = {running}, held_key = serialization_key, fence = fence + 1, attempt = attempt + 1,
    dispatcher_id = :dispatcher, started_at = :now, updated_at = :now
WHERE id IN :ids
RETURNING {claim}, started_at

-- name: queues_of_holders
SELECT DISTINCT queue FROM aiotaskstore_tasks WHERE held_key IN :keys AND status = {pending}

-- name: announce_definitions
INSERT INTO aiotaskstore_definitions (id, alias, title, description, defaults, created_at, updated_at)
VALUES (:id, :alias, :title, :description, :defaults, :now, :now)
ON CONFLICT DO NOTHING

-- name: publish_definitions
INSERT INTO aiotaskstore_definitions (id, alias, title, description, defaults, created_at, updated_at)
VALUES (:id, :alias, :title, :description, :defaults, :now, :now)
ON CONFLICT (alias) WHERE deleted_at IS NULL DO UPDATE
SET title = excluded.title, description = excluded.description, defaults = excluded.defaults,
    updated_at = excluded.updated_at

-- name: lock_schedules
SELECT id, revision FROM aiotaskstore_schedules WHERE id IN :ids

-- name: lock_schedule
SELECT {schedule} FROM aiotaskstore_schedules WHERE id = :id

-- name: insert_schedules
INSERT INTO aiotaskstore_schedules (
    id, name, description, status, alias, queue, payload, options, recurrence, starts_at, ends_at, execution_count,
    max_executions, misfire, run_on_start, code_owned, last_run_at, next_run_at, error, deleted_at, created_at, updated_at)
VALUES (
    :id, :name, :description, :schedule_status, :alias, :queue, :payload, :options, :recurrence, :starts_at,
    :ends_at, :execution_count, :max_executions, :misfire, :run_on_start, :code_owned, :last_run_at, :next_run_at,
    :error, :deleted_at, :now, :now)
ON CONFLICT DO NOTHING

-- name: update_schedules
UPDATE aiotaskstore_schedules
SET name = :name, description = :description, status = :schedule_status, alias = :alias, queue = :queue,
    payload = :payload, options = :options, recurrence = :recurrence, starts_at = :starts_at, ends_at = :ends_at,
    execution_count = :execution_count, max_executions = :max_executions, misfire = :misfire,
    run_on_start = :run_on_start, code_owned = :code_owned, last_run_at = :last_run_at, next_run_at = :next_run_at,
    error = :error, deleted_at = :deleted_at,
    revision = revision + 1, updated_at = :now
WHERE id = :id

-- name: advance_schedules
UPDATE aiotaskstore_schedules
SET next_run_at = :next_run_at, status = :schedule_status, error = :error,
    execution_count = execution_count + :executions,
    last_run_at = CASE WHEN :executions > 0 THEN :now ELSE last_run_at END,
    last_start_at = CASE WHEN :started THEN :now ELSE last_start_at END,
    revision = revision + 1, updated_at = :now
WHERE id = :id


-- What a diagnosis reads.
-- name: journal_mode
PRAGMA journal_mode

-- name: page_size
PRAGMA page_size

-- name: page_count
PRAGMA page_count

-- name: free_pages
PRAGMA freelist_count
