-- What MySQL 8 and MariaDB 10.6+ say differently. Batches arrive as one JSON document; what may be claimed also
-- stands in `ready`, and `tasks` is written by primary key only.
--
-- Rows are locked by joining them, in this order, to a document of ids. By `id IN (…)` the planner likes to scan: a
-- small table at any time, and any table from 1,000 ids on (MariaDB makes a subquery of them). A scan waits for every
-- row that any open transaction has touched, and in a caller's REPEATABLE READ transaction it locks all that it
-- passes, gaps too, so that nobody else could enqueue. FORCE INDEX keeps it from an index on the status.

-- list: ids
JSON_TABLE(:rows, '$[*]' COLUMNS (id CHAR(32) PATH '$[0]')) d

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
SELECT STRAIGHT_JOIN t.id, t.queue, t.priority, t.run_at, t.alias
FROM {ids} JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id) WHERE t.status = 1

-- name: take_ready
DELETE r FROM {ids} STRAIGHT_JOIN aiotaskstore_ready r FORCE INDEX (PRIMARY) ON r.id = UNHEX(d.id)

-- Only of those that stand there: looking for what does not would lock the gap where everybody inserts.
-- name: delete_ready
DELETE r FROM {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id) AND t.status = 1
STRAIGHT_JOIN aiotaskstore_ready r FORCE INDEX (PRIMARY) ON r.id = t.id

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
STRAIGHT_JOIN aiotaskstore_task_keys k FORCE INDEX (PRIMARY)
    ON k.alias = d.alias COLLATE utf8mb4_bin AND k.external_id = d.external_id COLLATE utf8mb4_bin
    AND k.task_id = UNHEX(d.old_id)
SET k.task_id = UNHEX(d.task_id)

-- The columns of a claim as the UPDATE that follows leaves them, since it gives no rows back. Instants as text:
-- the driver's reading of them took a tenth of a worker's time, and nearly no run looks at them.
-- list: taken
t.id, t.queue, t.alias, t.priority, CAST(t.run_at AS CHAR), t.payload, t.attempt + 1, t.max_attempts, t.timeout,
t.fence + 1, t.on_stuck, t.owner_type, t.owner_id, t.source, t.parent_id, t.definition_id, t.external_id,
t.serialization_key, t.strict, t.metadata, t.retention, CAST(t.created_at AS CHAR), CAST(:now AS CHAR)

-- name: claim
SELECT {taken}
FROM aiotaskstore_ready r FORCE INDEX (to_claim) STRAIGHT_JOIN aiotaskstore_tasks t ON t.id = r.id
WHERE r.queue = :queue AND r.alias IN :aliases
ORDER BY r.priority, r.run_at, r.id LIMIT :limit
FOR UPDATE SKIP LOCKED

-- name: mark_running
UPDATE {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
SET t.status = 3, t.fence = t.fence + 1, t.attempt = t.attempt + 1, t.dispatcher_id = :dispatcher,
    t.started_at = :now, t.updated_at = :now
WHERE t.status = 1

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
JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)

-- name: give_back
UPDATE JSON_TABLE(:rows, '$[*]' COLUMNS (
    id CHAR(32) PATH '$[0]', delay DOUBLE PATH '$[1]', refund INT PATH '$[2]', void INT PATH '$[3]')) d
STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
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
UPDATE {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
SET t.status = 1, t.updated_at = :now

-- name: lock
SELECT STRAIGHT_JOIN {t.held} FROM {ids} JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
ORDER BY t.id FOR UPDATE

-- name: lock_running
SELECT STRAIGHT_JOIN t.fence FROM {ids} JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
WHERE t.status = 3 ORDER BY t.id FOR UPDATE

-- name: lock_finished
SELECT STRAIGHT_JOIN {h.held}, h.finish_reason, h.payload IS NULL
FROM {ids} JOIN aiotaskstore_history h FORCE INDEX (PRIMARY) ON h.id = UNHEX(d.id) ORDER BY h.id FOR UPDATE

-- name: drop_errors
DELETE e FROM {ids} STRAIGHT_JOIN aiotaskstore_task_errors e FORCE INDEX (PRIMARY) ON e.task_id = UNHEX(d.id)

-- name: drop_progress
DELETE p FROM {ids} STRAIGHT_JOIN aiotaskstore_task_progress p FORCE INDEX (PRIMARY) ON p.task_id = UNHEX(d.id)

-- name: drop_details
DELETE l FROM {ids} STRAIGHT_JOIN aiotaskstore_task_details l FORCE INDEX (PRIMARY) ON l.task_id = UNHEX(d.id)

-- name: delete_tasks
DELETE t FROM {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)

-- name: delete_history
DELETE h FROM {ids} STRAIGHT_JOIN aiotaskstore_history h FORCE INDEX (PRIMARY) ON h.id = UNHEX(d.id)

-- name: request_cancel
UPDATE {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
SET t.cancel_requested_at = :now, t.cancel_reason = :reason, t.updated_at = :now
WHERE t.status = 3 AND t.cancel_requested_at IS NULL

-- name: restart
UPDATE {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
SET t.status = 1, t.attempt = 0, t.run_at = :now, t.fence = t.fence + 1, t.dispatcher_id = NULL, t.held_key = NULL,
    t.cancel_requested_at = NULL, t.cancel_reason = NULL, t.updated_at = :now, t.started_at = NULL
WHERE t.status <> 3

-- name: revive
INSERT INTO aiotaskstore_tasks ({carried}, payload, fence, status, attempt, run_at, updated_at)
SELECT STRAIGHT_JOIN {h.carried}, h.payload, h.fence + 1, 1, 0, :now, :now
FROM {ids} JOIN aiotaskstore_history h FORCE INDEX (PRIMARY) ON h.id = UNHEX(d.id)

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
