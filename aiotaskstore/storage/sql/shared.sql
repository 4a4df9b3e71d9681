-- The statements that all three databases share. A dialect's file overrides by name.
--
-- `finish_reason` is one of FinishReason (finish_reason.py): ok, error, exhausted, timeout, stuck, handler, request,
-- interrupted, missing, unstorable, forced.

-- How a status is stored. No statement writes such a number: it says {pending}, which is filled in as the literal,
-- since the partial indexes serve only a statement with the literal in it. rows.py reads the numbers from here.
-- list: scheduled
0
-- list: pending
1
-- list: waiting
2
-- list: running
3
-- list: paused
4
-- list: succeeded
5
-- list: failed
6
-- list: cancelled
7
-- list: interrupted
8

-- Where a row goes that may run: {placed(x)}, where x is the condition that it is not due yet, and {due} where it is
-- known to be due. A due row with a serialization key waits for it, until a grant after the commit.
-- list: placed
CASE WHEN {given} THEN {scheduled} ELSE {due} END
-- list: due
CASE WHEN serialization_key IS NULL THEN {pending} ELSE {waiting} END

-- The same for rows of `tasks` that may hold their key already, and then keep it.
-- list: placed_again
CASE WHEN {given} THEN {scheduled} ELSE {due_again} END
-- list: due_again
CASE WHEN serialization_key IS NULL OR held_key IS NOT NULL THEN {pending} ELSE {waiting} END

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

-- What a decision about a task needs, in the order of the fields of LockedRow.
-- list: locked
id, fence, status, attempt, max_attempts, on_stuck, retention, cancel_requested_at, cancel_reason,
alias, external_id, queue, deleted_at, serialization_key

-- What a copy of a task has of it, in the order of the fields of NewTask, less those that no copy has.
-- list: copied
id, queue, alias, priority, payload, max_attempts, timeout, on_stuck,
owner_type, owner_id, source, parent_id, definition_id, serialization_key, strict,
metadata, retention


-- name: schema_version
SELECT max(version) FROM aiotaskstore_migrations

-- name: record_migration
INSERT INTO aiotaskstore_migrations (version, name, applied_at) VALUES (:version, :name, :now)


-- Locks in the order of ids, so two batches never deadlock.
-- name: lock
SELECT {locked} FROM aiotaskstore_tasks WHERE id IN :ids ORDER BY id FOR UPDATE

-- Those that nobody else has locked.
-- name: lock_free
SELECT {locked} FROM aiotaskstore_tasks WHERE id IN :ids ORDER BY id FOR UPDATE SKIP LOCKED

-- Which of these still run, as fences in the order of ids.
-- name: lock_running
SELECT fence FROM aiotaskstore_tasks WHERE id IN :ids AND status = {running} ORDER BY id FOR UPDATE

-- name: lock_running_free
SELECT fence FROM aiotaskstore_tasks WHERE id IN :ids AND status = {running} ORDER BY id FOR UPDATE SKIP LOCKED

-- name: lock_finished
SELECT {locked}, finish_reason, payload IS NULL FROM aiotaskstore_history WHERE id IN :ids ORDER BY id FOR UPDATE

-- name: lock_finished_free
SELECT {locked}, finish_reason, payload IS NULL FROM aiotaskstore_history
WHERE id IN :ids ORDER BY id FOR UPDATE SKIP LOCKED

-- name: live_among
SELECT id FROM aiotaskstore_tasks WHERE id IN :ids

-- Soft-deleted ones are no longer waited for.
-- name: unfinished_among
SELECT id FROM aiotaskstore_tasks WHERE id IN :ids AND deleted_at IS NULL

-- name: results_among
SELECT id, result FROM aiotaskstore_history WHERE id IN :ids AND status = {succeeded} AND deleted_at IS NULL

-- name: stored_among
SELECT id FROM aiotaskstore_tasks WHERE id IN :ids UNION ALL SELECT id FROM aiotaskstore_history WHERE id IN :ids

-- name: history_among
SELECT id FROM aiotaskstore_history WHERE id IN :ids

-- name: external_ids_among
SELECT id, alias, external_id, 1 FROM aiotaskstore_tasks WHERE id IN :ids
UNION ALL
SELECT id, alias, external_id, 0 FROM aiotaskstore_history WHERE id IN :ids

-- Whose tasks have these ids: enough of each to tell a task from another one that was given the same id.
-- name: contents_among
SELECT id, alias, payload FROM aiotaskstore_tasks WHERE id IN :ids
UNION ALL
SELECT id, alias, payload FROM aiotaskstore_history WHERE id IN :ids

-- name: key_owners
SELECT alias, external_id, task_id FROM aiotaskstore_task_keys
WHERE alias IN :aliases AND external_id IN :external_ids

-- name: lock_keys
SELECT alias, external_id, task_id FROM aiotaskstore_task_keys
WHERE alias IN :aliases AND external_id IN :external_ids ORDER BY alias, external_id FOR UPDATE

-- name: lock_keys_free
SELECT alias, external_id, task_id FROM aiotaskstore_task_keys
WHERE alias IN :aliases AND external_id IN :external_ids ORDER BY alias, external_id FOR UPDATE SKIP LOCKED

-- name: delete_keys
DELETE FROM aiotaskstore_task_keys
WHERE alias IN :aliases AND external_id IN :external_ids AND task_id IN :ids

-- name: delete_errors
DELETE FROM aiotaskstore_task_errors WHERE task_id IN :ids

-- name: delete_progress
DELETE FROM aiotaskstore_task_progress WHERE task_id IN :ids

-- name: delete_details
DELETE FROM aiotaskstore_task_details WHERE task_id IN :ids

-- name: delete_tasks
DELETE FROM aiotaskstore_tasks WHERE id IN :ids

-- name: delete_history
DELETE FROM aiotaskstore_history WHERE id IN :ids

-- name: request_cancel
UPDATE aiotaskstore_tasks SET cancel_requested_at = :now, cancel_reason = :reason, updated_at = :now
WHERE id IN :ids AND status = {running} AND cancel_requested_at IS NULL

-- An operator's retry of what has not finished: from the start, at once. The fence voids what is on its way.
-- name: restart
UPDATE aiotaskstore_tasks
SET status = {due}, attempt = 0, run_at = :now, fence = fence + 1, dispatcher_id = NULL, held_key = NULL,
    cancel_requested_at = NULL, cancel_reason = NULL, updated_at = :now, started_at = NULL
WHERE id IN :ids AND status <> {running}

-- An operator's retry of what has finished: the row comes back; delete_history follows.
-- name: revive
INSERT INTO aiotaskstore_tasks ({carried}, payload, fence, status, attempt, run_at, updated_at)
SELECT {carried}, payload, fence + 1, {due}, 0, :now, :now FROM aiotaskstore_history WHERE id IN :ids

-- name: pause
UPDATE aiotaskstore_tasks SET status = {paused}, held_key = NULL, updated_at = :now
WHERE id IN :ids AND status IN ({scheduled}, {pending}, {waiting})

-- name: resume
UPDATE aiotaskstore_tasks SET status = {placed(run_at > :now)}, held_key = NULL, updated_at = :now
WHERE id IN :ids AND status = {paused}

-- Another due time. What is paused stays paused.
-- name: reschedule
UPDATE aiotaskstore_tasks
SET status = CASE WHEN status = {paused} THEN {paused} ELSE {placed(:run_at > :now OR :delay > 0)} END,
    run_at = coalesce(:run_at, :later(:delay)), held_key = NULL, updated_at = :now
WHERE id IN :ids AND status IN ({scheduled}, {pending}, {waiting}, {paused})

-- The status stays. What runs keeps its claim, and its key with it.
-- name: soft_delete
UPDATE aiotaskstore_tasks
SET deleted_at = :now, held_key = CASE WHEN status = {running} THEN held_key END, updated_at = :now
WHERE id IN :ids AND deleted_at IS NULL

-- name: soft_delete_history
UPDATE aiotaskstore_history SET deleted_at = :now, updated_at = :now WHERE id IN :ids AND deleted_at IS NULL

-- name: restore
UPDATE aiotaskstore_tasks
SET deleted_at = NULL, held_key = CASE WHEN status = {running} THEN held_key END, updated_at = :now,
    status = CASE WHEN status IN ({running}, {paused}) THEN status ELSE {placed(run_at > :now)} END
WHERE id IN :ids AND deleted_at IS NOT NULL

-- name: restore_history
UPDATE aiotaskstore_history SET deleted_at = NULL, updated_at = :now WHERE id IN :ids AND deleted_at IS NOT NULL

-- Only what is given is written: a null leaves a column as it is, and for the timeout `keep_timeout` says so.
-- Another payload voids the fence: what an earlier run still makes of the former one is no result of this task.
-- name: update_tasks
UPDATE aiotaskstore_tasks
SET queue = coalesce(:queue, queue), priority = coalesce(:priority, priority), payload = coalesce(:payload, payload),
    metadata = coalesce(:metadata, metadata), max_attempts = coalesce(:max_attempts, max_attempts),
    timeout = CASE WHEN :keep_timeout THEN timeout ELSE :timeout END, fence = fence + :void, updated_at = :now
WHERE id IN :ids AND status <> {running}

-- name: update_history
UPDATE aiotaskstore_history
SET queue = coalesce(:queue, queue), priority = coalesce(:priority, priority), payload = coalesce(:payload, payload),
    metadata = coalesce(:metadata, metadata), max_attempts = coalesce(:max_attempts, max_attempts),
    timeout = CASE WHEN :keep_timeout THEN timeout ELSE :timeout END,
    fence = fence + CASE WHEN status = {succeeded} THEN 0 ELSE :void END, updated_at = :now
WHERE id IN :ids

-- name: metadata_live
SELECT id, metadata FROM aiotaskstore_tasks WHERE id IN :ids

-- name: metadata_finished
SELECT id, metadata FROM aiotaskstore_history WHERE id IN :ids

-- name: copy_live
SELECT {copied} FROM aiotaskstore_tasks WHERE id IN :ids

-- name: copy_finished
SELECT {copied} FROM aiotaskstore_history WHERE id IN :ids

-- What is on its way with the claim these rows have had is dropped.
-- name: void_claims
UPDATE aiotaskstore_tasks SET fence = fence + 1 WHERE id IN :ids

-- What runs, and who runs it: of dispatchers that are dead, or for longer than so many seconds.
-- name: stuck
SELECT t.id, t.fence, t.queue, t.dispatcher_id
FROM aiotaskstore_tasks t LEFT JOIN aiotaskstore_dispatchers d ON d.id = t.dispatcher_id
WHERE t.status = {running} AND (d.id IS NULL OR d.heartbeat_at < :heartbeat_later(0 - d.lease))
ORDER BY t.id

-- name: running_since
SELECT t.id, t.fence, t.queue, t.dispatcher_id
FROM aiotaskstore_tasks t WHERE t.status = {running} AND t.started_at <= :later(0 - :older_than)
ORDER BY t.id

-- name: key_holder
SELECT id FROM aiotaskstore_tasks WHERE held_key = :serialization_key

-- The task that a claim of this queue would take first.
-- name: peek
SELECT {kept}, {not_ended} FROM aiotaskstore_tasks
WHERE queue = :queue AND status = {pending} AND deleted_at IS NULL ORDER BY priority, run_at, id LIMIT 1

-- name: now
SELECT :now

-- name: next_due
SELECT min(run_at), :now FROM aiotaskstore_tasks WHERE status = {scheduled} AND deleted_at IS NULL

-- Which queues have pending tasks, without counting them: one index probe a queue.
-- name: pending_queues
WITH RECURSIVE q (queue) AS (
    SELECT min(queue) FROM aiotaskstore_tasks WHERE status = {pending} AND deleted_at IS NULL
    UNION ALL
    SELECT (SELECT min(t.queue) FROM aiotaskstore_tasks t
            WHERE t.status = {pending} AND t.deleted_at IS NULL AND t.queue > q.queue)
    FROM q WHERE q.queue IS NOT NULL
)
SELECT queue FROM q WHERE queue IS NOT NULL

-- How many pending tasks a queue has, at most :limit, and which of these is due first: the first entries of the index.
-- name: pending_depth
SELECT count(*), min(run_at), :now FROM (
    SELECT run_at FROM aiotaskstore_tasks
    WHERE queue = :queue AND status = {pending} AND deleted_at IS NULL ORDER BY priority, run_at, id LIMIT :limit) d

-- The same by queue for other statuses, of which :limit are counted over all queues together. Their order is that of an
-- index, so that none of them reads more than it counts.
-- name: scheduled_depths
SELECT queue, count(*), min(run_at), :now FROM (
    SELECT queue, run_at FROM aiotaskstore_tasks
    WHERE status = {scheduled} AND deleted_at IS NULL ORDER BY run_at LIMIT :limit) d GROUP BY queue

-- name: waiting_depths
SELECT queue, count(*), min(run_at), :now FROM (
    SELECT queue, run_at FROM aiotaskstore_tasks
    WHERE status = {waiting} AND deleted_at IS NULL ORDER BY serialization_key, priority, run_at, id LIMIT :limit) d
GROUP BY queue

-- name: running_depths
SELECT queue, count(*), min(run_at), :now FROM (
    SELECT queue, run_at FROM aiotaskstore_tasks
    WHERE status = {running} AND deleted_at IS NULL ORDER BY dispatcher_id LIMIT :limit) d GROUP BY queue

-- At most :limit serialization keys for which tasks wait, in order, each with whether it is free: one probe a key, and a
-- level of recursion.
-- The scalar subqueries keep a planner from reading every row once instead.
-- name: waiting_keys
WITH RECURSIVE k (serialization_key, number) AS (
    SELECT min(serialization_key), 1 FROM aiotaskstore_tasks
    WHERE status = {waiting} AND deleted_at IS NULL AND serialization_key > :after
    UNION ALL
    SELECT (SELECT min(t.serialization_key) FROM aiotaskstore_tasks t
            WHERE t.status = {waiting} AND t.deleted_at IS NULL AND t.serialization_key > k.serialization_key),
        k.number + 1
    FROM k WHERE k.serialization_key IS NOT NULL AND k.number < :limit
)
SELECT serialization_key,
    CASE WHEN (SELECT 1 FROM aiotaskstore_tasks h WHERE h.held_key = k.serialization_key LIMIT 1) IS NULL
         THEN 1 ELSE 0 END
FROM k WHERE serialization_key IS NOT NULL

-- name: pending_aliases
SELECT DISTINCT alias FROM aiotaskstore_tasks WHERE status = {pending} AND deleted_at IS NULL

-- name: expired
SELECT id, alias, external_id FROM aiotaskstore_history
WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED

-- name: errors_of
SELECT task_id, attempt, at, type, message, traceback, left_out FROM aiotaskstore_task_errors WHERE task_id IN :ids
ORDER BY task_id, fence

-- How long each error of these tasks is, for bounds.py.
-- name: sizes_of_errors
SELECT task_id, fence, length(type) + length(message) + coalesce(length(traceback), 0), left_out
FROM aiotaskstore_task_errors WHERE task_id IN :ids ORDER BY task_id, fence

-- name: sizes_of_details
SELECT task_id, fence, line, length(text), left_out
FROM aiotaskstore_task_details WHERE task_id IN :ids ORDER BY task_id, fence, line

-- name: progress_of
SELECT task_id, text, fraction, at FROM aiotaskstore_task_progress WHERE task_id IN :ids

-- name: details_of
SELECT task_id, text, left_out FROM aiotaskstore_task_details WHERE task_id IN :ids ORDER BY task_id, fence, line

-- name: status
SELECT status FROM aiotaskstore_tasks WHERE id = :id AND deleted_at IS NULL
UNION ALL
SELECT status FROM aiotaskstore_history WHERE id = :id AND deleted_at IS NULL

-- How many tasks a queue has in each status, and since when the oldest of them is due.
-- name: counts
SELECT queue, status, count(*), min(CASE WHEN run_at <= :now THEN run_at END)
FROM aiotaskstore_tasks WHERE deleted_at IS NULL GROUP BY queue, status
UNION ALL
SELECT queue, status, count(*), NULL FROM aiotaskstore_history WHERE deleted_at IS NULL GROUP BY queue, status


-- name: register
INSERT INTO aiotaskstore_dispatchers (
    id, name, host, pid, lease, version, schema_version, serves, started_at, heartbeat_at)
VALUES (:id, :name, :host, :pid, :lease, :library_version, :schema_version, :serves, :heartbeat_now, :heartbeat_now)

-- name: heartbeat
UPDATE aiotaskstore_dispatchers SET heartbeat_at = :heartbeat_now WHERE id = :id

-- name: known_dispatcher
SELECT 1 FROM aiotaskstore_dispatchers WHERE id = :id

-- name: set_idle
UPDATE aiotaskstore_dispatchers SET idle = :idle WHERE id = :id

-- name: deregister
DELETE FROM aiotaskstore_dispatchers WHERE id = :id

-- name: heartbeats
SELECT id, heartbeat_at, lease, CASE WHEN heartbeat_at < :heartbeat_later(0 - lease) THEN 1 ELSE 0 END
FROM aiotaskstore_dispatchers WHERE id <> :me

-- A dispatcher's row, unless somebody has locked it: perhaps itself, with a heartbeat on its way.
-- name: lock_dispatcher
SELECT heartbeat_at, CASE WHEN heartbeat_at < :heartbeat_later(0 - lease) THEN 1 ELSE 0 END
FROM aiotaskstore_dispatchers WHERE id = :id FOR UPDATE SKIP LOCKED

-- Those that nobody has locked; who waits for no lock needs no order.
-- name: lock_running_of
SELECT {locked} FROM aiotaskstore_tasks WHERE dispatcher_id = :id AND status = {running}
LIMIT :limit FOR UPDATE SKIP LOCKED

-- Running tasks of a dispatcher whose row is gone: it died between a claim and its last heartbeat.
-- name: orphaned_dispatchers
SELECT DISTINCT t.dispatcher_id FROM aiotaskstore_tasks t
WHERE t.status = {running} AND NOT EXISTS (SELECT 1 FROM aiotaskstore_dispatchers d WHERE d.id = t.dispatcher_id)

-- name: running_of
SELECT id, fence FROM aiotaskstore_tasks WHERE dispatcher_id = :id AND status = {running} ORDER BY id LIMIT :limit

-- name: cancel_requests
SELECT id, fence, cancel_reason FROM aiotaskstore_tasks
WHERE dispatcher_id = :id AND status = {running} AND cancel_requested_at IS NOT NULL

-- name: dispatchers
SELECT id, name, host, pid, idle, started_at, heartbeat_at, :heartbeat_now,
    CASE WHEN heartbeat_at < :heartbeat_later(0 - lease) THEN 1 ELSE 0 END, version, serves
FROM aiotaskstore_dispatchers ORDER BY started_at

-- Those alive whose library is older than these tables: what came after it, it ignores.
-- name: older_dispatchers
SELECT id, name, host, pid, version, coalesce(schema_version, 1) FROM aiotaskstore_dispatchers
WHERE coalesce(schema_version, 1) < :schema_version AND heartbeat_at >= :heartbeat_later(0 - lease) ORDER BY started_at


-- What no dispatcher may claim; each reads it about once a second.
-- name: restrictions
SELECT 'queue', name FROM aiotaskstore_queues WHERE paused_at IS NOT NULL
UNION ALL
SELECT 'definition', alias FROM aiotaskstore_definitions WHERE status = 'cancelled' AND deleted_at IS NULL

-- name: queues
SELECT name, paused_at, pause_reason FROM aiotaskstore_queues ORDER BY name

-- name: queue_paused
SELECT 1 FROM aiotaskstore_queues WHERE name = :name AND paused_at IS NOT NULL

-- Since when it is paused stays, where it is paused already.
-- name: pause_queue
INSERT INTO aiotaskstore_queues AS q (name, paused_at, pause_reason, created_at, updated_at)
VALUES (:name, :now, :reason, :now, :now)
ON CONFLICT (name) DO UPDATE
SET paused_at = coalesce(q.paused_at, excluded.paused_at), pause_reason = excluded.pause_reason,
    updated_at = excluded.updated_at

-- name: resume_queue
UPDATE aiotaskstore_queues SET paused_at = NULL, pause_reason = NULL, updated_at = :now WHERE name = :name


-- What a definition's record has, in the order that rows.py reads.
-- list: definition_record
id, alias, title, description, memo, status, created_at, updated_at, deleted_at, defaults

-- name: definition
SELECT {definition_record} FROM aiotaskstore_definitions WHERE alias = :alias AND deleted_at IS NULL

-- name: definition_by_id
SELECT {definition_record} FROM aiotaskstore_definitions WHERE id = :id

-- name: definitions
SELECT {definition_record} FROM aiotaskstore_definitions WHERE deleted_at IS NULL ORDER BY alias

-- What every enqueue needs to know of definitions; read about once a second by each process that enqueues.
-- name: known_definitions
SELECT alias, id, status FROM aiotaskstore_definitions WHERE deleted_at IS NULL

-- name: create_definition
INSERT INTO aiotaskstore_definitions (id, alias, title, description, memo, status, defaults, created_at, updated_at)
VALUES (:id, :alias, :title, :description, :memo, :definition_status, '{}', :now, :now)
ON CONFLICT DO NOTHING

-- A text that is NULL stays as it is, whatever others write to it at the same time.
-- name: update_definition
UPDATE aiotaskstore_definitions
SET title = coalesce(:title, title), description = coalesce(:description, description), memo = coalesce(:memo, memo),
    updated_at = :now
WHERE id = :id AND deleted_at IS NULL

-- name: set_definition_status
UPDATE aiotaskstore_definitions SET status = :definition_status, updated_at = :now
WHERE id = :id AND deleted_at IS NULL AND status <> :definition_status

-- name: soft_delete_definition
UPDATE aiotaskstore_definitions SET deleted_at = :now, updated_at = :now WHERE id = :id AND deleted_at IS NULL

-- name: restore_definition
UPDATE aiotaskstore_definitions SET deleted_at = NULL, updated_at = :now WHERE id = :id AND deleted_at IS NOT NULL

-- name: delete_definition
DELETE FROM aiotaskstore_definitions WHERE id = :id

-- The columns of a schedule, in the order of the fields of ScheduleRow.
-- list: schedule
id, name, description, status, alias, queue, payload, options, recurrence, starts_at, ends_at,
execution_count, max_executions, misfire, run_on_start, code_owned, last_run_at, next_run_at, error, deleted_at,
revision, created_at, updated_at

-- name: lock_schedule
SELECT {schedule} FROM aiotaskstore_schedules WHERE id = :id FOR UPDATE

-- Those that nobody else has locked.
-- name: lock_schedules
SELECT id, revision FROM aiotaskstore_schedules WHERE id IN :ids ORDER BY id FOR UPDATE SKIP LOCKED

-- name: schedules_named
SELECT {schedule} FROM aiotaskstore_schedules WHERE name IN :names AND deleted_at IS NULL

-- name: schedule
SELECT {schedule} FROM aiotaskstore_schedules WHERE id = :id

-- When the first schedule is due, when the first will be that is not due yet, and whether one has no next instant.
-- name: look_at_schedules
SELECT :now,
    (SELECT next_run_at FROM aiotaskstore_schedules
     WHERE status = 'active' AND deleted_at IS NULL AND next_run_at <= :now ORDER BY next_run_at LIMIT 1),
    (SELECT next_run_at FROM aiotaskstore_schedules
     WHERE status = 'active' AND deleted_at IS NULL AND next_run_at > :now ORDER BY next_run_at LIMIT 1),
    EXISTS (SELECT 1 FROM aiotaskstore_schedules
            WHERE status = 'active' AND deleted_at IS NULL AND next_run_at IS NULL)

-- name: due_schedules
SELECT {schedule} FROM aiotaskstore_schedules
WHERE status = 'active' AND deleted_at IS NULL AND next_run_at <= :until
    AND (next_run_at > :after_at OR (next_run_at = :after_at AND id > :after_id))
ORDER BY next_run_at, id LIMIT :limit

-- name: schedules_without_next
SELECT {schedule} FROM aiotaskstore_schedules
WHERE status = 'active' AND deleted_at IS NULL AND next_run_at IS NULL AND id > :after_id
ORDER BY id LIMIT :limit

-- Which run when a dispatcher starts, and have not lately.
-- name: schedules_to_start
SELECT {schedule} FROM aiotaskstore_schedules
WHERE status = 'active' AND deleted_at IS NULL AND run_on_start
    AND (last_start_at IS NULL OR last_start_at <= :later(:ago)) AND id > :after_id
ORDER BY id LIMIT :limit

-- name: delete_schedule
DELETE FROM aiotaskstore_schedules WHERE id = :id


-- What a diagnosis reads: unfinished tasks, who runs them, how the newest of the others ended, and the schedules.
-- name: backlog
SELECT queue, alias, status, count(*), sum(CASE WHEN run_at <= :now THEN 1 ELSE 0 END),
    min(CASE WHEN run_at <= :now THEN run_at END), :now
FROM aiotaskstore_tasks WHERE deleted_at IS NULL GROUP BY queue, alias, status

-- name: claims
SELECT dispatcher_id, count(*), min(started_at) FROM aiotaskstore_tasks WHERE status = {running} GROUP BY dispatcher_id

-- name: newest_outcomes
SELECT status, alias, count(*)
FROM (SELECT status, alias FROM aiotaskstore_history ORDER BY id DESC LIMIT 2000) newest GROUP BY status, alias

-- name: schedule_states
SELECT name, alias, status, next_run_at, code_owned, error, :now
FROM aiotaskstore_schedules WHERE deleted_at IS NULL ORDER BY name
