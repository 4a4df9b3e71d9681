-- What MySQL 8 and MariaDB 10.6+ say differently. Batches arrive as one JSON document; what may be claimed also
-- stands in `ready`, and `tasks` is written by primary key only.
--
-- FORCE INDEX (PRIMARY) stands wherever rows are locked by a list of ids: the planner likes to scan a small table
-- instead, and a scan waits for every row that any open transaction has touched, and in a caller's REPEATABLE READ
-- transaction locks everything that it passes, gaps too.

-- name: insert_tasks
INSERT INTO aiotaskstore_tasks (
    id, queue, alias, priority, status, run_at, payload, max_attempts, timeout, on_stuck,
    owner_type, owner_id, source, parent_id, definition_id, external_id, serialization_key, strict,
    metadata, retention, created_at, updated_at)
SELECT
    UNHEX(d.id), d.queue, d.alias, d.priority,
    CASE WHEN d.run_at > :now OR d.delay > 0 THEN 0 ELSE 1 END,
    coalesce(d.run_at, :later(d.delay), :now),
    d.payload, d.max_attempts, d.timeout, d.on_stuck,
    d.owner_type, d.owner_id, d.source, UNHEX(d.parent_id), UNHEX(d.definition_id), d.external_id,
    d.serialization_key, d.strict, d.metadata, d.retention, :now, :now
FROM JSON_TABLE(:rows, '$[*]' COLUMNS (
    id CHAR(32) PATH '$[0]', queue VARCHAR(100) PATH '$[1]', alias VARCHAR(100) PATH '$[2]',
    priority INT PATH '$[3]', run_at DATETIME(6) PATH '$[4]', delay DOUBLE PATH '$[5]',
    payload LONGTEXT PATH '$[6]', max_attempts INT PATH '$[7]', timeout DOUBLE PATH '$[8]',
    on_stuck INT PATH '$[9]', owner_type VARCHAR(100) PATH '$[10]', owner_id VARCHAR(255) PATH '$[11]',
    source VARCHAR(100) PATH '$[12]', parent_id CHAR(32) PATH '$[13]', definition_id CHAR(32) PATH '$[14]',
    external_id VARCHAR(255) PATH '$[15]', serialization_key VARCHAR(255) PATH '$[16]',
    strict INT PATH '$[17]', metadata LONGTEXT PATH '$[18]', retention VARCHAR(100) PATH '$[19]')) d

-- name: insert_ready
INSERT INTO aiotaskstore_ready (id, queue, priority, run_at, alias)
SELECT id, queue, priority, run_at, alias FROM aiotaskstore_tasks FORCE INDEX (PRIMARY)
WHERE id IN :ids AND status = 1

-- name: delete_ready
DELETE r FROM aiotaskstore_ready r FORCE INDEX (PRIMARY) WHERE r.id IN :ids

-- Not INSERT IGNORE: it would hide every other error too.
-- name: insert_keys
INSERT INTO aiotaskstore_task_keys (alias, external_id, task_id)
SELECT d.alias, d.external_id, UNHEX(d.task_id)
FROM JSON_TABLE(:rows, '$[*]' COLUMNS (
    alias VARCHAR(100) PATH '$[0]', external_id VARCHAR(255) PATH '$[1]', task_id CHAR(32) PATH '$[2]')) d
ON DUPLICATE KEY UPDATE aiotaskstore_task_keys.task_id = aiotaskstore_task_keys.task_id

-- A locking read is current even inside a caller's REPEATABLE READ transaction.
-- name: key_owners
SELECT alias, external_id, task_id FROM aiotaskstore_task_keys FORCE INDEX (PRIMARY)
WHERE alias IN :aliases AND external_id IN :external_ids LOCK IN SHARE MODE

-- name: lock_keys
SELECT alias, external_id, task_id FROM aiotaskstore_task_keys FORCE INDEX (PRIMARY)
WHERE alias IN :aliases AND external_id IN :external_ids ORDER BY alias, external_id FOR UPDATE

-- name: take_over_keys
UPDATE JSON_TABLE(:rows, '$[*]' COLUMNS (
    alias VARCHAR(100) PATH '$[0]', external_id VARCHAR(255) PATH '$[1]', task_id CHAR(32) PATH '$[2]',
    old_id CHAR(32) PATH '$[3]')) d
STRAIGHT_JOIN aiotaskstore_task_keys k
    ON k.alias = d.alias COLLATE utf8mb4_bin AND k.external_id = d.external_id COLLATE utf8mb4_bin AND k.task_id = UNHEX(d.old_id)
SET k.task_id = UNHEX(d.task_id)

-- name: claim
SELECT {t.claim}, :now
FROM aiotaskstore_ready r FORCE INDEX (to_claim) STRAIGHT_JOIN aiotaskstore_tasks t ON t.id = r.id
WHERE r.queue = :queue AND r.alias IN :aliases
ORDER BY r.priority, r.run_at, r.id LIMIT :limit
FOR UPDATE SKIP LOCKED

-- name: mark_running
UPDATE aiotaskstore_tasks FORCE INDEX (PRIMARY)
SET status = 3, fence = fence + 1, attempt = attempt + 1, dispatcher_id = :dispatcher,
    started_at = :now, updated_at = :now
WHERE id IN :ids AND status = 1

-- Where SKIP LOCKED skips nothing: look without locks, take by the guard of mark_running, see what came.
-- name: claim_candidates
SELECT id FROM aiotaskstore_ready
WHERE queue = :queue AND alias IN :aliases ORDER BY priority, run_at, id LIMIT :limit

-- name: claimed_among
SELECT {claim}, started_at FROM aiotaskstore_tasks
WHERE id IN :ids AND status = 3 AND dispatcher_id = :dispatcher

-- name: probe_lock
SELECT version FROM aiotaskstore_migrations ORDER BY version FOR UPDATE

-- name: probe_skip
SELECT version FROM aiotaskstore_migrations ORDER BY version FOR UPDATE SKIP LOCKED

-- name: bury
INSERT INTO aiotaskstore_history (
    {carried}, run_at, payload, attempt, fence, cancel_requested_at, dispatcher_id, started_at,
    status, updated_at, result, error, finish_reason, cancel_reason, finished_at, cancelled_at, expires_at)
SELECT STRAIGHT_JOIN {t.carried}, t.run_at, IF(d.keep_payload, t.payload, NULL), t.attempt, t.fence,
    t.cancel_requested_at, t.dispatcher_id, t.started_at,
    d.status, :now, d.result, d.error, d.reason, coalesce(d.why, t.cancel_reason), :now,
    IF(d.status = 7, :now, NULL), :later(d.expires_in)
FROM JSON_TABLE(:rows, '$[*]' COLUMNS (
    id CHAR(32) PATH '$[0]', status INT PATH '$[1]', result LONGTEXT PATH '$[2]', error LONGTEXT PATH '$[3]',
    reason VARCHAR(20) PATH '$[4]', why LONGTEXT PATH '$[5]', expires_in DOUBLE PATH '$[6]',
    keep_payload INT PATH '$[7]')) d
JOIN aiotaskstore_tasks t ON t.id = UNHEX(d.id)

-- name: give_back
UPDATE JSON_TABLE(:rows, '$[*]' COLUMNS (
    id CHAR(32) PATH '$[0]', delay DOUBLE PATH '$[1]', refund INT PATH '$[2]', void INT PATH '$[3]')) d
STRAIGHT_JOIN aiotaskstore_tasks t ON t.id = UNHEX(d.id)
SET t.status = IF(d.delay > 0, 0, 1), t.run_at = IF(d.delay IS NULL, t.run_at, :later(d.delay)),
    t.attempt = greatest(t.attempt - d.refund, 0), t.fence = t.fence + d.void, t.dispatcher_id = NULL,
    t.updated_at = :now

-- name: insert_errors
INSERT INTO aiotaskstore_task_errors (task_id, fence, attempt, type, message, at)
SELECT UNHEX(d.task_id), d.fence, d.attempt, d.type, d.message, :now
FROM JSON_TABLE(:rows, '$[*]' COLUMNS (
    task_id CHAR(32) PATH '$[0]', fence BIGINT PATH '$[1]', attempt INT PATH '$[2]',
    type LONGTEXT PATH '$[3]', message LONGTEXT PATH '$[4]')) d
ON DUPLICATE KEY UPDATE aiotaskstore_task_errors.fence = aiotaskstore_task_errors.fence

-- name: put_progress
INSERT INTO aiotaskstore_task_progress (task_id, text, fraction, at)
SELECT UNHEX(d.task_id), d.text, d.fraction, :now
FROM JSON_TABLE(:rows, '$[*]' COLUMNS (
    task_id CHAR(32) PATH '$[0]', text LONGTEXT PATH '$[1]', fraction DOUBLE PATH '$[2]')) d
ON DUPLICATE KEY UPDATE text = VALUES(text), fraction = VALUES(fraction), at = VALUES(at)

-- name: insert_details
INSERT INTO aiotaskstore_task_details (task_id, fence, line, text)
SELECT UNHEX(d.task_id), d.fence, d.line, d.text
FROM JSON_TABLE(:rows, '$[*]' COLUMNS (
    task_id CHAR(32) PATH '$[0]', fence BIGINT PATH '$[1]', line INT PATH '$[2]', text LONGTEXT PATH '$[3]')) d
ON DUPLICATE KEY UPDATE aiotaskstore_task_details.line = aiotaskstore_task_details.line

-- name: due
SELECT id, queue FROM aiotaskstore_tasks WHERE status = 0 AND run_at <= :now
ORDER BY run_at LIMIT :limit FOR UPDATE SKIP LOCKED

-- name: place_pending
UPDATE aiotaskstore_tasks FORCE INDEX (PRIMARY) SET status = 1, updated_at = :now WHERE id IN :ids

-- name: lock
SELECT {held} FROM aiotaskstore_tasks FORCE INDEX (PRIMARY) WHERE id IN :ids ORDER BY id FOR UPDATE

-- name: lock_running
SELECT fence FROM aiotaskstore_tasks FORCE INDEX (PRIMARY) WHERE id IN :ids AND status = 3 ORDER BY id FOR UPDATE

-- name: lock_finished
SELECT {held}, finish_reason, payload IS NULL FROM aiotaskstore_history FORCE INDEX (PRIMARY)
WHERE id IN :ids ORDER BY id FOR UPDATE

-- name: drop_keys
DELETE k FROM aiotaskstore_task_keys k FORCE INDEX (PRIMARY)
WHERE k.alias IN :aliases AND k.external_id IN :external_ids AND k.task_id IN :ids

-- name: drop_errors
DELETE e FROM aiotaskstore_task_errors e FORCE INDEX (PRIMARY) WHERE e.task_id IN :ids

-- name: drop_progress
DELETE p FROM aiotaskstore_task_progress p FORCE INDEX (PRIMARY) WHERE p.task_id IN :ids

-- name: drop_details
DELETE d FROM aiotaskstore_task_details d FORCE INDEX (PRIMARY) WHERE d.task_id IN :ids

-- name: delete_tasks
DELETE t FROM aiotaskstore_tasks t FORCE INDEX (PRIMARY) WHERE t.id IN :ids

-- name: delete_history
DELETE h FROM aiotaskstore_history h FORCE INDEX (PRIMARY) WHERE h.id IN :ids

-- name: request_cancel
UPDATE aiotaskstore_tasks FORCE INDEX (PRIMARY)
SET cancel_requested_at = :now, cancel_reason = :reason, updated_at = :now
WHERE id IN :ids AND status = 3 AND cancel_requested_at IS NULL

-- name: restart
UPDATE aiotaskstore_tasks FORCE INDEX (PRIMARY)
SET status = 1, attempt = 0, run_at = :now, fence = fence + 1, dispatcher_id = NULL, held_key = NULL,
    cancel_requested_at = NULL, cancel_reason = NULL, updated_at = :now, started_at = NULL
WHERE id IN :ids AND status <> 3

-- name: revive
INSERT INTO aiotaskstore_tasks ({carried}, payload, fence, status, attempt, run_at, updated_at)
SELECT {carried}, payload, fence + 1, 1, 0, :now, :now FROM aiotaskstore_history FORCE INDEX (PRIMARY)
WHERE id IN :ids

-- name: pending_queues
SELECT DISTINCT queue FROM aiotaskstore_ready

-- name: publish_definitions
INSERT INTO aiotaskstore_definitions (id, alias, title, description, memo, defaults, created_at, updated_at)
SELECT UNHEX(d.id), d.alias, d.title, d.description, '', d.defaults, :now, :now
FROM JSON_TABLE(:rows, '$[*]' COLUMNS (
    id CHAR(32) PATH '$[0]', alias VARCHAR(100) PATH '$[1]', title VARCHAR(255) PATH '$[2]',
    description LONGTEXT PATH '$[3]', defaults LONGTEXT PATH '$[4]')) d
ON DUPLICATE KEY UPDATE title = VALUES(title), description = VALUES(description), defaults = VALUES(defaults),
    updated_at = VALUES(updated_at)
