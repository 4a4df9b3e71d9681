-- The statements of PostgreSQL.
--
-- A queue table is the worst case for a cost planner: statistics are taken while it is empty, then it holds
-- 100,000 rows, or 100,000 dead ones. So the statements of the hot path have plans that cannot flip: rows are
-- found through the one index meant for it (MATERIALIZED, LATERAL … OFFSET 0) and written by ctid. Naive forms
-- were 10 to 25 times slower after one ANALYZE of an empty queue (docs/adr/0002).

-- list: kept
id, queue, alias, status, priority, run_at, payload::text, attempt, max_attempts, timeout, fence, on_stuck,
owner_type, owner_id, source, parent_id, definition_id, external_id, serialization_key, strict,
metadata::text, retention, cancel_requested_at, cancel_reason, dispatcher_id,
created_at, updated_at, started_at, deleted_at

-- list: ended
result::text, error, finish_reason, finished_at, cancelled_at, expires_at

-- list: not_ended
NULL::text, NULL::text, NULL::text, NULL::timestamptz, NULL::timestamptz, NULL::timestamptz

-- list: claim
id, queue, alias, priority, run_at, payload::text, attempt, max_attempts, timeout, fence, on_stuck,
owner_type, owner_id, source, parent_id, definition_id, external_id, serialization_key, strict,
metadata::text, retention, created_at

-- list: copied
id, queue, alias, priority, payload::text, max_attempts, timeout, on_stuck,
owner_type, owner_id, source, parent_id, definition_id, serialization_key, strict,
metadata::text, retention


-- name: insert_tasks
INSERT INTO aiotaskstore_tasks (
    id, queue, alias, priority, status, run_at, payload, max_attempts, timeout, on_stuck,
    owner_type, owner_id, source, parent_id, definition_id, external_id, serialization_key, strict,
    metadata, retention, created_at, updated_at)
SELECT
    id, queue, alias, priority,
    {placed(run_at > :now OR delay > 0)},
    coalesce(run_at, :later(delay), :now),
    payload::json, max_attempts, timeout, on_stuck,
    owner_type, owner_id, source, parent_id, definition_id, external_id, serialization_key, strict,
    metadata::json, retention, :now, :now
FROM unnest(
    :id::uuid[], :queue::text[], :alias::text[], :priority::int[], :run_at::timestamptz[], :delay::float8[],
    :payload::text[], :max_attempts::int[], :timeout::float8[], :on_stuck::smallint[],
    :owner_type::text[], :owner_id::text[], :source::text[], :parent_id::uuid[], :definition_id::uuid[],
    :external_id::text[], :serialization_key::text[], :strict::bool[], :metadata::text[], :retention::text[]
) AS d (
    id, queue, alias, priority, run_at, delay, payload, max_attempts, timeout, on_stuck,
    owner_type, owner_id, source, parent_id, definition_id, external_id, serialization_key, strict,
    metadata, retention)

-- The advisory lock of an external id.
-- list: key_lock
hashtextextended('aiotaskstore_task_keys ' || d.alias || chr(31) || d.external_id, 0)

-- Leaves out what somebody's open transaction holds, without waiting for it: insert_keys_joined has locked it. Nothing
-- stays locked here, since a batch of thousands would fill the server's table of locks.
-- name: insert_keys
INSERT INTO aiotaskstore_task_keys (alias, external_id, task_id)
SELECT d.alias, d.external_id, d.task_id
FROM unnest(:alias::text[], :external_id::text[], :task_id::uuid[]) AS d (alias, external_id, task_id)
WHERE CASE WHEN pg_try_advisory_lock_shared({key_lock}) THEN pg_advisory_unlock_shared({key_lock}) ELSE false END
ON CONFLICT DO NOTHING
RETURNING task_id

-- In a caller's transaction. DO NOTHING keeps it usable; whose key it is, key_owners returns. Only some take a lock of
-- their own, since the server has few; the others a batch notices by waiting (lock_timeout).
-- name: insert_keys_joined
INSERT INTO aiotaskstore_task_keys (alias, external_id, task_id)
SELECT d.alias, d.external_id, d.task_id
FROM unnest(:alias::text[], :external_id::text[], :task_id::uuid[])
    WITH ORDINALITY AS d (alias, external_id, task_id, number)
WHERE CASE WHEN d.number <= 100 THEN pg_advisory_xact_lock({key_lock}) IS NOT NULL ELSE true END
ON CONFLICT DO NOTHING
RETURNING task_id

-- name: take_over_keys
UPDATE aiotaskstore_task_keys k SET task_id = d.task_id
FROM unnest(:alias::text[], :external_id::text[], :task_id::uuid[], :old_id::uuid[])
    AS d (alias, external_id, task_id, old_id)
WHERE k.alias = d.alias AND k.external_id = d.external_id AND k.task_id = d.old_id

-- Many queues in one round trip, each through its own range of the index. The literal status is what lets
-- the planner use the partial index; the UPDATE must not repeat it (0.04 of the speed).
-- name: claim
WITH picked AS MATERIALIZED (
    SELECT p.tid
    FROM unnest(:queues::text[], :limits::int[]) AS q (queue, n) CROSS JOIN LATERAL (
        SELECT t.ctid AS tid FROM aiotaskstore_tasks t
        WHERE t.queue = q.queue AND t.status = {pending} AND t.deleted_at IS NULL AND t.alias = ANY (:aliases::text[])
        ORDER BY t.priority, t.run_at, t.id LIMIT q.n
        FOR NO KEY UPDATE SKIP LOCKED) p
)
UPDATE aiotaskstore_tasks t
SET status = {running}, fence = t.fence + 1, attempt = t.attempt + 1, dispatcher_id = :dispatcher,
    started_at = :now, updated_at = :now
WHERE t.ctid = ANY (ARRAY (SELECT tid FROM picked))
RETURNING {t.claim}, t.started_at

-- Successes whose rows are kept, one statement. status + 0 hides the status from the partial indexes. A row that
-- somebody has locked is left out: to wait for it would hold back every other one.
-- name: finish
WITH d AS MATERIALIZED (
    SELECT * FROM unnest(
        :id::uuid[], :fence::bigint[], :result::text[], :expires_in::float8[], :keep_payload::bool[]
    ) AS d (id, fence, result, expires_in, keep_payload)
), hit AS MATERIALIZED (
    SELECT x.tid FROM d CROSS JOIN LATERAL (
        SELECT t0.ctid AS tid FROM aiotaskstore_tasks t0
        WHERE t0.id = d.id AND t0.fence = d.fence AND t0.status + 0 = {running} OFFSET 0
        FOR UPDATE SKIP LOCKED) x
), gone AS (
    DELETE FROM aiotaskstore_tasks t WHERE t.ctid = ANY (ARRAY (SELECT tid FROM hit)) RETURNING t.*
), moved AS (
    INSERT INTO aiotaskstore_history (
        {carried}, run_at, payload, attempt, fence, cancel_requested_at, cancel_reason, dispatcher_id, started_at,
        status, updated_at, result, finish_reason, finished_at, expires_at)
    SELECT {g.carried}, g.run_at, CASE WHEN d.keep_payload THEN g.payload END, g.attempt, g.fence,
        g.cancel_requested_at, g.cancel_reason, g.dispatcher_id, g.started_at,
        {succeeded}, :now, d.result::json, 'ok', :now, :later(d.expires_in)
    FROM gone g JOIN d ON d.id = g.id
)
SELECT id FROM gone

-- Rows are locked and checked; delete_tasks follows.
-- name: archive
INSERT INTO aiotaskstore_history (
    {carried}, run_at, payload, attempt, fence, cancel_requested_at, dispatcher_id, started_at,
    status, updated_at, result, error, finish_reason, cancel_reason, finished_at, cancelled_at, expires_at)
SELECT {t.carried}, t.run_at, CASE WHEN d.keep_payload THEN t.payload END, t.attempt, t.fence,
    t.cancel_requested_at, t.dispatcher_id, t.started_at,
    d.status, :now, d.result::json, d.error, d.reason, coalesce(d.why, t.cancel_reason), :now,
    CASE WHEN d.status = {cancelled} THEN :now END, :later(d.expires_in)
FROM unnest(
    :id::uuid[], :status::smallint[], :result::text[], :error::text[], :reason::text[], :why::text[],
    :expires_in::float8[], :keep_payload::bool[]
) AS d (id, status, result, error, reason, why, expires_in, keep_payload)
CROSS JOIN LATERAL (SELECT * FROM aiotaskstore_tasks t0 WHERE t0.id = d.id OFFSET 0) t

-- Rows are locked and checked. No delay keeps the place. Joined by id alone, 20 rows cost a walk through the whole
-- primary key after an ANALYZE of an empty queue.
-- name: return_to_queue
WITH d AS MATERIALIZED (
    SELECT * FROM unnest(:id::uuid[], :delay::float8[], :refund::int[], :void::int[]) AS d (id, delay, refund, void)
), hit AS MATERIALIZED (
    SELECT x.tid, d.* FROM d CROSS JOIN LATERAL (
        SELECT t0.ctid AS tid FROM aiotaskstore_tasks t0 WHERE t0.id = d.id OFFSET 0) x
)
UPDATE aiotaskstore_tasks t
SET status = {placed_again(d.delay > 0)},
    held_key = CASE WHEN d.delay > 0 AND NOT strict OR t.deleted_at IS NOT NULL THEN NULL ELSE held_key END,
    run_at = CASE WHEN d.delay IS NULL THEN t.run_at ELSE :later(d.delay) END,
    attempt = greatest(t.attempt - d.refund, 0), fence = t.fence + d.void, dispatcher_id = NULL, updated_at = :now
FROM hit d WHERE t.ctid = ANY (ARRAY (SELECT tid FROM hit)) AND t.ctid = d.tid

-- name: insert_errors
INSERT INTO aiotaskstore_task_errors (task_id, fence, attempt, type, message, traceback, at)
SELECT d.*, :now
FROM unnest(
    :task_id::uuid[], :fence::bigint[], :attempt::int[], :type::text[], :message::text[], :traceback::text[]) AS d
ON CONFLICT (task_id, fence) DO NOTHING

-- One row replaces those from there to before the end; the others are deleted.
-- name: mark_errors_left_out
UPDATE aiotaskstore_task_errors e SET left_out = d.left_out, type = '', message = '', traceback = NULL
FROM unnest(:task_id::uuid[], :fence::bigint[], :left_out::int[]) AS d (task_id, fence, left_out)
WHERE e.task_id = d.task_id AND e.fence = d.fence

-- name: leave_out_errors
DELETE FROM aiotaskstore_task_errors e
USING unnest(:task_id::uuid[], :fence::bigint[], :end_fence::bigint[]) AS d (task_id, fence, end_fence)
WHERE e.task_id = d.task_id AND e.fence > d.fence AND e.fence < d.end_fence

-- name: put_progress
INSERT INTO aiotaskstore_task_progress (task_id, text, fraction, at)
SELECT d.*, :now FROM unnest(:task_id::uuid[], :text::text[], :fraction::float8[]) AS d
ON CONFLICT (task_id) DO UPDATE SET text = excluded.text, fraction = excluded.fraction, at = excluded.at

-- name: insert_details
INSERT INTO aiotaskstore_task_details (task_id, fence, line, text, left_out)
SELECT * FROM unnest(:task_id::uuid[], :fence::bigint[], :line::int[], :text::text[], :left_out::int[])
ON CONFLICT DO NOTHING

-- name: mark_details_left_out
UPDATE aiotaskstore_task_details l SET left_out = d.left_out, text = ''
FROM unnest(:task_id::uuid[], :fence::bigint[], :line::int[], :left_out::int[]) AS d (task_id, fence, line, left_out)
WHERE l.task_id = d.task_id AND l.fence = d.fence AND l.line = d.line

-- name: leave_out_details
DELETE FROM aiotaskstore_task_details l
USING unnest(:task_id::uuid[], :fence::bigint[], :line::int[], :end_fence::bigint[], :end_line::int[])
    AS d (task_id, fence, line, end_fence, end_line)
WHERE l.task_id = d.task_id AND (l.fence, l.line) > (d.fence, d.line) AND (l.fence, l.line) < (d.end_fence, d.end_line)

-- name: promote
WITH due AS MATERIALIZED (
    SELECT ctid AS tid FROM aiotaskstore_tasks WHERE status = {scheduled} AND deleted_at IS NULL AND run_at <= :now
    ORDER BY run_at LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE aiotaskstore_tasks t SET status = {due_again}, updated_at = :now
WHERE t.ctid = ANY (ARRAY (SELECT tid FROM due))
RETURNING t.queue, CASE WHEN t.status = {waiting} THEN t.serialization_key END

-- The first waiting row of each of these keys that nobody holds.
-- list: first_of_keys
k AS MATERIALIZED (
    SELECT DISTINCT x.serialization_key FROM unnest(:keys::text[]) AS x (serialization_key)
), head AS MATERIALIZED (
    SELECT w.tid FROM k CROSS JOIN LATERAL (
        SELECT t.ctid AS tid FROM aiotaskstore_tasks t
        WHERE t.serialization_key = k.serialization_key AND t.status = {waiting} AND t.deleted_at IS NULL
        ORDER BY t.priority, t.run_at, t.id LIMIT 1) w
    WHERE (SELECT 1 FROM aiotaskstore_tasks h WHERE h.held_key = k.serialization_key LIMIT 1) IS NULL
)

-- A row that somebody has locked is left out, and with it its key: to take the second one would break the order, to wait
-- would hold back every other key. Two at once may choose different rows, if an earlier one commits between; then the
-- unique index refuses the later of them.
-- name: grant_keys
WITH {first_of_keys}, free AS MATERIALIZED (
    SELECT t.ctid AS tid FROM aiotaskstore_tasks t WHERE t.ctid = ANY (ARRAY (SELECT tid FROM head))
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE aiotaskstore_tasks t SET status = {pending}, held_key = t.serialization_key, updated_at = :now
WHERE t.ctid = ANY (ARRAY (SELECT tid FROM free))
RETURNING t.queue

-- grant_keys and claim in one: of what is pending and what is granted its key, the first of each queue run, and what is
-- left of the granted becomes pending. A row is either claimed or only granted, so the last column is NULL or all others.
-- name: claim_granting
WITH {first_of_keys}, free AS MATERIALIZED (
    SELECT t.ctid AS tid, t.queue, t.alias, t.priority, t.run_at, t.id
    FROM aiotaskstore_tasks t WHERE t.ctid = ANY (ARRAY (SELECT tid FROM head))
    FOR NO KEY UPDATE SKIP LOCKED
), room AS MATERIALIZED (
    SELECT q.queue, q.n FROM unnest(:queues::text[], :limits::int[]) AS q (queue, n)
), picked AS MATERIALIZED (
    SELECT p.*, q.n
    FROM room q CROSS JOIN LATERAL (
        SELECT t.ctid AS tid, t.queue, t.priority, t.run_at, t.id FROM aiotaskstore_tasks t
        WHERE t.queue = q.queue AND t.status = {pending} AND t.deleted_at IS NULL AND t.alias = ANY (:aliases::text[])
        ORDER BY t.priority, t.run_at, t.id LIMIT q.n
        FOR NO KEY UPDATE SKIP LOCKED) p
), turn AS MATERIALIZED (
    SELECT c.tid, c.waits, row_number() OVER (PARTITION BY c.queue, c.n ORDER BY c.priority, c.run_at, c.id) <= c.n AS runs
    FROM (
        SELECT p.tid, p.queue, p.n, p.priority, p.run_at, p.id, false AS waits FROM picked p
        UNION ALL
        SELECT f.tid, f.queue, CASE WHEN f.alias = ANY (:aliases::text[]) THEN coalesce(q.n, 0) ELSE 0 END,
            f.priority, f.run_at, f.id, true
        FROM free f LEFT JOIN room q ON q.queue = f.queue) c
), ran AS (
    UPDATE aiotaskstore_tasks t
    SET status = {running}, held_key = t.serialization_key, fence = t.fence + 1, attempt = t.attempt + 1,
        dispatcher_id = :dispatcher, started_at = :now, updated_at = :now
    WHERE t.ctid = ANY (ARRAY (SELECT tid FROM turn WHERE runs))
    RETURNING {t.claim}, t.started_at
), granted AS (
    UPDATE aiotaskstore_tasks t SET status = {pending}, held_key = t.serialization_key, updated_at = :now
    WHERE t.ctid = ANY (ARRAY (SELECT tid FROM turn WHERE waits AND NOT runs))
    RETURNING t.queue AS of_granted
)
SELECT ran.*, granted.of_granted FROM ran FULL JOIN granted ON false

-- As text also where the application's pool decodes JSON by a codec of its own.
-- name: contents_among
SELECT id, alias, payload::text FROM aiotaskstore_tasks WHERE id IN :ids
UNION ALL
SELECT id, alias, payload::text FROM aiotaskstore_history WHERE id IN :ids

-- name: results_among
SELECT id, result::text FROM aiotaskstore_history WHERE id IN :ids AND status = {succeeded} AND deleted_at IS NULL

-- OFFSET 0 keeps the order out of the choice of the index: else a heartbeat may walk the whole primary key.
-- name: running_of
SELECT id, fence
FROM (SELECT id, fence FROM aiotaskstore_tasks WHERE dispatcher_id = :id AND status = {running} OFFSET 0) t
ORDER BY id LIMIT :limit

-- name: publish_definitions
INSERT INTO aiotaskstore_definitions (id, alias, title, description, defaults, created_at, updated_at)
SELECT d.id, d.alias, d.title, d.description, d.defaults::json, :now, :now
FROM unnest(:id::uuid[], :alias::text[], :title::text[], :description::text[], :defaults::text[])
    AS d (id, alias, title, description, defaults)
ON CONFLICT (alias) WHERE deleted_at IS NULL DO UPDATE
SET title = excluded.title, description = excluded.description, defaults = excluded.defaults, updated_at = :now

-- name: announce_definitions
INSERT INTO aiotaskstore_definitions (id, alias, title, description, defaults, created_at, updated_at)
SELECT d.id, d.alias, d.title, d.description, d.defaults::json, :now, :now
FROM unnest(:id::uuid[], :alias::text[], :title::text[], :description::text[], :defaults::text[])
    AS d (id, alias, title, description, defaults)
ON CONFLICT DO NOTHING

-- list: definition_record
id, alias, title, description, memo, status, created_at, updated_at, deleted_at, defaults::text

-- Another end of finished tasks, whose rows are locked and checked: a late success, or an operator's word.
-- name: correct_history
UPDATE aiotaskstore_history h
SET status = d.status, result = d.result::json, error = d.error, finish_reason = d.reason,
    expires_at = :later(d.expires_in), payload = CASE WHEN d.keep_payload THEN h.payload END,
    fence = h.fence + d.void, finished_at = :now, updated_at = :now
FROM unnest(
    :id::uuid[], :status::smallint[], :result::text[], :error::text[], :reason::text[], :expires_in::float8[],
    :keep_payload::bool[], :void::int[]
) AS d (id, status, result, error, reason, expires_in, keep_payload, void)
WHERE h.id = d.id

-- name: reschedule
UPDATE aiotaskstore_tasks
SET status = CASE WHEN status = {paused} THEN {paused}
        ELSE {placed(:run_at::timestamptz > :now OR :delay::float8 > 0)} END,
    run_at = coalesce(:run_at::timestamptz, :later(:delay)), held_key = NULL, updated_at = :now
WHERE id IN :ids AND status IN ({scheduled}, {pending}, {waiting}, {paused})

-- Only what is given is written: a null leaves a column as it is, and for the timeout `keep_timeout` says so.
-- name: update_tasks
UPDATE aiotaskstore_tasks
SET queue = coalesce(:queue::text, queue), priority = coalesce(:priority::int, priority),
    payload = coalesce((:payload::text)::json, payload), metadata = coalesce((:metadata::text)::json, metadata),
    max_attempts = coalesce(:max_attempts::int, max_attempts),
    timeout = CASE WHEN :keep_timeout::bool THEN timeout ELSE :timeout::float8 END,
    fence = fence + :void::int, updated_at = :now
WHERE id IN :ids AND status <> {running}

-- name: update_history
UPDATE aiotaskstore_history
SET queue = coalesce(:queue::text, queue), priority = coalesce(:priority::int, priority),
    payload = coalesce((:payload::text)::json, payload), metadata = coalesce((:metadata::text)::json, metadata),
    max_attempts = coalesce(:max_attempts::int, max_attempts),
    timeout = CASE WHEN :keep_timeout::bool THEN timeout ELSE :timeout::float8 END,
    fence = fence + CASE WHEN status = {succeeded} THEN 0 ELSE :void::int END, updated_at = :now
WHERE id IN :ids

-- name: metadata_live
SELECT id, metadata::text FROM aiotaskstore_tasks WHERE id IN :ids

-- name: metadata_finished
SELECT id, metadata::text FROM aiotaskstore_history WHERE id IN :ids

-- Asked after the commit that added the work: a dispatcher that went to sleep before it has marked itself, one
-- that marks itself later looks again afterwards. In the inserting statement, hints get lost (docs/adr/0004).
-- name: notify_sleepers
SELECT pg_notify(:channel, :payload)
WHERE EXISTS (
    SELECT FROM aiotaskstore_dispatchers WHERE idle AND heartbeat_at > :heartbeat_later(0 - lease))

-- name: notify_always
SELECT pg_notify(:channel, :payload)

-- A row that is there already stays as it is, whether it has the id or the name.
-- name: insert_schedules
INSERT INTO aiotaskstore_schedules (
    id, name, description, status, alias, queue, payload, options, recurrence, starts_at, ends_at, execution_count,
    max_executions, misfire, run_on_start, code_owned, last_run_at, next_run_at, error, deleted_at, created_at, updated_at)
SELECT d.*, :now, :now
FROM unnest(
    :id::uuid[], :name::text[], :description::text[], :schedule_status::text[], :alias::text[], :queue::text[],
    :payload::text[], :options::text[], :recurrence::text[], :starts_at::timestamptz[], :ends_at::timestamptz[],
    :execution_count::bigint[], :max_executions::int[], :misfire::text[], :run_on_start::bool[],
    :code_owned::bool[], :last_run_at::timestamptz[], :next_run_at::timestamptz[], :error::text[],
    :deleted_at::timestamptz[]
) AS d
ON CONFLICT DO NOTHING

-- Rows are locked and checked.
-- name: update_schedules
UPDATE aiotaskstore_schedules s
SET name = d.name, description = d.description, status = d.schedule_status, alias = d.alias, queue = d.queue,
    payload = d.payload, options = d.options, recurrence = d.recurrence, starts_at = d.starts_at,
    ends_at = d.ends_at, execution_count = d.execution_count, max_executions = d.max_executions,
    misfire = d.misfire, run_on_start = d.run_on_start, code_owned = d.code_owned, last_run_at = d.last_run_at,
    next_run_at = d.next_run_at, error = d.error, deleted_at = d.deleted_at,
    revision = s.revision + 1, updated_at = :now
FROM unnest(
    :id::uuid[], :name::text[], :description::text[], :schedule_status::text[], :alias::text[], :queue::text[],
    :payload::text[], :options::text[], :recurrence::text[], :starts_at::timestamptz[], :ends_at::timestamptz[],
    :execution_count::bigint[], :max_executions::int[], :misfire::text[], :run_on_start::bool[],
    :code_owned::bool[], :last_run_at::timestamptz[], :next_run_at::timestamptz[], :error::text[],
    :deleted_at::timestamptz[]
) AS d (
    id, name, description, schedule_status, alias, queue, payload, options, recurrence, starts_at, ends_at,
    execution_count, max_executions, misfire, run_on_start, code_owned, last_run_at, next_run_at, error, deleted_at)
WHERE s.id = d.id

-- Rows are locked and checked.
-- name: advance_schedules
UPDATE aiotaskstore_schedules s
SET next_run_at = d.next_run_at, status = d.schedule_status, error = d.error,
    execution_count = s.execution_count + d.executions,
    last_run_at = CASE WHEN d.executions > 0 THEN :now ELSE s.last_run_at END,
    last_start_at = CASE WHEN d.started THEN :now ELSE s.last_start_at END,
    revision = s.revision + 1, updated_at = :now
FROM unnest(
    :id::uuid[], :next_run_at::timestamptz[], :schedule_status::text[], :error::text[], :executions::int[],
    :started::bool[]
) AS d (id, next_run_at, schedule_status, error, executions, started)
WHERE s.id = d.id


-- What a diagnosis reads.
-- list: ours
to_regclass('aiotaskstore_tasks'), to_regclass('aiotaskstore_history'), to_regclass('aiotaskstore_task_keys'),
to_regclass('aiotaskstore_task_errors'), to_regclass('aiotaskstore_task_progress'),
to_regclass('aiotaskstore_task_details'), to_regclass('aiotaskstore_definitions'),
to_regclass('aiotaskstore_dispatchers'), to_regclass('aiotaskstore_queues'), to_regclass('aiotaskstore_schedules')

-- name: probe_lock
SELECT version FROM aiotaskstore_migrations ORDER BY version FOR UPDATE

-- name: probe_skip
SELECT version FROM aiotaskstore_migrations ORDER BY version FOR UPDATE SKIP LOCKED

-- name: missing_privileges
SELECT c.relname, p.name
FROM pg_class c, (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) AS p (name)
WHERE c.oid IN ({ours}) AND NOT has_table_privilege(c.oid, p.name)
ORDER BY c.relname, p.name

-- name: server_settings
SELECT name, setting FROM pg_settings
WHERE name IN ('autovacuum', 'track_counts', 'fsync', 'synchronous_commit', 'default_transaction_isolation',
    'idle_in_transaction_session_timeout', 'statement_timeout', 'max_connections', 'superuser_reserved_connections')
UNION ALL
SELECT 'in_recovery', pg_is_in_recovery()::text
UNION ALL
SELECT 'read_only', current_setting('transaction_read_only')
UNION ALL
SELECT 'connections', count(*)::text FROM pg_stat_activity WHERE backend_type = 'client backend'
UNION ALL
SELECT 'notification_queue', pg_notification_queue_usage()::text

-- name: table_states
SELECT c.relname, coalesce(s.n_live_tup, 0), coalesce(s.n_dead_tup, 0), pg_total_relation_size(c.oid),
    EXISTS (
        SELECT FROM pg_options_to_table(c.reloptions) o
        WHERE o.option_name = 'autovacuum_enabled' AND NOT o.option_value::boolean)
FROM pg_class c LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
WHERE c.oid IN ({ours})
ORDER BY c.relname

-- Who keeps vacuum from removing rows that are dead by now, the oldest first.
-- name: horizon_holders
SELECT 'session', pid::text, coalesce(application_name, ''), coalesce(usename::text, ''), coalesce(state, ''),
    extract(epoch FROM clock_timestamp() - xact_start)::float8
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
    AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND backend_type <> 'autovacuum worker'
UNION ALL
SELECT 'prepared', gid, '', owner::text, 'prepared', extract(epoch FROM clock_timestamp() - prepared)::float8
FROM pg_prepared_xacts WHERE database = current_database()
UNION ALL
SELECT 'slot', slot_name::text, '', '', CASE WHEN active THEN 'active' ELSE 'unused' END, NULL::float8
FROM pg_replication_slots WHERE xmin IS NOT NULL OR (catalog_xmin IS NOT NULL AND NOT active)
ORDER BY 6 DESC NULLS LAST LIMIT 5
