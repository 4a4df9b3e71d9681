"""Claims: in order, each task to one, with a fence that only grows."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from uuid import UUID

from aiotaskstore.ids import new_id
from aiotaskstore.outcome import RELEASED
from aiotaskstore.storage.tasks import MOST_ROWS
from aiotaskstore.task import TaskStatus
from tests.storage.bench import Bench, bench_on, new_task


async def test_tasks_are_claimed_by_priority_then_due_time_then_age(bench: Bench):
    early, late = bench.clock.now - timedelta(seconds=9), bench.clock.now - timedelta(seconds=1)
    rows = [
        new_task(priority=priority, run_at=run_at) for priority in (-5, 0, 3) for run_at in (early, late, None, None)
    ]
    shuffled = random.Random(1).sample(rows, len(rows))
    await bench.database.write(lambda: bench.tasks.enqueue(shuffled))
    claimed = [(await bench.claim(1))[0].id for _ in rows]
    assert claimed == [row.id for row in rows]


async def test_a_claim_takes_no_more_than_its_limit_of_each_queue(bench: Bench):
    for queue in ("a", "b", "c"):
        rows = [new_task(queue=queue) for _ in range(5)]
        await bench.database.write(lambda rows=rows: bench.tasks.enqueue(rows))  # type: ignore[misc]
    claims = await bench.claim_from([("a", 2), ("b", 9), ("none", 3)])
    assert sorted(claim.queue for claim in claims) == ["a"] * 2 + ["b"] * 5


async def test_a_claim_takes_only_the_aliases_it_can_run_however_many_others_stand_before(bench: Bench):
    rows = [new_task(alias=alias) for alias in ["other"] * 50 + ["work"] * 2]
    await bench.database.write(lambda: bench.tasks.enqueue(rows))
    assert [claim.id for claim in await bench.claim(1)] == [rows[50].id]
    assert [claim.id for claim in await bench.claim(9, aliases=["work", "unknown"])] == [rows[51].id]
    assert await bench.claim(9, aliases=["unknown"]) == []


async def test_a_claim_marks_the_row_and_counts_the_attempt(bench: Bench):
    task_id = await bench.add(max_attempts=3)
    bench.clock.advance(5)
    (claim,) = await bench.claim()
    task = await bench.get(task_id)
    assert (claim.id, claim.attempt, claim.fence) == (task_id, 1, 1)
    assert (task.status, task.attempt, task.dispatcher_id) == (TaskStatus.RUNNING, 1, bench.dispatcher)
    assert (task.started_at, task.updated_at) == (bench.clock.now, bench.clock.now)
    assert await bench.claim() == []


async def test_only_pending_tasks_are_claimed(bench: Bench):
    scheduled = await bench.add(delay=60)
    for status in (TaskStatus.PAUSED, TaskStatus.WAITING):
        await bench.force_status(await bench.add(), status)
    running = await bench.run_one()
    assert await bench.claim(100) == []
    assert await bench.status(scheduled) is TaskStatus.SCHEDULED
    assert await bench.status(running.id) is TaskStatus.RUNNING


async def test_racing_claimers_share_the_tasks_and_none_runs_twice(url: str):
    async with bench_on(url) as bench, bench_on(url, bench.clock) as other:
        rows = [new_task(queue=f"q{n % 3}", priority=n % 2) for n in range(300)]
        await bench.database.write(lambda: bench.tasks.enqueue(rows))
        queues = [("q0", 7), ("q1", 7), ("q2", 7)]
        claimed: list[tuple[UUID, UUID]] = []

        async def keep_claiming(one: Bench) -> None:
            me = new_id()
            while claims := await one.claim_from(queues, by=me):
                claimed.extend((me, claim.id) for claim in claims)

        async with asyncio.TaskGroup() as group:
            for n in range(8):
                group.create_task(keep_claiming((bench, other)[n % 2]))
        # SKIP LOCKED may leave some to the next look, which is what a dispatcher's is for.
        left = [claim.id for claim in await bench.claim_from([(queue, 1000) for queue, _ in queues])]
        ids = [task_id for _, task_id in claimed] + left
        assert len(ids) == len(set(ids)) == len(rows)
        for me, task_id in claimed[::30]:
            task = await bench.get(task_id)
            assert task.dispatcher_id == me


async def test_a_claim_of_more_than_one_statement_could_name_is_whole(bench: Bench):
    rows = [new_task() for _ in range(MOST_ROWS)]
    await bench.database.write(lambda: bench.tasks.enqueue(rows))
    claims = await bench.claim(MOST_ROWS)
    assert {claim.id for claim in claims} == {row.id for row in rows}


async def test_the_fence_grows_with_every_claim_although_attempts_are_given_back(bench: Bench):
    await bench.add()
    fences = []
    for _ in range(4):
        (claim,) = await bench.claim()
        fences.append(claim.fence)
        assert claim.attempt == 1
        await bench.record(claim, RELEASED)
    assert fences == sorted(set(fences))


async def test_what_a_dispatcher_is_believed_to_run_is_what_it_claimed_and_did_not_end(bench: Bench):
    me, other = new_id(), new_id()
    rows = [new_task() for _ in range(4)]
    await bench.database.write(lambda: bench.tasks.enqueue(rows))
    mine = await bench.claim(3, by=me)
    await bench.claim(1, by=other)
    await bench.record(mine[0], RELEASED)
    believed = await bench.database.read(lambda: bench.tasks.running_of(me, 10))
    assert sorted(believed) == sorted((claim.id, claim.fence) for claim in mine[1:])


async def test_queues_with_pending_tasks_are_named_and_only_they(bench: Bench):
    assert await bench.database.read(bench.tasks.pending_queues) == []
    for queue in ("b", "a", "a", "ü"):
        await bench.add(queue=queue)
    await bench.add(queue="later", delay=60)
    await bench.run_one(queue="running")
    assert sorted(await bench.database.read(bench.tasks.pending_queues)) == ["a", "b", "ü"]


async def test_aliases_of_pending_tasks_are_named_and_only_they(bench: Bench):
    for alias in ("b", "a", "a"):
        await bench.add(alias=alias)
    await bench.add(alias="later", delay=60)
    assert sorted(await bench.database.read(bench.tasks.pending_aliases)) == ["a", "b"]
