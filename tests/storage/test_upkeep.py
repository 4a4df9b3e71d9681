"""What nobody asks for: promotion, rescue, cleaning, and who is alive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import pytest

from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.outcome import EMPTY, RELEASED, Failed, Retrying, Succeeded
from aiotaskstore.retention import Retention
from aiotaskstore.storage.mysql.database import MySQLDatabase
from aiotaskstore.storage.operation import Query
from aiotaskstore.storage.rows import ON_STUCK
from aiotaskstore.task import Claim, TaskStatus
from tests.helpers import LIMIT
from tests.storage.harness import LEASE, Harness, harness_on, new_task

FAILED = Failed("ValueError", "no good", FinishReason.ERROR)


@pytest.mark.acceptance("A29")
async def test_what_is_due_becomes_pending_and_nothing_else_does(harness: Harness):
    soon, late = await harness.add(delay=10, queue="a"), await harness.add(delay=20, queue="b")
    await harness.force_status(paused := await harness.add(delay=5), TaskStatus.PAUSED)
    assert await harness.promote() == []
    harness.clock.advance(10)
    assert await harness.promote() == ["a"]
    assert await harness.promote() == []
    assert [await harness.status(one) for one in (soon, late, paused)] == [
        TaskStatus.PENDING, TaskStatus.SCHEDULED, TaskStatus.PAUSED,
    ]  # fmt: skip
    task = await harness.get(soon)
    assert task.run_at == harness.clock.now
    assert [claim.id for claim in await harness.claim(queue="a")] == [soon]


async def test_the_longest_due_are_promoted_first_and_no_more_than_asked_for(harness: Harness):
    rows = [new_task(delay=10 - n) for n in range(5)]
    await harness.database.write(lambda: harness.tasks.enqueue(rows))
    harness.clock.advance(60)
    assert len(await harness.promote(2)) == 2
    assert {claim.id for claim in await harness.claim(9)} == {row.id for row in rows[3:]}
    assert len(await harness.promote(9)) == 3


async def test_racing_promoters_promote_each_task_once(url: str):
    async with harness_on(url) as harness, harness_on(url, harness.clock) as other:
        rows = [new_task(delay=10) for _ in range(200)]
        await harness.database.write(lambda: harness.tasks.enqueue(rows))
        harness.clock.advance(60)
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task((harness, other)[n % 2].promote(50)) for n in range(8)]
        promoted = sum(len(run.result()) for run in runs)
        while more := len(await harness.promote(50)):
            promoted += more
        assert promoted == len(rows)
        assert len(await harness.claim(1000)) == len(rows)


async def test_the_wait_until_the_next_due_task_is_known(harness: Harness):
    assert await harness.database.read(harness.tasks.next_due) is None
    await harness.add(delay=60)
    await harness.add(delay=20.5)
    assert await harness.database.read(harness.tasks.next_due) == 20.5
    harness.clock.advance(30)
    assert await harness.database.read(harness.tasks.next_due) == 0


async def test_a_dispatcher_is_dead_when_it_has_been_silent_for_longer_than_its_lease(harness: Harness):
    me, silent, lively = [await harness.register() for _ in range(3)]
    harness.clock.advance(LEASE)
    assert await _dead(harness, me) == set()
    await harness.database.write(lambda: harness.storage.dispatchers.heartbeat(lively))
    harness.clock.advance(1)
    assert await _dead(harness, me) == {silent}, "never itself"
    assert await _dead(harness, lively) == {me, silent}
    await harness.database.write(lambda: harness.storage.dispatchers.heartbeat(silent))
    assert await _dead(harness, me) == set()


async def test_a_sign_of_life_tells_whether_the_dispatcher_is_still_known(harness: Harness):
    me = await harness.register()
    assert await harness.database.write(lambda: harness.storage.dispatchers.heartbeat(me))
    await harness.database.write(lambda: harness.storage.dispatchers.deregister(me))
    assert not await harness.database.write(lambda: harness.storage.dispatchers.heartbeat(me))


async def test_dispatchers_are_listed_with_how_long_they_have_been_silent(harness: Harness):
    me = await harness.register()
    harness.clock.advance(3)
    await harness.database.write(lambda: harness.storage.dispatchers.set_idle(me, idle=True))
    (row,) = await harness.database.read(harness.storage.dispatchers.list)
    assert (row.id, row.name, row.host, row.pid, row.idle, row.silent_for) == (me, "harness", "here", 1, True, 3)


async def test_a_dead_dispatchers_tasks_are_due_again_at_once(harness: Harness):
    claim = await _die_with(harness, max_attempts=1)
    before = await harness.get(claim.id)
    assert await harness.rescue(_owner(before.dispatcher_id)) == {claim.id: TaskStatus.PENDING}
    task = await harness.get(claim.id)
    assert (task.status, task.attempt, task.run_at, task.dispatcher_id) == (TaskStatus.PENDING, 1, before.run_at, None)
    assert [(one.attempt, one.type) for one in task.errors] == [(1, "Stuck")]
    (again,) = await harness.claim()
    assert (again.attempt, again.fence) == (2, claim.fence + 1)


async def test_a_task_whose_dispatchers_keep_dying_fails_at_the_third_or_its_last_attempt(harness: Harness):
    for max_attempts, last in ((1, 3), (2, 3), (5, 5)):
        task_id = await harness.add(max_attempts=max_attempts, queue=f"{max_attempts}")
        for attempt in range(1, last + 1):
            me = await harness.register()
            (claim,) = await harness.claim(by=me, queue=f"{max_attempts}")
            assert claim.attempt == attempt
            harness.clock.advance(LEASE + 1)
            status = TaskStatus.PENDING if attempt < last else TaskStatus.FAILED
            assert await harness.rescue(me) == {task_id: status}
        task = await harness.get(task_id)
        assert (task.status, task.finish_reason, len(task.errors)) == (TaskStatus.FAILED, "stuck", last)
        assert task.error is not None


async def test_on_stuck_says_what_becomes_of_a_dead_dispatchers_task(harness: Harness):
    for policy, status, reason in (
        ("fail", TaskStatus.FAILED, "stuck"),
        ("interrupt", TaskStatus.INTERRUPTED, "interrupted"),
    ):
        claim = await _die_with(harness, on_stuck=ON_STUCK.index(policy), max_attempts=9)
        assert await harness.rescue(_owner((await harness.get(claim.id)).dispatcher_id)) == {claim.id: status}
        task = await harness.get(claim.id)
        assert (task.status, task.finish_reason, task.attempt) == (status, reason, 1)


async def test_a_dead_dispatchers_task_that_somebody_wanted_cancelled_is_cancelled(harness: Harness):
    claim = await _die_with(harness)
    await harness.cancel(claim.id, "enough")
    assert await harness.rescue(_owner((await harness.get(claim.id)).dispatcher_id)) == {claim.id: TaskStatus.CANCELLED}
    assert (await harness.get(claim.id)).cancel_reason == "enough"


@pytest.mark.acceptance("A85")
async def test_a_dispatcher_that_lives_is_not_rescued_and_keeps_its_row(harness: Harness):
    me = await harness.register()
    await harness.add()
    (claim,) = await harness.claim(by=me)
    harness.clock.advance(LEASE + 1)
    await harness.database.write(lambda: harness.storage.dispatchers.heartbeat(me))
    assert await harness.rescue(me) == {}
    assert await harness.status(claim.id) is TaskStatus.RUNNING
    assert await harness.database.write(lambda: harness.storage.dispatchers.heartbeat(me))


async def test_with_its_last_task_a_dead_dispatcher_is_deleted(harness: Harness):
    me = await harness.register()
    for _ in range(3):
        await harness.add()
    await harness.claim(3, by=me)
    harness.clock.advance(LEASE + 1)
    assert len(await harness.rescue(me, limit=2)) == 2
    assert await _dead(harness, new_id()) == {me}
    assert len(await harness.rescue(me, limit=2)) == 1
    assert await _dead(harness, new_id()) == set()


async def test_racing_rescuers_rescue_each_task_once(url: str):
    async with harness_on(url) as harness, harness_on(url, harness.clock) as other:
        me = await harness.register()
        rows = [new_task() for _ in range(50)]
        await harness.database.write(lambda: harness.tasks.enqueue(rows))
        await harness.claim(50, by=me)
        harness.clock.advance(LEASE + 1)
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task((harness, other)[n % 2].rescue(me)) for n in range(6)]
        rescued = [task_id for run in runs for task_id in run.result()]
        assert sorted(rescued) == sorted(row.id for row in rows)
        claims = await harness.claim(1000)
        assert {claim.attempt for claim in claims} == {2}


async def test_while_somebody_has_locked_a_dead_dispatchers_row_all_others_are_rescued(server_url: str):
    async with harness_on(server_url) as harness:
        locked, other = [await _die_with(harness, queue=name) for name in ("locked", "other")]
        one, two = [_owner((await harness.get(claim.id)).dispatcher_id) for claim in (locked, other)]
        async with _locked(harness, "SELECT id FROM aiotaskstore_dispatchers WHERE id = :id FOR UPDATE", one):
            async with asyncio.timeout(LIMIT):
                assert await harness.rescue(one) == {}
                assert await harness.rescue(two) == {other.id: TaskStatus.PENDING}
        assert await harness.rescue(one) == {locked.id: TaskStatus.PENDING}


async def test_while_somebody_has_locked_one_task_of_a_dead_dispatcher_its_others_are_rescued(server_url: str):
    async with harness_on(server_url) as harness:
        me = await harness.register()
        rows = [new_task() for _ in range(5)]
        await harness.database.write(lambda: harness.tasks.enqueue(rows))
        await harness.claim(5, by=me)
        harness.clock.advance(LEASE + 1)
        locked = rows[0].id
        async with _locked(harness, "SELECT id FROM aiotaskstore_tasks WHERE id = :id FOR UPDATE", locked):
            async with asyncio.timeout(LIMIT):
                assert len(await harness.rescue(me, limit=2)) == 2, "what is locked takes no place in the batch"
                assert len(await harness.rescue(me, limit=9)) == 2
            assert await _dead(harness, new_id()) == {me}, "its row stays until its last task is rescued"
        assert await harness.rescue(me) == {locked: TaskStatus.PENDING}
        assert await _dead(harness, new_id()) == set()


async def test_where_nothing_skips_locks_rescue_waits_for_them(mysql_url: str):
    async with harness_on(mysql_url) as harness:
        assert isinstance(harness.database, MySQLDatabase)
        harness.database.skips_locked = False
        claim = await _die_with(harness)
        owner = _owner((await harness.get(claim.id)).dispatcher_id)
        assert await harness.rescue(owner) == {claim.id: TaskStatus.PENDING}
        assert await harness.rescue(owner) == {}


async def test_a_dispatcher_with_a_heartbeat_after_the_silence_that_was_seen_is_not_rescued(harness: Harness):
    claim = await _die_with(harness)
    owner = _owner((await harness.get(claim.id)).dispatcher_id)
    long_ago = harness.clock.now - timedelta(seconds=10 * LEASE)
    late = await harness.database.write(lambda: harness.tasks.rescue(owner, 9, last_heartbeat=long_ago))
    assert late == []
    (heartbeat,) = await harness.database.read(lambda: harness.storage.dispatchers.heartbeats(new_id()))
    assert heartbeat.lapsed
    rescued = await harness.database.write(lambda: harness.tasks.rescue(owner, 9, last_heartbeat=heartbeat.at))
    assert [one.id for one in rescued] == [claim.id]


async def test_a_dispatcher_without_a_row_that_registers_again_is_not_rescued(harness: Harness):
    orphan = new_id()
    await harness.add()
    (claim,) = await harness.claim(by=orphan)
    assert await harness.database.read(harness.tasks.orphaned_dispatchers) == [orphan]
    await harness.register(orphan)
    assert await harness.rescue(orphan) == {}
    assert await harness.status(claim.id) is TaskStatus.RUNNING


async def test_running_tasks_of_a_dispatcher_without_a_row_are_found(harness: Harness):
    me, nobody = await harness.register(), new_id()
    await harness.add()
    await harness.add()
    await harness.claim(1, by=me)
    await harness.claim(1, by=nobody)
    assert await harness.database.read(harness.tasks.orphaned_dispatchers) == [nobody]
    assert len(await harness.rescue(nobody)) == 1
    assert await harness.database.read(harness.tasks.orphaned_dispatchers) == []


async def test_a_late_success_of_a_rescued_task_that_nobody_has_claimed_again_counts(harness: Harness):
    for policy in ON_STUCK:
        claim = await _die_with(harness, on_stuck=ON_STUCK.index(policy), queue=policy)
        await harness.rescue(_owner((await harness.get(claim.id)).dispatcher_id))
        assert (await harness.record(claim, Succeeded('"late"'))).lost == frozenset()
        task = await harness.get(claim.id)
        assert (task.status, task.result, task.finish_reason, task.error) == (
            TaskStatus.SUCCEEDED, "late", "ok", None,
        )  # fmt: skip
        assert task.finished_at == harness.clock.now
        assert await harness.claim(9, queue=policy) == []


async def test_a_late_end_that_is_no_success_does_not_count(harness: Harness):
    for policy in ON_STUCK:
        claim = await _die_with(harness, on_stuck=ON_STUCK.index(policy), queue=policy, max_attempts=5)
        await harness.rescue(_owner((await harness.get(claim.id)).dispatcher_id))
        before = await harness.get(claim.id)
        for outcome in (FAILED, Retrying("OSError", "", 0), RELEASED):
            assert (await harness.record(claim, outcome)).lost == {claim.id}
        assert await harness.get(claim.id) == before


async def test_a_late_success_does_not_count_once_the_task_is_somebody_elses(harness: Harness):
    claim = await _die_with(harness, queue="claimed")
    await harness.rescue(_owner((await harness.get(claim.id)).dispatcher_id))
    await harness.claim(queue="claimed")
    cases: list[tuple[Claim, TaskStatus | None]] = [(claim, TaskStatus.RUNNING)]
    for action, status in (("cancel", TaskStatus.CANCELLED), ("retry", TaskStatus.PENDING), ("delete", None)):
        claim = await _die_with(harness, queue=action)
        await harness.rescue(_owner((await harness.get(claim.id)).dispatcher_id))
        assert await getattr(harness, action)(claim.id)
        cases.append((claim, status))
    failed = await _die_with(harness, queue="failed", on_stuck=ON_STUCK.index("fail"))
    await harness.rescue(_owner((await harness.get(failed.id)).dispatcher_id))
    await harness.retry(failed.id)
    cases.append((failed, TaskStatus.PENDING))
    for claim, status in cases:
        assert (await harness.record(claim, Succeeded("1"))).lost == {claim.id}
        assert await harness.status(claim.id) is status


async def test_finished_tasks_are_cleaned_when_their_period_is_over_and_not_before(harness: Harness):
    short, long, for_ever = [
        await harness.run_one(retention=retention, external_id=key)
        for key, retention in (
            ("short", Retention(period=60).dump()), ("long", None), ("ever", Retention(period=None).dump()),
        )
    ]  # fmt: skip
    for claim in (short, long, for_ever):
        await harness.record(claim, FAILED)
    assert await harness.clean() == 0
    harness.clock.advance(59)
    assert await harness.clean() == 0
    harness.clock.advance(1)
    assert await harness.clean() == 1
    assert await harness.status(short.id) is None
    assert await harness.side_rows(short.id) == 0
    assert not await harness.add_keyed(new_task(external_id="short"))
    harness.clock.advance(timedelta(days=7).total_seconds())
    assert await harness.clean() == 1
    harness.clock.advance(timedelta(days=36_500).total_seconds())
    assert await harness.clean() == 0
    assert await harness.status(for_ever.id) is TaskStatus.FAILED


async def test_unfinished_tasks_are_never_cleaned(harness: Harness):
    retention = Retention(period=0).dump()
    ids = [await harness.add(retention=retention), await harness.add(retention=retention, delay=60)]
    ids.append((await harness.run_one(retention=retention, queue="b")).id)
    harness.clock.advance(3600)
    assert await harness.clean() == 0
    assert None not in [await harness.status(task_id) for task_id in ids]


async def test_a_retried_task_is_not_cleaned_by_the_period_of_its_earlier_end(harness: Harness):
    claim = await harness.run_one(retention=Retention(period=60).dump())
    await harness.record(claim, FAILED)
    await harness.retry(claim.id)
    harness.clock.advance(3600)
    assert await harness.clean() == 0
    (again,) = await harness.claim()
    await harness.record(again, EMPTY)
    assert await harness.clean() == 0
    harness.clock.advance(60)
    assert await harness.clean() == 1


async def test_racing_cleaners_delete_each_task_once(url: str):
    async with harness_on(url) as harness, harness_on(url, harness.clock) as other:
        rows = [new_task(retention=Retention(period=1).dump()) for _ in range(100)]
        await harness.database.write(lambda: harness.tasks.enqueue(rows))
        claims = await harness.claim(100)
        await harness.database.write(lambda: harness.tasks.record([(claim, EMPTY) for claim in claims]))
        harness.clock.advance(2)
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task((harness, other)[n % 2].clean(30)) for n in range(8)]
        deleted = sum(run.result() for run in runs)
        while more := await harness.clean(30):
            deleted += more
        assert deleted == len(rows)


async def test_counts_name_every_queue_and_status(harness: Harness):
    await harness.add(queue="b")
    await harness.add(queue="b", delay=5)
    for _ in range(2):
        await harness.record(await harness.run_one(queue="a"), EMPTY)
    counts = await harness.database.read(harness.storage.counts)
    assert [(count.queue, count.status, count.tasks) for count in counts] == [
        ("a", TaskStatus.SUCCEEDED, 2), ("b", TaskStatus.PENDING, 1), ("b", TaskStatus.SCHEDULED, 1),
    ]  # fmt: skip


async def _die_with(harness: Harness, **fields) -> Claim:
    """Claim a task as a dispatcher that is silent for longer than its lease from then on."""
    me = await harness.register()
    await harness.add(**fields)
    (claim,) = await harness.claim(by=me, queue=fields.get("queue", "default"))
    harness.clock.advance(LEASE + 1)
    return claim


async def _dead(harness: Harness, me: UUID) -> set[UUID]:
    heartbeats = await harness.database.read(lambda: harness.storage.dispatchers.heartbeats(me))
    return {one.dispatcher for one in heartbeats if one.lapsed}


def _owner(dispatcher: UUID | None) -> UUID:
    assert dispatcher is not None
    return dispatcher


@asynccontextmanager
async def _locked(harness: Harness, sql: str, id_: UUID) -> AsyncIterator[None]:
    """Hold the lock of a statement, as somebody else, while the block lasts."""
    async with harness.database.session() as session:
        await session.begin()
        try:
            assert len(await session.run(Query(sql, {"id": id_}))) == 1
            yield
        finally:
            await session.rollback()
