-- The statements of MySQL and MariaDB. Batches arrive as one JSON document; pending rows are also in `ready`,
-- and `tasks` is written by primary key only.
--
-- Rows are locked by joining them, in this order, to a document of ids. By `id IN (…)` the planner may scan: a
-- small table at any time, and any table from 1,000 ids on (MariaDB makes a subquery of them). A scan waits for every
-- row that any open transaction has touched, and in a caller's REPEATABLE READ transaction it locks all that it
-- passes, gaps too, so that nobody else could enqueue. FORCE INDEX keeps it from an index on the status.

-- The document is wrapped, since MySQL locks no row of a join with a bare JSON_TABLE (error 3569; MariaDB does), and
-- limited, so that the wrapping is not undone.
-- list: ids
(SELECT id FROM JSON_TABLE(:rows, '$[*]' COLUMNS (id CHAR(32) PATH '$[0]')) j LIMIT 1000000) d

-- Without it MariaDB gives a document's columns the database's default character set, and what that has no letters
-- for is stored as question marks.
-- list: unicode
CHARACTER SET utf8mb4

-- name: insert_tasks
INSERT INTO aiotaskstore_tasks (
    id, queue, alias, priority, status, run_at, payload, max_attempts, timeout, on_stuck,
    owner_type, owner_id, source, parent_id, definition_id, external_id, serialization_key, strict,
    metadata, retention, created_at, updated_at)
SELECT
    UNHEX(d.id), d.queue, d.alias, d.priority,
    {placed(d.run_at > :now OR d.delay > 0)},
    coalesce(d.run_at, :later(d.delay), :now),
    d.payload, d.max_attempts, d.timeout, d.on_stuck,
    d.owner_type, d.owner_id, d.source, UNHEX(d.parent_id), UNHEX(d.definition_id), d.external_id,
    d.serialization_key, d.strict, d.metadata, d.retention, :now, :now
FROM JSON_TABLE(:rows, '$[*]' COLUMNS (
    id CHAR(32) PATH '$[0]', queue VARCHAR(100) {unicode} PATH '$[1]', alias VARCHAR(100) {unicode} PATH '$[2]',
    priority INT PATH '$[3]', run_at DATETIME(6) PATH '$[4]', delay DOUBLE PATH '$[5]',
    payload LONGTEXT {unicode} PATH '$[6]', max_attempts INT PATH '$[7]', timeout DOUBLE PATH '$[8]',
    on_stuck INT PATH '$[9]', owner_type VARCHAR(100) {unicode} PATH '$[10]',
    owner_id VARCHAR(255) {unicode} PATH '$[11]', source VARCHAR(100) {unicode} PATH '$[12]',
    parent_id CHAR(32) PATH '$[13]', definition_id CHAR(32) PATH '$[14]',
    external_id VARCHAR(255) {unicode} PATH '$[15]', serialization_key VARCHAR(255) {unicode} PATH '$[16]',
    strict INT PATH '$[17]', metadata LONGTEXT {unicode} PATH '$[18]',
    retention VARCHAR(100) {unicode} PATH '$[19]')) d

-- name: insert_ready
INSERT INTO aiotaskstore_ready (id, queue, priority, run_at, alias)
SELECT STRAIGHT_JOIN t.id, t.queue, t.priority, t.run_at, t.alias
FROM {ids} JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
WHERE t.status = {pending} AND t.deleted_at IS NULL

-- name: take_ready
DELETE r FROM {ids} STRAIGHT_JOIN aiotaskstore_ready r FORCE INDEX (PRIMARY) ON r.id = UNHEX(d.id)

-- Only of those that are there: looking for others would lock the gap where everybody inserts.
-- name: delete_ready
DELETE r FROM {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
    AND t.status = {pending} AND t.deleted_at IS NULL
STRAIGHT_JOIN aiotaskstore_ready r FORCE INDEX (PRIMARY) ON r.id = t.id

-- Not INSERT IGNORE: it would hide every other error too.
-- name: insert_keys
INSERT INTO aiotaskstore_task_keys (alias, external_id, task_id)
SELECT d.alias, d.external_id, UNHEX(d.task_id)
FROM JSON_TABLE(:rows, '$[*]' COLUMNS (
    alias VARCHAR(100) {unicode} PATH '$[0]', external_id VARCHAR(255) {unicode} PATH '$[1]',
    task_id CHAR(32) PATH '$[2]')) d
ON DUPLICATE KEY UPDATE aiotaskstore_task_keys.task_id = aiotaskstore_task_keys.task_id

-- A locking read is current even inside a caller's REPEATABLE READ transaction. By exact pairs: there it locks the
-- gap around a key that does not exist, and nobody else could insert a neighbour of it.
-- list: pairs
(SELECT alias COLLATE utf8mb4_bin AS alias, external_id COLLATE utf8mb4_bin AS external_id
 FROM JSON_TABLE(:pairs, '$[*]' COLUMNS (
    alias VARCHAR(100) CHARACTER SET utf8mb4 PATH '$[0]',
    external_id VARCHAR(255) CHARACTER SET utf8mb4 PATH '$[1]')) j
 LIMIT 1000000) d
STRAIGHT_JOIN aiotaskstore_task_keys k FORCE INDEX (PRIMARY)
    ON k.alias = d.alias AND k.external_id = d.external_id

-- name: key_owners
SELECT k.alias, k.external_id, k.task_id FROM {pairs} LOCK IN SHARE MODE

-- name: key_owners_unlocked
SELECT k.alias, k.external_id, k.task_id FROM {pairs}

-- name: lock_keys
SELECT k.alias, k.external_id, k.task_id FROM {pairs} ORDER BY k.alias, k.external_id FOR UPDATE

-- name: lock_keys_free
SELECT k.alias, k.external_id, k.task_id FROM {pairs} ORDER BY k.alias, k.external_id FOR UPDATE SKIP LOCKED

-- name: lock_keys_now
SELECT k.alias, k.external_id, k.task_id FROM {pairs} FOR UPDATE NOWAIT

-- name: delete_keys
DELETE k FROM JSON_TABLE(:pairs, '$[*]' COLUMNS (
    alias VARCHAR(100) {unicode} PATH '$[0]', external_id VARCHAR(255) {unicode} PATH '$[1]',
    task_id CHAR(32) PATH '$[2]')) d
STRAIGHT_JOIN aiotaskstore_task_keys k FORCE INDEX (PRIMARY)
    ON k.alias = d.alias COLLATE utf8mb4_bin AND k.external_id = d.external_id COLLATE utf8mb4_bin
    AND k.task_id = UNHEX(d.task_id)

-- Fails where another open transaction has stored one of these, without waiting for it.
-- name: lock_ids_now
SELECT t.id FROM {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id) FOR UPDATE NOWAIT

-- In which half each of these is, as this transaction sees it.
-- name: halves
SELECT id, 1 FROM aiotaskstore_tasks WHERE id IN :ids
UNION ALL
SELECT id, 0 FROM aiotaskstore_history WHERE id IN :ids

-- name: take_over_keys
UPDATE JSON_TABLE(:rows, '$[*]' COLUMNS (
    alias VARCHAR(100) {unicode} PATH '$[0]', external_id VARCHAR(255) {unicode} PATH '$[1]',
    task_id CHAR(32) PATH '$[2]', old_id CHAR(32) PATH '$[3]')) d
STRAIGHT_JOIN aiotaskstore_task_keys k FORCE INDEX (PRIMARY)
    ON k.alias = d.alias COLLATE utf8mb4_bin AND k.external_id = d.external_id COLLATE utf8mb4_bin
    AND k.task_id = UNHEX(d.old_id)
SET k.task_id = UNHEX(d.task_id)

-- The columns of a claim as the UPDATE that follows leaves them, since it returns no rows. Instants as text:
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
SET t.status = {running}, t.fence = t.fence + 1, t.attempt = t.attempt + 1, t.dispatcher_id = :dispatcher,
    t.started_at = :now, t.updated_at = :now
WHERE t.status = {pending} AND t.deleted_at IS NULL

-- Where SKIP LOCKED skips nothing: look without locks, take by the guard of mark_running, see what came.
-- name: claim_candidates
SELECT id FROM aiotaskstore_ready
WHERE queue = :queue AND alias IN :aliases ORDER BY priority, run_at, id LIMIT :limit

-- name: claimed_among
SELECT {claim}, started_at FROM aiotaskstore_tasks
WHERE id IN :ids AND status = {running} AND dispatcher_id = :dispatcher

-- name: probe_lock
SELECT version FROM aiotaskstore_migrations ORDER BY version FOR UPDATE

-- name: probe_skip
SELECT version FROM aiotaskstore_migrations ORDER BY version FOR UPDATE SKIP LOCKED

-- name: archive
INSERT INTO aiotaskstore_history (
    {carried}, run_at, payload, attempt, fence, cancel_requested_at, dispatcher_id, started_at,
    status, updated_at, result, error, finish_reason, cancel_reason, finished_at, cancelled_at, expires_at)
SELECT STRAIGHT_JOIN {t.carried}, t.run_at, IF(d.keep_payload, t.payload, NULL), t.attempt, t.fence,
    t.cancel_requested_at, t.dispatcher_id, t.started_at,
    d.status, :now, d.result, d.error, d.reason, coalesce(d.why, t.cancel_reason), :now,
    IF(d.status = {cancelled}, :now, NULL), :later(d.expires_in)
FROM JSON_TABLE(:rows, '$[*]' COLUMNS (
    id CHAR(32) PATH '$[0]', status INT PATH '$[1]', result LONGTEXT {unicode} PATH '$[2]',
    error LONGTEXT {unicode} PATH '$[3]',
    reason VARCHAR(20) {unicode} PATH '$[4]', why LONGTEXT {unicode} PATH '$[5]', expires_in DOUBLE PATH '$[6]',
    keep_payload INT PATH '$[7]')) d
JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)

-- name: return_to_queue
UPDATE JSON_TABLE(:rows, '$[*]' COLUMNS (
    id CHAR(32) PATH '$[0]', delay DOUBLE PATH '$[1]', refund INT PATH '$[2]', void INT PATH '$[3]')) d
STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
SET t.status = {placed_again(d.delay > 0)},
    t.held_key = IF(d.delay > 0 AND NOT t.strict OR t.deleted_at IS NOT NULL, NULL, t.held_key),
    t.run_at = IF(d.delay IS NULL, t.run_at, :later(d.delay)),
    t.attempt = greatest(t.attempt - d.refund, 0), t.fence = t.fence + d.void, t.dispatcher_id = NULL,
    t.updated_at = :now

-- name: insert_errors
INSERT INTO aiotaskstore_task_errors (task_id, fence, attempt, type, message, traceback, at)
SELECT UNHEX(d.task_id), d.fence, d.attempt, d.type, d.message, d.traceback, :now
FROM JSON_TABLE(:rows, '$[*]' COLUMNS (
    task_id CHAR(32) PATH '$[0]', fence BIGINT PATH '$[1]', attempt INT PATH '$[2]',
    type LONGTEXT {unicode} PATH '$[3]', message LONGTEXT {unicode} PATH '$[4]',
    traceback LONGTEXT {unicode} PATH '$[5]')) d
ON DUPLICATE KEY UPDATE aiotaskstore_task_errors.fence = aiotaskstore_task_errors.fence

-- name: sizes_of_errors
SELECT task_id, fence, char_length(type) + char_length(message) + coalesce(char_length(traceback), 0), left_out
FROM aiotaskstore_task_errors WHERE task_id IN :ids ORDER BY task_id, fence

-- One row replaces those from there to before the end; the others are deleted.
-- name: mark_errors_left_out
UPDATE JSON_TABLE(:rows, '$[*]' COLUMNS (
    task_id CHAR(32) PATH '$[0]', fence BIGINT PATH '$[1]', left_out INT PATH '$[2]')) d
STRAIGHT_JOIN aiotaskstore_task_errors e FORCE INDEX (PRIMARY) ON e.task_id = UNHEX(d.task_id) AND e.fence = d.fence
SET e.left_out = d.left_out, e.type = '', e.message = '', e.traceback = NULL

-- name: leave_out_errors
DELETE e FROM JSON_TABLE(:rows, '$[*]' COLUMNS (
    task_id CHAR(32) PATH '$[0]', fence BIGINT PATH '$[1]', end_fence BIGINT PATH '$[2]')) d
STRAIGHT_JOIN aiotaskstore_task_errors e FORCE INDEX (PRIMARY)
    ON e.task_id = UNHEX(d.task_id) AND e.fence > d.fence AND e.fence < d.end_fence

-- name: put_progress
INSERT INTO aiotaskstore_task_progress (task_id, text, fraction, at)
SELECT UNHEX(d.task_id), d.text, d.fraction, :now
FROM JSON_TABLE(:rows, '$[*]' COLUMNS (
    task_id CHAR(32) PATH '$[0]', text LONGTEXT {unicode} PATH '$[1]', fraction DOUBLE PATH '$[2]')) d
ON DUPLICATE KEY UPDATE text = d.text, fraction = d.fraction, at = :now

-- name: insert_details
INSERT INTO aiotaskstore_task_details (task_id, fence, line, text, left_out)
SELECT UNHEX(d.task_id), d.fence, d.line, d.text, d.left_out
FROM JSON_TABLE(:rows, '$[*]' COLUMNS (
    task_id CHAR(32) PATH '$[0]', fence BIGINT PATH '$[1]', line INT PATH '$[2]', text LONGTEXT {unicode} PATH '$[3]',
    left_out INT PATH '$[4]')) d
ON DUPLICATE KEY UPDATE aiotaskstore_task_details.line = aiotaskstore_task_details.line

-- name: sizes_of_details
SELECT task_id, fence, line, char_length(text), left_out
FROM aiotaskstore_task_details WHERE task_id IN :ids ORDER BY task_id, fence, line

-- name: mark_details_left_out
UPDATE JSON_TABLE(:rows, '$[*]' COLUMNS (
    task_id CHAR(32) PATH '$[0]', fence BIGINT PATH '$[1]', line INT PATH '$[2]', left_out INT PATH '$[3]')) d
STRAIGHT_JOIN aiotaskstore_task_details l FORCE INDEX (PRIMARY)
    ON l.task_id = UNHEX(d.task_id) AND l.fence = d.fence AND l.line = d.line
SET l.left_out = d.left_out, l.text = ''

-- name: leave_out_details
DELETE l FROM JSON_TABLE(:rows, '$[*]' COLUMNS (
    task_id CHAR(32) PATH '$[0]', fence BIGINT PATH '$[1]', line INT PATH '$[2]', end_fence BIGINT PATH '$[3]',
    end_line INT PATH '$[4]')) d
STRAIGHT_JOIN aiotaskstore_task_details l FORCE INDEX (PRIMARY)
    ON l.task_id = UNHEX(d.task_id) AND l.fence >= d.fence AND l.fence <= d.end_fence
    AND (l.fence > d.fence OR l.line > d.line) AND (l.fence < d.end_fence OR l.line < d.end_line)

-- name: lock_due
SELECT id, queue, IF(held_key IS NULL, serialization_key, NULL) FROM aiotaskstore_tasks
WHERE status = {scheduled} AND deleted_at IS NULL AND run_at <= :now
ORDER BY run_at LIMIT :limit FOR UPDATE SKIP LOCKED

-- name: mark_pending
UPDATE {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
SET t.status = {due_again}, t.updated_at = :now

-- The first waiting row of each of these keys that nobody holds. Read without locks, which would be taken on the whole
-- range that is passed; the row is locked by its id then. The keys are given their collation in a table of their own:
-- MariaDB keeps the results of subqueries by the outer value, and in the document's collation "A" equals "a".
-- name: first_waiting
SELECT (
    SELECT t.id FROM aiotaskstore_tasks t FORCE INDEX (waiting)
    WHERE t.waiting_key = d.serialization_key ORDER BY t.waiting_key, t.priority, t.run_at, t.id LIMIT 1)
FROM (SELECT serialization_key COLLATE utf8mb4_bin AS serialization_key
      FROM JSON_TABLE(:rows, '$[*]' COLUMNS (serialization_key VARCHAR(255) {unicode} PATH '$[0]')) j
      LIMIT 1000000) d
WHERE NOT EXISTS (SELECT 1 FROM aiotaskstore_tasks h FORCE INDEX (held) WHERE h.held_key = d.serialization_key)

-- Two at once may have chosen different rows of a key; then the unique index refuses the later of them.
-- name: grant_keys
UPDATE {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
SET t.status = {pending}, t.held_key = t.serialization_key, t.updated_at = :now
WHERE t.status = {waiting} AND t.held_key IS NULL AND t.deleted_at IS NULL

-- Those of these rows that wait still, as a claim that grants them their keys and runs them at once leaves them.
-- name: lock_waiting
SELECT STRAIGHT_JOIN {taken}
FROM {ids} JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
WHERE t.status = {waiting} AND t.deleted_at IS NULL
FOR UPDATE SKIP LOCKED

-- name: run_waiting
UPDATE {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
SET t.status = {running}, t.held_key = t.serialization_key, t.fence = t.fence + 1, t.attempt = t.attempt + 1,
    t.dispatcher_id = :dispatcher, t.started_at = :now, t.updated_at = :now
WHERE t.status = {waiting} AND t.held_key IS NULL AND t.deleted_at IS NULL

-- Neither MySQL nor MariaDB jumps from key to key in an index, whatever it is told: so a look reads some entries, and the
-- next look goes on after the last key of these, however many tasks more wait for it.
-- name: waiting_keys
SELECT k.serialization_key,
    CASE WHEN EXISTS (SELECT 1 FROM aiotaskstore_tasks h FORCE INDEX (held) WHERE h.held_key = k.serialization_key)
         THEN 0 ELSE 1 END
FROM (SELECT DISTINCT waiting_key AS serialization_key
      FROM (SELECT waiting_key FROM aiotaskstore_tasks FORCE INDEX (waiting)
            WHERE waiting_key > :after ORDER BY waiting_key LIMIT :limit) w) k
ORDER BY k.serialization_key

-- name: lock
SELECT STRAIGHT_JOIN {t.locked} FROM {ids} JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
ORDER BY t.id FOR UPDATE

-- name: lock_free
SELECT STRAIGHT_JOIN {t.locked} FROM {ids} JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
ORDER BY t.id FOR UPDATE SKIP LOCKED

-- name: lock_running
SELECT STRAIGHT_JOIN t.fence FROM {ids} JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
WHERE t.status = {running} ORDER BY t.id FOR UPDATE

-- name: lock_running_free
SELECT STRAIGHT_JOIN t.fence FROM {ids} JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
WHERE t.status = {running} ORDER BY t.id FOR UPDATE SKIP LOCKED

-- name: lock_finished
SELECT STRAIGHT_JOIN {h.locked}, h.finish_reason, h.payload IS NULL
FROM {ids} JOIN aiotaskstore_history h FORCE INDEX (PRIMARY) ON h.id = UNHEX(d.id) ORDER BY h.id FOR UPDATE

-- name: lock_finished_free
SELECT STRAIGHT_JOIN {h.locked}, h.finish_reason, h.payload IS NULL
FROM {ids} JOIN aiotaskstore_history h FORCE INDEX (PRIMARY) ON h.id = UNHEX(d.id) ORDER BY h.id FOR UPDATE SKIP LOCKED

-- name: with_side_rows
SELECT DISTINCT 'errors', task_id FROM aiotaskstore_task_errors WHERE task_id IN :ids
UNION ALL
SELECT 'progress', task_id FROM aiotaskstore_task_progress WHERE task_id IN :ids
UNION ALL
SELECT DISTINCT 'details', task_id FROM aiotaskstore_task_details WHERE task_id IN :ids

-- name: delete_errors
DELETE e FROM {ids} STRAIGHT_JOIN aiotaskstore_task_errors e FORCE INDEX (PRIMARY) ON e.task_id = UNHEX(d.id)

-- name: delete_progress
DELETE p FROM {ids} STRAIGHT_JOIN aiotaskstore_task_progress p FORCE INDEX (PRIMARY) ON p.task_id = UNHEX(d.id)

-- name: delete_details
DELETE l FROM {ids} STRAIGHT_JOIN aiotaskstore_task_details l FORCE INDEX (PRIMARY) ON l.task_id = UNHEX(d.id)

-- name: delete_tasks
DELETE t FROM {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)

-- name: delete_history
DELETE h FROM {ids} STRAIGHT_JOIN aiotaskstore_history h FORCE INDEX (PRIMARY) ON h.id = UNHEX(d.id)

-- name: lock_running_of
SELECT {locked} FROM aiotaskstore_tasks FORCE INDEX (of_dispatcher) WHERE dispatcher_id = :id AND status = {running}
LIMIT :limit FOR UPDATE SKIP LOCKED

-- Where SKIP LOCKED skips nothing.
-- name: wait_for_dispatcher
SELECT heartbeat_at, CASE WHEN heartbeat_at < :heartbeat_later(0 - lease) THEN 1 ELSE 0 END
FROM aiotaskstore_dispatchers WHERE id = :id FOR UPDATE

-- name: request_cancel
UPDATE {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
SET t.cancel_requested_at = :now, t.cancel_reason = :reason, t.updated_at = :now
WHERE t.status = {running} AND t.cancel_requested_at IS NULL

-- name: restart
UPDATE {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
SET t.status = {due}, t.attempt = 0, t.run_at = :now, t.fence = t.fence + 1, t.dispatcher_id = NULL, t.held_key = NULL,
    t.cancel_requested_at = NULL, t.cancel_reason = NULL, t.updated_at = :now, t.started_at = NULL
WHERE t.status <> {running}

-- name: revive
INSERT INTO aiotaskstore_tasks ({carried}, payload, fence, status, attempt, run_at, updated_at)
SELECT STRAIGHT_JOIN {h.carried}, h.payload, h.fence + 1, {due}, 0, :now, :now
FROM {ids} JOIN aiotaskstore_history h FORCE INDEX (PRIMARY) ON h.id = UNHEX(d.id)

-- Another end of finished tasks: a late success, or an operator's word.
-- name: correct_history
UPDATE JSON_TABLE(:rows, '$[*]' COLUMNS (
    id CHAR(32) PATH '$[0]', status INT PATH '$[1]', result LONGTEXT {unicode} PATH '$[2]',
    error LONGTEXT {unicode} PATH '$[3]', reason VARCHAR(20) {unicode} PATH '$[4]', expires_in DOUBLE PATH '$[5]',
    keep_payload INT PATH '$[6]', void INT PATH '$[7]')) d
STRAIGHT_JOIN aiotaskstore_history h FORCE INDEX (PRIMARY) ON h.id = UNHEX(d.id)
SET h.status = d.status, h.result = d.result, h.error = d.error, h.finish_reason = d.reason,
    h.expires_at = :later(d.expires_in), h.payload = IF(d.keep_payload, h.payload, NULL), h.fence = h.fence + d.void,
    h.finished_at = :now, h.updated_at = :now

-- name: pause
UPDATE {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
SET t.status = {paused}, t.held_key = NULL, t.updated_at = :now
WHERE t.status IN ({scheduled}, {pending}, {waiting})

-- name: resume
UPDATE {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
SET t.status = {placed(t.run_at > :now)}, t.held_key = NULL, t.updated_at = :now
WHERE t.status = {paused}

-- name: reschedule
UPDATE {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
SET t.status = IF(t.status = {paused}, {paused}, {placed(:run_at > :now OR :delay > 0)}),
    t.run_at = coalesce(:run_at, :later(:delay)), t.held_key = NULL, t.updated_at = :now
WHERE t.status IN ({scheduled}, {pending}, {waiting}, {paused})

-- name: soft_delete
UPDATE {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
SET t.deleted_at = :now, t.held_key = IF(t.status = {running}, t.held_key, NULL), t.updated_at = :now
WHERE t.deleted_at IS NULL

-- name: soft_delete_history
UPDATE {ids} STRAIGHT_JOIN aiotaskstore_history h FORCE INDEX (PRIMARY) ON h.id = UNHEX(d.id)
SET h.deleted_at = :now, h.updated_at = :now
WHERE h.deleted_at IS NULL

-- name: restore
UPDATE {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
SET t.deleted_at = NULL, t.held_key = IF(t.status = {running}, t.held_key, NULL), t.updated_at = :now,
    t.status = IF(t.status IN ({running}, {paused}), t.status, {placed(t.run_at > :now)})
WHERE t.deleted_at IS NOT NULL

-- name: restore_history
UPDATE {ids} STRAIGHT_JOIN aiotaskstore_history h FORCE INDEX (PRIMARY) ON h.id = UNHEX(d.id)
SET h.deleted_at = NULL, h.updated_at = :now
WHERE h.deleted_at IS NOT NULL

-- name: update_tasks
UPDATE {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
SET t.queue = coalesce(:queue, t.queue), t.priority = coalesce(:priority, t.priority),
    t.payload = coalesce(:payload, t.payload), t.metadata = coalesce(:metadata, t.metadata),
    t.max_attempts = coalesce(:max_attempts, t.max_attempts), t.timeout = IF(:keep_timeout, t.timeout, :timeout),
    t.fence = t.fence + :void, t.updated_at = :now
WHERE t.status <> {running}

-- name: update_history
UPDATE {ids} STRAIGHT_JOIN aiotaskstore_history h FORCE INDEX (PRIMARY) ON h.id = UNHEX(d.id)
SET h.queue = coalesce(:queue, h.queue), h.priority = coalesce(:priority, h.priority),
    h.payload = coalesce(:payload, h.payload), h.metadata = coalesce(:metadata, h.metadata),
    h.max_attempts = coalesce(:max_attempts, h.max_attempts), h.timeout = IF(:keep_timeout, h.timeout, :timeout),
    h.fence = h.fence + IF(h.status = {succeeded}, 0, :void), h.updated_at = :now

-- Rows that are locked: a locking read is current also in a transaction with an older snapshot.
-- name: metadata_live
SELECT STRAIGHT_JOIN t.id, t.metadata FROM {ids} JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
FOR UPDATE

-- name: metadata_finished
SELECT STRAIGHT_JOIN h.id, h.metadata FROM {ids} JOIN aiotaskstore_history h FORCE INDEX (PRIMARY) ON h.id = UNHEX(d.id)
FOR UPDATE

-- name: copy_live
SELECT STRAIGHT_JOIN {t.copied} FROM {ids} JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id)
FOR UPDATE

-- name: copy_finished
SELECT STRAIGHT_JOIN {h.copied} FROM {ids} JOIN aiotaskstore_history h FORCE INDEX (PRIMARY) ON h.id = UNHEX(d.id)
FOR UPDATE

-- name: void_claims
UPDATE {ids} STRAIGHT_JOIN aiotaskstore_tasks t FORCE INDEX (PRIMARY) ON t.id = UNHEX(d.id) SET t.fence = t.fence + 1

-- name: peek
SELECT {t.kept}, {not_ended}
FROM aiotaskstore_ready r FORCE INDEX (to_claim) STRAIGHT_JOIN aiotaskstore_tasks t ON t.id = r.id
WHERE r.queue = :queue ORDER BY r.priority, r.run_at, r.id LIMIT 1

-- name: pending_queues
SELECT DISTINCT queue FROM aiotaskstore_ready

-- name: pending_depth
SELECT count(*), min(run_at), :now FROM (
    SELECT r.run_at FROM aiotaskstore_ready r FORCE INDEX (to_claim)
    WHERE r.queue = :queue ORDER BY r.priority, r.run_at, r.id LIMIT :limit) d

-- Here one index has every status, in the order of `run_at`.
-- name: scheduled_depths
SELECT queue, count(*), min(run_at), :now FROM (
    SELECT t.queue, t.run_at FROM aiotaskstore_tasks t FORCE INDEX (to_promote)
    WHERE t.status = {scheduled} AND t.deleted_at IS NULL ORDER BY t.run_at LIMIT :limit) d GROUP BY queue

-- name: waiting_depths
SELECT queue, count(*), min(run_at), :now FROM (
    SELECT t.queue, t.run_at FROM aiotaskstore_tasks t FORCE INDEX (to_promote)
    WHERE t.status = {waiting} AND t.deleted_at IS NULL ORDER BY t.run_at LIMIT :limit) d GROUP BY queue

-- name: running_depths
SELECT queue, count(*), min(run_at), :now FROM (
    SELECT t.queue, t.run_at FROM aiotaskstore_tasks t FORCE INDEX (to_promote)
    WHERE t.status = {running} AND t.deleted_at IS NULL ORDER BY t.run_at LIMIT :limit) d GROUP BY queue

-- Which of these queues have pending tasks: a probe a queue. With statistics of an empty table the statement above
-- reads the whole index instead of its first entry for each queue.
-- name: pending_among
SELECT d.queue FROM JSON_TABLE(:rows, '$[*]' COLUMNS (queue VARCHAR(100) {unicode} PATH '$[0]')) d
WHERE (SELECT 1 FROM aiotaskstore_ready r FORCE INDEX (to_claim)
       WHERE r.queue = d.queue COLLATE utf8mb4_bin LIMIT 1)

-- name: create_definition
INSERT INTO aiotaskstore_definitions (id, alias, title, description, memo, status, defaults, created_at, updated_at)
VALUES (:id, :alias, :title, :description, :memo, :definition_status, '{}', :now, :now)
ON DUPLICATE KEY UPDATE aiotaskstore_definitions.title = aiotaskstore_definitions.title

-- name: announce_definitions
INSERT INTO aiotaskstore_definitions (id, alias, title, description, memo, defaults, created_at, updated_at)
SELECT UNHEX(d.id), d.alias, d.title, d.description, '', d.defaults, :now, :now
FROM JSON_TABLE(:rows, '$[*]' COLUMNS (
    id CHAR(32) PATH '$[0]', alias VARCHAR(100) {unicode} PATH '$[1]', title VARCHAR(255) {unicode} PATH '$[2]',
    description LONGTEXT {unicode} PATH '$[3]', defaults LONGTEXT {unicode} PATH '$[4]')) d
ON DUPLICATE KEY UPDATE aiotaskstore_definitions.title = aiotaskstore_definitions.title

-- name: publish_definitions
INSERT INTO aiotaskstore_definitions (id, alias, title, description, memo, defaults, created_at, updated_at)
SELECT UNHEX(d.id), d.alias, d.title, d.description, '', d.defaults, :now, :now
FROM JSON_TABLE(:rows, '$[*]' COLUMNS (
    id CHAR(32) PATH '$[0]', alias VARCHAR(100) {unicode} PATH '$[1]', title VARCHAR(255) {unicode} PATH '$[2]',
    description LONGTEXT {unicode} PATH '$[3]', defaults LONGTEXT {unicode} PATH '$[4]')) d
ON DUPLICATE KEY UPDATE title = d.title, description = d.description, defaults = d.defaults, updated_at = :now

-- name: pause_queue
INSERT INTO aiotaskstore_queues (name, paused_at, pause_reason, created_at, updated_at)
VALUES (:name, :now, :reason, :now, :now)
ON DUPLICATE KEY UPDATE paused_at = coalesce(paused_at, :now), pause_reason = :reason, updated_at = :now

-- What the document of a batch of schedules holds, in the order of the fields of a schedule's row.
-- list: schedule_document
id CHAR(32) PATH '$[0]', name VARCHAR(100) {unicode} PATH '$[1]', description LONGTEXT {unicode} PATH '$[2]',
schedule_status VARCHAR(20) {unicode} PATH '$[3]', alias VARCHAR(100) {unicode} PATH '$[4]',
queue VARCHAR(100) {unicode} PATH '$[5]', payload LONGTEXT {unicode} PATH '$[6]',
options LONGTEXT {unicode} PATH '$[7]', recurrence LONGTEXT {unicode} PATH '$[8]',
starts_at DATETIME(6) PATH '$[9]', ends_at DATETIME(6) PATH '$[10]', execution_count BIGINT PATH '$[11]',
max_executions INT PATH '$[12]', misfire VARCHAR(20) {unicode} PATH '$[13]', run_on_start INT PATH '$[14]',
code_owned INT PATH '$[15]', last_run_at DATETIME(6) PATH '$[16]', next_run_at DATETIME(6) PATH '$[17]',
error LONGTEXT {unicode} PATH '$[18]', deleted_at DATETIME(6) PATH '$[19]'

-- name: insert_schedules
INSERT INTO aiotaskstore_schedules (
    id, name, description, status, alias, queue, payload, options, recurrence, starts_at, ends_at, execution_count,
    max_executions, misfire, run_on_start, code_owned, last_run_at, next_run_at, error, deleted_at, created_at, updated_at)
SELECT
    UNHEX(d.id), d.name, d.description, d.schedule_status, d.alias, d.queue, d.payload, d.options, d.recurrence,
    d.starts_at, d.ends_at, d.execution_count, d.max_executions, d.misfire, d.run_on_start, d.code_owned,
    d.last_run_at, d.next_run_at, d.error, d.deleted_at, :now, :now
FROM JSON_TABLE(:rows, '$[*]' COLUMNS (
    {schedule_document})) d
ON DUPLICATE KEY UPDATE aiotaskstore_schedules.revision = aiotaskstore_schedules.revision

-- name: update_schedules
UPDATE JSON_TABLE(:rows, '$[*]' COLUMNS (
    {schedule_document})) d
STRAIGHT_JOIN aiotaskstore_schedules s FORCE INDEX (PRIMARY) ON s.id = UNHEX(d.id)
SET s.name = d.name, s.description = d.description, s.status = d.schedule_status, s.alias = d.alias,
    s.queue = d.queue, s.payload = d.payload, s.options = d.options, s.recurrence = d.recurrence,
    s.starts_at = d.starts_at, s.ends_at = d.ends_at, s.execution_count = d.execution_count,
    s.max_executions = d.max_executions, s.misfire = d.misfire, s.run_on_start = d.run_on_start,
    s.code_owned = d.code_owned, s.last_run_at = d.last_run_at, s.next_run_at = d.next_run_at, s.error = d.error,
    s.deleted_at = d.deleted_at,
    s.revision = s.revision + 1, s.updated_at = :now

-- name: advance_schedules
UPDATE JSON_TABLE(:rows, '$[*]' COLUMNS (
    id CHAR(32) PATH '$[0]', next_run_at DATETIME(6) PATH '$[1]', schedule_status VARCHAR(20) {unicode} PATH '$[2]',
    error LONGTEXT {unicode} PATH '$[3]', executions INT PATH '$[4]', started INT PATH '$[5]')) d
STRAIGHT_JOIN aiotaskstore_schedules s FORCE INDEX (PRIMARY) ON s.id = UNHEX(d.id)
SET s.next_run_at = d.next_run_at, s.status = d.schedule_status, s.error = d.error,
    s.execution_count = s.execution_count + d.executions,
    s.last_run_at = IF(d.executions > 0, :now, s.last_run_at),
    s.last_start_at = IF(d.started, :now, s.last_start_at),
    s.revision = s.revision + 1, s.updated_at = :now

-- name: lock_schedules
SELECT STRAIGHT_JOIN s.id, s.revision
FROM {ids} JOIN aiotaskstore_schedules s FORCE INDEX (PRIMARY) ON s.id = UNHEX(d.id)
ORDER BY s.id FOR UPDATE SKIP LOCKED

-- name: schedules_named
SELECT {schedule} FROM aiotaskstore_schedules WHERE live_name IN :names


-- What a diagnosis reads. EXPLAIN needs the privileges of the statement that it explains, and does nothing.
-- name: explain_insert
EXPLAIN INSERT INTO aiotaskstore_queues SELECT * FROM aiotaskstore_queues WHERE 1 = 0

-- name: explain_update
EXPLAIN UPDATE aiotaskstore_queues SET name = 'x' WHERE 1 = 0

-- name: explain_delete
EXPLAIN DELETE FROM aiotaskstore_queues WHERE 1 = 0

-- name: server_settings
SHOW GLOBAL VARIABLES WHERE variable_name IN (
    'log_bin', 'binlog_format', 'innodb_flush_log_at_trx_commit', 'max_connections', 'read_only', 'super_read_only',
    'innodb_read_only', 'max_allowed_packet')

-- name: server_status
SHOW GLOBAL STATUS WHERE variable_name IN ('Threads_connected')

-- name: session_settings
SHOW SESSION VARIABLES WHERE variable_name IN (
    'transaction_isolation', 'tx_isolation', 'sql_mode', 'character_set_client', 'character_set_connection',
    'character_set_results')

-- name: table_states
SELECT table_name, engine, data_length + index_length, data_free
FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_name IN (
    'aiotaskstore_tasks', 'aiotaskstore_ready', 'aiotaskstore_history', 'aiotaskstore_task_keys',
    'aiotaskstore_task_errors', 'aiotaskstore_task_progress', 'aiotaskstore_task_details', 'aiotaskstore_definitions',
    'aiotaskstore_dispatchers', 'aiotaskstore_queues', 'aiotaskstore_schedules')
ORDER BY table_name

-- name: history_list_length
SELECT `COUNT` FROM information_schema.innodb_metrics WHERE name = 'trx_rseg_history_len'

-- Who keeps the purge from removing old versions of rows, the oldest first.
-- name: horizon_holders
SELECT trx_mysql_thread_id, TIMESTAMPDIFF(SECOND, trx_started, NOW()), CONNECTION_ID()
FROM information_schema.innodb_trx WHERE trx_mysql_thread_id > 0
ORDER BY trx_started LIMIT 5

-- Who is connected. MySQL gives SHOW PROCESSLIST with a warning; MariaDB keeps this table only if told to.
-- name: clients
SELECT processlist_id, processlist_user, processlist_host, processlist_command FROM performance_schema.threads
WHERE processlist_id IS NOT NULL
