-- What PostgreSQL says differently.
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


-- name: insert_tasks
INSERT INTO aiotaskstore_tasks (
    id, queue, alias, priority, status, run_at, payload, max_attempts, timeout, on_stuck,
    owner_type, owner_id, source, parent_id, definition_id, external_id, serialization_key, strict,
    metadata, retention, created_at, updated_at)
SELECT
    id, queue, alias, priority,
    CASE WHEN run_at > :now OR delay > 0 THEN 0 ELSE 1 END,
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

-- DO NOTHING keeps the caller's transaction usable; whose key it is, key_owners tells.
-- name: insert_keys
INSERT INTO aiotaskstore_task_keys (alias, external_id, task_id)
SELECT * FROM unnest(:alias::text[], :external_id::text[], :task_id::uuid[])
ON CONFLICT DO NOTHING

-- name: take_over_keys
UPDATE aiotaskstore_task_keys k SET task_id = d.task_id
FROM unnest(:alias::text[], :external_id::text[], :task_id::uuid[], :old_id::uuid[])
    AS d (alias, external_id, task_id, old_id)
WHERE k.alias = d.alias AND k.external_id = d.external_id AND k.task_id = d.old_id

-- Many queues in one round trip, each through its own range of the index. The literal status = 1 is what lets
-- the planner use the partial index; the UPDATE must not repeat it (0.04 of the speed).
-- name: claim
WITH picked AS MATERIALIZED (
    SELECT p.tid
    FROM unnest(:queues::text[], :limits::int[]) AS q (queue, n) CROSS JOIN LATERAL (
        SELECT t.ctid AS tid FROM aiotaskstore_tasks t
        WHERE t.queue = q.queue AND t.status = 1 AND t.alias = ANY (:aliases::text[])
        ORDER BY t.priority, t.run_at, t.id LIMIT q.n
        FOR NO KEY UPDATE SKIP LOCKED) p
)
UPDATE aiotaskstore_tasks t
SET status = 3, fence = t.fence + 1, attempt = t.attempt + 1, dispatcher_id = :dispatcher,
    started_at = :now, updated_at = :now
WHERE t.ctid = ANY (ARRAY (SELECT tid FROM picked))
RETURNING {t.claim}, t.started_at

-- Successes whose rows are kept, one statement. status + 0 hides the status from the partial indexes.
-- name: finish
WITH d AS MATERIALIZED (
    SELECT * FROM unnest(
        :id::uuid[], :fence::bigint[], :result::text[], :expires_in::float8[], :keep_payload::bool[]
    ) AS d (id, fence, result, expires_in, keep_payload)
), hit AS MATERIALIZED (
    SELECT x.tid FROM d CROSS JOIN LATERAL (
        SELECT t0.ctid AS tid FROM aiotaskstore_tasks t0
        WHERE t0.id = d.id AND t0.fence = d.fence AND t0.status + 0 = 3 OFFSET 0) x
), gone AS (
    DELETE FROM aiotaskstore_tasks t WHERE t.ctid = ANY (ARRAY (SELECT tid FROM hit)) RETURNING t.*
), moved AS (
    INSERT INTO aiotaskstore_history (
        {carried}, run_at, payload, attempt, fence, cancel_requested_at, cancel_reason, dispatcher_id, started_at,
        status, updated_at, result, finish_reason, finished_at, expires_at)
    SELECT {g.carried}, g.run_at, CASE WHEN d.keep_payload THEN g.payload END, g.attempt, g.fence,
        g.cancel_requested_at, g.cancel_reason, g.dispatcher_id, g.started_at,
        5, :now, d.result::json, 'ok', :now, :later(d.expires_in)
    FROM gone g JOIN d ON d.id = g.id
)
SELECT id FROM gone

-- Rows are locked and checked; delete_tasks follows.
-- name: bury
INSERT INTO aiotaskstore_history (
    {carried}, run_at, payload, attempt, fence, cancel_requested_at, dispatcher_id, started_at,
    status, updated_at, result, error, finish_reason, cancel_reason, finished_at, cancelled_at, expires_at)
SELECT {t.carried}, t.run_at, CASE WHEN d.keep_payload THEN t.payload END, t.attempt, t.fence,
    t.cancel_requested_at, t.dispatcher_id, t.started_at,
    d.status, :now, d.result::json, d.error, d.reason, coalesce(d.why, t.cancel_reason), :now,
    CASE WHEN d.status = 7 THEN :now END, :later(d.expires_in)
FROM unnest(
    :id::uuid[], :status::smallint[], :result::text[], :error::text[], :reason::text[], :why::text[],
    :expires_in::float8[], :keep_payload::bool[]
) AS d (id, status, result, error, reason, why, expires_in, keep_payload)
CROSS JOIN LATERAL (SELECT * FROM aiotaskstore_tasks t0 WHERE t0.id = d.id OFFSET 0) t

-- Rows are locked and checked. No delay keeps the place. Joined by id alone, 20 rows cost a walk through the whole
-- primary key after an ANALYZE of an empty queue.
-- name: give_back
WITH d AS MATERIALIZED (
    SELECT * FROM unnest(:id::uuid[], :delay::float8[], :refund::int[], :void::int[]) AS d (id, delay, refund, void)
), hit AS MATERIALIZED (
    SELECT x.tid, d.* FROM d CROSS JOIN LATERAL (
        SELECT t0.ctid AS tid FROM aiotaskstore_tasks t0 WHERE t0.id = d.id OFFSET 0) x
)
UPDATE aiotaskstore_tasks t
SET status = CASE WHEN d.delay > 0 THEN 0 ELSE 1 END,
    run_at = CASE WHEN d.delay IS NULL THEN t.run_at ELSE :later(d.delay) END,
    attempt = greatest(t.attempt - d.refund, 0), fence = t.fence + d.void, dispatcher_id = NULL, updated_at = :now
FROM hit d WHERE t.ctid = ANY (ARRAY (SELECT tid FROM hit)) AND t.ctid = d.tid

-- name: insert_errors
INSERT INTO aiotaskstore_task_errors (task_id, fence, attempt, type, message, at)
SELECT d.*, :now
FROM unnest(:task_id::uuid[], :fence::bigint[], :attempt::int[], :type::text[], :message::text[]) AS d
ON CONFLICT (task_id, fence) DO NOTHING

-- name: put_progress
INSERT INTO aiotaskstore_task_progress (task_id, text, fraction, at)
SELECT d.*, :now FROM unnest(:task_id::uuid[], :text::text[], :fraction::float8[]) AS d
ON CONFLICT (task_id) DO UPDATE SET text = excluded.text, fraction = excluded.fraction, at = excluded.at

-- name: insert_details
INSERT INTO aiotaskstore_task_details (task_id, fence, line, text)
SELECT * FROM unnest(:task_id::uuid[], :fence::bigint[], :line::int[], :text::text[])
ON CONFLICT DO NOTHING

-- name: promote
WITH due AS MATERIALIZED (
    SELECT ctid AS tid FROM aiotaskstore_tasks WHERE status = 0 AND run_at <= :now
    ORDER BY run_at LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE aiotaskstore_tasks t SET status = 1, updated_at = :now
WHERE t.ctid = ANY (ARRAY (SELECT tid FROM due))
RETURNING t.queue

-- OFFSET 0 keeps the order out of the choice of the index: else a heartbeat may walk the whole primary key.
-- name: running_of
SELECT id, fence
FROM (SELECT id, fence FROM aiotaskstore_tasks WHERE dispatcher_id = :id AND status = 3 OFFSET 0) t
ORDER BY id LIMIT :limit

-- name: publish_definitions
INSERT INTO aiotaskstore_definitions (id, alias, title, description, defaults, created_at, updated_at)
SELECT d.id, d.alias, d.title, d.description, d.defaults::json, :now, :now
FROM unnest(:id::uuid[], :alias::text[], :title::text[], :description::text[], :defaults::text[])
    AS d (id, alias, title, description, defaults)
ON CONFLICT (alias) WHERE deleted_at IS NULL DO UPDATE
SET title = excluded.title, description = excluded.description, defaults = excluded.defaults, updated_at = :now

-- name: definition
SELECT id, alias, title, description, memo, status, created_at, updated_at, deleted_at, defaults::text
FROM aiotaskstore_definitions WHERE alias = :alias AND deleted_at IS NULL

-- name: correct_history
UPDATE aiotaskstore_history
SET status = 5, result = (:result::text)::json, error = NULL, finish_reason = 'ok', finished_at = :now,
    updated_at = :now
WHERE id = :id AND fence = :fence AND status > 5

-- name: counts
SELECT queue, status, count(*), min(run_at) FROM aiotaskstore_tasks GROUP BY queue, status
UNION ALL
SELECT queue, status, count(*), NULL::timestamptz FROM aiotaskstore_history GROUP BY queue, status

-- Asked after the commit that added the work: a dispatcher that went to sleep before it has marked itself, one
-- that marks itself later looks again afterwards. In the inserting statement, hints get lost (docs/adr/0004).
-- name: notify_sleepers
SELECT pg_notify(:channel, :payload)
WHERE EXISTS (
    SELECT FROM aiotaskstore_dispatchers WHERE idle AND heartbeat_at > :later(0 - lease))

-- name: notify_always
SELECT pg_notify(:channel, :payload)
