"""Claims: in order, each task to one, with a fence that only grows."""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import timedelta
from uuid import UUID

import pytest

from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.outcome import RELEASED
from aiotaskstore.storage.tasks import MOST_ROWS
from aiotaskstore.task import TaskStatus
from tests.storage.harness import Harness, harness_on, new_task


async def test_tasks_are_claimed_by_priority_then_due_time_then_age(harness: Harness):
    early, late = harness.clock.now - timedelta(seconds=9), harness.clock.now - timedelta(seconds=1)
    rows = [
        new_task(priority=priority, run_at=run_at) for priority in (-5, 0, 3) for run_at in (early, late, None, None)
    ]
    shuffled = random.Random(1).sample(rows, len(rows))
    await harness.database.write(lambda: harness.tasks.enqueue(shuffled))
    claimed = [(await harness.claim(1))[0].id for _ in rows]
    assert claimed == [row.id for row in rows]


async def test_a_claim_takes_no_more_than_its_limit_of_each_queue(harness: Harness):
    for queue in ("a", "b", "c"):
        rows = [new_task(queue=queue) for _ in range(5)]
        await harness.database.write(lambda rows=rows: harness.tasks.enqueue(rows))  # type: ignore[misc]
    claims = await harness.claim_from([("a", 2), ("b", 9), ("none", 3)])
    assert sorted(claim.queue for claim in claims) == ["a"] * 2 + ["b"] * 5


async def test_a_claim_takes_only_the_aliases_it_can_run_however_many_others_stand_before(harness: Harness):
    rows = [new_task(alias=alias) for alias in ["other"] * 50 + ["work"] * 2]
    await harness.database.write(lambda: harness.tasks.enqueue(rows))
    assert [claim.id for claim in await harness.claim(1)] == [rows[50].id]
    assert [claim.id for claim in await harness.claim(9, aliases=["work", "unknown"])] == [rows[51].id]
    assert await harness.claim(9, aliases=["unknown"]) == []


@pytest.mark.acceptance("A23")
async def test_a_claim_marks_the_row_and_counts_the_attempt(harness: Harness):
    task_id = await harness.add(max_attempts=3)
    harness.clock.advance(5)
    (claim,) = await harness.claim()
    task = await harness.get(task_id)
    assert (claim.id, claim.attempt, claim.fence) == (task_id, 1, 1)
    assert (task.status, task.attempt, task.dispatcher_id) == (TaskStatus.RUNNING, 1, harness.dispatcher)
    assert (task.started_at, task.updated_at) == (harness.clock.now, harness.clock.now)
    assert await harness.claim() == []


@pytest.mark.acceptance("A27")
async def test_only_pending_tasks_are_claimed(harness: Harness):
    scheduled = await harness.add(delay=60)
    for status in (TaskStatus.PAUSED, TaskStatus.WAITING):
        await harness.force_status(await harness.add(), status)
    running = await harness.run_one()
    assert await harness.claim(100) == []
    assert await harness.status(scheduled) is TaskStatus.SCHEDULED
    assert await harness.status(running.id) is TaskStatus.RUNNING


@pytest.mark.acceptance("A25")
async def test_racing_claimers_share_the_tasks_and_none_runs_twice(url: str):
    async with harness_on(url) as harness, harness_on(url, harness.clock) as other:
        rows = [new_task(queue=f"q{n % 3}", priority=n % 2) for n in range(300)]
        await harness.database.write(lambda: harness.tasks.enqueue(rows))
        queues = [("q0", 7), ("q1", 7), ("q2", 7)]
        claimed: list[tuple[UUID, UUID]] = []

        async def keep_claiming(one: Harness) -> None:
            me = new_id()
            while claims := await one.claim_from(queues, by=me):
                claimed.extend((me, claim.id) for claim in claims)

        async with asyncio.TaskGroup() as group:
            for n in range(8):
                group.create_task(keep_claiming((harness, other)[n % 2]))
        # SKIP LOCKED may leave some to the next look, which is what a dispatcher's is for.
        left = [claim.id for claim in await harness.claim_from([(queue, 1000) for queue, _ in queues])]
        ids = [task_id for _, task_id in claimed] + left
        assert len(ids) == len(set(ids)) == len(rows)
        for me, task_id in claimed[::30]:
            task = await harness.get(task_id)
            assert task.dispatcher_id == me


async def test_a_claim_of_more_than_one_statement_could_name_is_whole(harness: Harness):
    rows = [new_task() for _ in range(MOST_ROWS)]
    await harness.database.write(lambda: harness.tasks.enqueue(rows))
    claims = await harness.claim(MOST_ROWS)
    assert {claim.id for claim in claims} == {row.id for row in rows}


async def test_the_fence_grows_with_every_claim_although_attempts_are_given_back(harness: Harness):
    await harness.add()
    fences = []
    for _ in range(4):
        (claim,) = await harness.claim()
        fences.append(claim.fence)
        assert claim.attempt == 1
        await harness.record(claim, RELEASED)
    assert fences == sorted(set(fences))


async def test_what_a_dispatcher_is_believed_to_run_is_what_it_claimed_and_did_not_end(harness: Harness):
    me, other = new_id(), new_id()
    rows = [new_task() for _ in range(4)]
    await harness.database.write(lambda: harness.tasks.enqueue(rows))
    mine = await harness.claim(3, by=me)
    await harness.claim(1, by=other)
    await harness.record(mine[0], RELEASED)
    believed = await harness.database.read(lambda: harness.tasks.running_of(me, 10))
    assert sorted(believed) == sorted((claim.id, claim.fence) for claim in mine[1:])


async def test_queues_with_pending_tasks_are_named_and_only_they(harness: Harness):
    assert await harness.database.read(harness.tasks.pending_queues) == []
    for queue in ("b", "a", "a", "ü"):
        await harness.add(queue=queue)
    await harness.add(queue="later", delay=60)
    await harness.run_one(queue="running")
    assert sorted(await harness.database.read(harness.tasks.pending_queues)) == ["a", "b", "ü"]


async def test_aliases_of_pending_tasks_are_named_and_only_they(harness: Harness):
    for alias in ("b", "a", "a"):
        await harness.add(alias=alias)
    await harness.add(alias="later", delay=60)
    assert sorted(await harness.database.read(harness.tasks.pending_aliases)) == ["a", "b"]


@pytest.mark.acceptance("A23")
async def test_a_claim_asks_no_queue_that_has_nothing(harness: Harness, caplog: pytest.LogCaptureFixture):
    """A dispatcher that has seen ten thousand queues must not pay for each of them with every claim."""
    queues = [f"tenant-{n:05}" for n in range(10_000)]
    ids = {await harness.add(queue=queue) for queue in (queues[7], queues[5_000], queues[-1])}
    with caplog.at_level(logging.DEBUG, "aiotaskstore.sql"):
        claims = await harness.claim_from([(queue, 10) for queue in queues])
    assert {claim.id for claim in claims} == ids
    assert len(caplog.records) < 20, "statements"
    assert not await harness.claim_from([(queue, 10) for queue in queues])
