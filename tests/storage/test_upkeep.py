"""What nobody asks for: promotion, rescue, cleaning, and who is alive."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

from aiotaskstore.ids import new_id
from aiotaskstore.outcome import EMPTY, RELEASED, Failed, Retrying, Succeeded
from aiotaskstore.retention import Retention
from aiotaskstore.storage.rows import ON_STUCK
from aiotaskstore.task import Claim, TaskStatus
from tests.storage.bench import LEASE, Bench, bench_on, new_task

FAILED = Failed("ValueError", "no good", "error")


async def test_what_is_due_becomes_pending_and_nothing_else_does(bench: Bench):
    soon, late = await bench.add(delay=10, queue="a"), await bench.add(delay=20, queue="b")
    await bench.force_status(paused := await bench.add(delay=5), TaskStatus.PAUSED)
    assert await bench.promote() == []
    bench.clock.advance(10)
    assert await bench.promote() == ["a"]
    assert await bench.promote() == []
    assert [await bench.status(one) for one in (soon, late, paused)] == [
        TaskStatus.PENDING, TaskStatus.SCHEDULED, TaskStatus.PAUSED,
    ]  # fmt: skip
    task = await bench.get(soon)
    assert task.run_at == bench.clock.now
    assert [claim.id for claim in await bench.claim(queue="a")] == [soon]


async def test_the_longest_due_are_promoted_first_and_no_more_than_asked_for(bench: Bench):
    rows = [new_task(delay=10 - n) for n in range(5)]
    await bench.database.write(lambda: bench.tasks.enqueue(rows))
    bench.clock.advance(60)
    assert len(await bench.promote(2)) == 2
    assert {claim.id for claim in await bench.claim(9)} == {row.id for row in rows[3:]}
    assert len(await bench.promote(9)) == 3


async def test_racing_promoters_promote_each_task_once(url: str):
    async with bench_on(url) as bench, bench_on(url, bench.clock) as other:
        rows = [new_task(delay=10) for _ in range(200)]
        await bench.database.write(lambda: bench.tasks.enqueue(rows))
        bench.clock.advance(60)
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task((bench, other)[n % 2].promote(50)) for n in range(8)]
        promoted = sum(len(run.result()) for run in runs)
        while more := len(await bench.promote(50)):
            promoted += more
        assert promoted == len(rows)
        assert len(await bench.claim(1000)) == len(rows)


async def test_the_wait_until_the_next_due_task_is_known(bench: Bench):
    assert await bench.database.read(bench.tasks.next_due) is None
    await bench.add(delay=60)
    await bench.add(delay=20.5)
    assert await bench.database.read(bench.tasks.next_due) == 20.5
    bench.clock.advance(30)
    assert await bench.database.read(bench.tasks.next_due) == 0


async def test_a_dispatcher_is_dead_when_it_has_been_silent_for_longer_than_its_lease(bench: Bench):
    me, silent, lively = [await bench.register() for _ in range(3)]
    bench.clock.advance(LEASE)
    assert await _dead(bench, me) == set()
    await bench.database.write(lambda: bench.storage.dispatchers.beat(lively))
    bench.clock.advance(1)
    assert await _dead(bench, me) == {silent}, "never itself"
    assert await _dead(bench, lively) == {me, silent}
    await bench.database.write(lambda: bench.storage.dispatchers.beat(silent))
    assert await _dead(bench, me) == set()


async def test_a_sign_of_life_tells_whether_the_dispatcher_is_still_known(bench: Bench):
    me = await bench.register()
    assert await bench.database.write(lambda: bench.storage.dispatchers.beat(me))
    await bench.database.write(lambda: bench.storage.dispatchers.leave(me))
    assert not await bench.database.write(lambda: bench.storage.dispatchers.beat(me))


async def test_dispatchers_are_listed_with_how_long_they_have_been_silent(bench: Bench):
    me = await bench.register()
    bench.clock.advance(3)
    await bench.database.write(lambda: bench.storage.dispatchers.set_idle(me, idle=True))
    (row,) = await bench.database.read(bench.storage.dispatchers.list)
    assert (row.id, row.name, row.host, row.pid, row.idle, row.silent_for) == (me, "bench", "here", 1, True, 3)


async def test_a_dead_dispatchers_tasks_are_due_again_at_once(bench: Bench):
    claim = await _die_with(bench, max_attempts=1)
    before = await bench.get(claim.id)
    assert await bench.rescue(_owner(before.dispatcher_id)) == {claim.id: TaskStatus.PENDING}
    task = await bench.get(claim.id)
    assert (task.status, task.attempt, task.run_at, task.dispatcher_id) == (TaskStatus.PENDING, 1, before.run_at, None)
    assert [(one.attempt, one.type) for one in task.errors] == [(1, "Stuck")]
    (again,) = await bench.claim()
    assert (again.attempt, again.fence) == (2, claim.fence + 1)


async def test_a_task_whose_dispatchers_keep_dying_fails_at_the_third_or_its_last_attempt(bench: Bench):
    for max_attempts, last in ((1, 3), (2, 3), (5, 5)):
        task_id = await bench.add(max_attempts=max_attempts, queue=f"{max_attempts}")
        for attempt in range(1, last + 1):
            me = await bench.register()
            (claim,) = await bench.claim(by=me, queue=f"{max_attempts}")
            assert claim.attempt == attempt
            bench.clock.advance(LEASE + 1)
            status = TaskStatus.PENDING if attempt < last else TaskStatus.FAILED
            assert await bench.rescue(me) == {task_id: status}
        task = await bench.get(task_id)
        assert (task.status, task.finish_reason, len(task.errors)) == (TaskStatus.FAILED, "stuck", last)
        assert task.error is not None


async def test_on_stuck_says_what_becomes_of_a_dead_dispatchers_task(bench: Bench):
    for policy, status, reason in (
        ("fail", TaskStatus.FAILED, "stuck"),
        ("interrupt", TaskStatus.INTERRUPTED, "interrupted"),
    ):
        claim = await _die_with(bench, on_stuck=ON_STUCK.index(policy), max_attempts=9)
        assert await bench.rescue(_owner((await bench.get(claim.id)).dispatcher_id)) == {claim.id: status}
        task = await bench.get(claim.id)
        assert (task.status, task.finish_reason, task.attempt) == (status, reason, 1)


async def test_a_dead_dispatchers_task_that_somebody_wanted_cancelled_is_cancelled(bench: Bench):
    claim = await _die_with(bench)
    await bench.cancel(claim.id, "enough")
    assert await bench.rescue(_owner((await bench.get(claim.id)).dispatcher_id)) == {claim.id: TaskStatus.CANCELLED}
    assert (await bench.get(claim.id)).cancel_reason == "enough"


async def test_a_dispatcher_that_lives_is_not_rescued_and_keeps_its_row(bench: Bench):
    me = await bench.register()
    await bench.add()
    (claim,) = await bench.claim(by=me)
    bench.clock.advance(LEASE + 1)
    await bench.database.write(lambda: bench.storage.dispatchers.beat(me))
    assert await bench.rescue(me) == {}
    assert await bench.status(claim.id) is TaskStatus.RUNNING
    assert await bench.database.write(lambda: bench.storage.dispatchers.beat(me))


async def test_with_its_last_task_a_dead_dispatcher_is_forgotten(bench: Bench):
    me = await bench.register()
    for _ in range(3):
        await bench.add()
    await bench.claim(3, by=me)
    bench.clock.advance(LEASE + 1)
    assert len(await bench.rescue(me, limit=2)) == 2
    assert await _dead(bench, new_id()) == {me}
    assert len(await bench.rescue(me, limit=2)) == 1
    assert await _dead(bench, new_id()) == set()


async def test_racing_rescuers_rescue_each_task_once(url: str):
    async with bench_on(url) as bench, bench_on(url, bench.clock) as other:
        me = await bench.register()
        rows = [new_task() for _ in range(50)]
        await bench.database.write(lambda: bench.tasks.enqueue(rows))
        await bench.claim(50, by=me)
        bench.clock.advance(LEASE + 1)
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task((bench, other)[n % 2].rescue(me)) for n in range(6)]
        rescued = [task_id for run in runs for task_id in run.result()]
        assert sorted(rescued) == sorted(row.id for row in rows)
        claims = await bench.claim(1000)
        assert {claim.attempt for claim in claims} == {2}


async def test_running_tasks_of_a_dispatcher_without_a_row_are_found(bench: Bench):
    me, nobody = await bench.register(), new_id()
    await bench.add()
    await bench.add()
    await bench.claim(1, by=me)
    await bench.claim(1, by=nobody)
    assert await bench.database.read(bench.tasks.orphans) == [nobody]
    assert len(await bench.rescue(nobody)) == 1
    assert await bench.database.read(bench.tasks.orphans) == []


async def test_a_late_success_of_a_rescued_task_that_nobody_has_claimed_again_counts(bench: Bench):
    for policy in ON_STUCK:
        claim = await _die_with(bench, on_stuck=ON_STUCK.index(policy), queue=policy)
        await bench.rescue(_owner((await bench.get(claim.id)).dispatcher_id))
        assert (await bench.record(claim, Succeeded('"late"'))).lost == frozenset()
        task = await bench.get(claim.id)
        assert (task.status, task.result, task.finish_reason, task.error) == (
            TaskStatus.SUCCEEDED, "late", "ok", None,
        )  # fmt: skip
        assert task.finished_at == bench.clock.now
        assert await bench.claim(9, queue=policy) == []


async def test_a_late_end_that_is_no_success_does_not_count(bench: Bench):
    for policy in ON_STUCK:
        claim = await _die_with(bench, on_stuck=ON_STUCK.index(policy), queue=policy, max_attempts=5)
        await bench.rescue(_owner((await bench.get(claim.id)).dispatcher_id))
        before = await bench.get(claim.id)
        for outcome in (FAILED, Retrying("OSError", "", 0), RELEASED):
            assert (await bench.record(claim, outcome)).lost == {claim.id}
        assert await bench.get(claim.id) == before


async def test_a_late_success_does_not_count_once_the_task_is_somebody_elses(bench: Bench):
    claim = await _die_with(bench, queue="claimed")
    await bench.rescue(_owner((await bench.get(claim.id)).dispatcher_id))
    await bench.claim(queue="claimed")
    cases: list[tuple[Claim, TaskStatus | None]] = [(claim, TaskStatus.RUNNING)]
    for action, status in (("cancel", TaskStatus.CANCELLED), ("retry", TaskStatus.PENDING), ("delete", None)):
        claim = await _die_with(bench, queue=action)
        await bench.rescue(_owner((await bench.get(claim.id)).dispatcher_id))
        assert await getattr(bench, action)(claim.id)
        cases.append((claim, status))
    failed = await _die_with(bench, queue="failed", on_stuck=ON_STUCK.index("fail"))
    await bench.rescue(_owner((await bench.get(failed.id)).dispatcher_id))
    await bench.retry(failed.id)
    cases.append((failed, TaskStatus.PENDING))
    for claim, status in cases:
        assert (await bench.record(claim, Succeeded("1"))).lost == {claim.id}
        assert await bench.status(claim.id) is status


async def test_finished_tasks_are_cleaned_when_their_period_is_over_and_not_before(bench: Bench):
    short, long, for_ever = [
        await bench.run_one(retention=retention, external_id=key)
        for key, retention in (
            ("short", Retention(period=60).dump()), ("long", None), ("ever", Retention(period=None).dump()),
        )
    ]  # fmt: skip
    for claim in (short, long, for_ever):
        await bench.record(claim, FAILED)
    assert await bench.clean() == 0
    bench.clock.advance(59)
    assert await bench.clean() == 0
    bench.clock.advance(1)
    assert await bench.clean() == 1
    assert await bench.status(short.id) is None
    assert await bench.rows_beside(short.id) == 0
    assert not await bench.want(new_task(external_id="short"))
    bench.clock.advance(timedelta(days=7).total_seconds())
    assert await bench.clean() == 1
    bench.clock.advance(timedelta(days=36_500).total_seconds())
    assert await bench.clean() == 0
    assert await bench.status(for_ever.id) is TaskStatus.FAILED


async def test_unfinished_tasks_are_never_cleaned(bench: Bench):
    retention = Retention(period=0).dump()
    ids = [await bench.add(retention=retention), await bench.add(retention=retention, delay=60)]
    ids.append((await bench.run_one(retention=retention, queue="b")).id)
    bench.clock.advance(3600)
    assert await bench.clean() == 0
    assert None not in [await bench.status(task_id) for task_id in ids]


async def test_a_retried_task_is_not_cleaned_by_the_period_of_its_earlier_end(bench: Bench):
    claim = await bench.run_one(retention=Retention(period=60).dump())
    await bench.record(claim, FAILED)
    await bench.retry(claim.id)
    bench.clock.advance(3600)
    assert await bench.clean() == 0
    (again,) = await bench.claim()
    await bench.record(again, EMPTY)
    assert await bench.clean() == 0
    bench.clock.advance(60)
    assert await bench.clean() == 1


async def test_racing_cleaners_delete_each_task_once(url: str):
    async with bench_on(url) as bench, bench_on(url, bench.clock) as other:
        rows = [new_task(retention=Retention(period=1).dump()) for _ in range(100)]
        await bench.database.write(lambda: bench.tasks.enqueue(rows))
        claims = await bench.claim(100)
        await bench.database.write(lambda: bench.tasks.record([(claim, EMPTY) for claim in claims]))
        bench.clock.advance(2)
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task((bench, other)[n % 2].clean(30)) for n in range(8)]
        deleted = sum(run.result() for run in runs)
        while more := await bench.clean(30):
            deleted += more
        assert deleted == len(rows)


async def test_counts_name_every_queue_and_status(bench: Bench):
    await bench.add(queue="b")
    await bench.add(queue="b", delay=5)
    for _ in range(2):
        await bench.record(await bench.run_one(queue="a"), EMPTY)
    counts = await bench.database.read(bench.storage.counts)
    assert [tuple(count) for count in counts] == [
        ("a", TaskStatus.SUCCEEDED, 2), ("b", TaskStatus.PENDING, 1), ("b", TaskStatus.SCHEDULED, 1),
    ]  # fmt: skip


async def _die_with(bench: Bench, **fields) -> Claim:
    """Claim a task as a dispatcher that is silent for longer than its lease from then on."""
    me = await bench.register()
    await bench.add(**fields)
    (claim,) = await bench.claim(by=me, queue=fields.get("queue", "default"))
    bench.clock.advance(LEASE + 1)
    return claim


async def _dead(bench: Bench, me: UUID) -> set[UUID]:
    return {one for one, _ in await bench.database.read(lambda: bench.storage.dispatchers.dead(me))}


def _owner(dispatcher: UUID | None) -> UUID:
    assert dispatcher is not None
    return dispatcher
