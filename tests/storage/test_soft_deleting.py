"""Soft-deleted rows, where dispatchers look: not claimed, not promoted, not waited for; and who is still dead."""

from __future__ import annotations

import pytest

from aiotaskstore.outcome import EMPTY, Retrying
from aiotaskstore.storage.listing import Listing, page
from aiotaskstore.task import TaskStatus
from tests.storage.harness import LEASE, Harness


@pytest.mark.acceptance("A07", "A27")
async def test_a_soft_deleted_row_is_neither_claimed_nor_promoted_nor_looked_out_for(harness: Harness):
    pending, scheduled = await harness.add(), await harness.add(delay=30)
    for task_id in (pending, scheduled):
        assert await harness.soft_delete(task_id)
    database, tasks = harness.database, harness.tasks
    assert await database.read(tasks.pending_queues) == []
    assert await database.read(tasks.pending_aliases) == []
    assert await database.read(tasks.next_due) is None
    assert await database.read(lambda: tasks.peek("default")) is None
    assert await database.read(lambda: tasks.finished_among([pending])) == {pending}, "nobody waits for it any more"
    assert await database.read(harness.storage.counts) == []
    harness.clock.advance(60)
    assert await harness.promote() == []
    other = await harness.add()
    assert [claim.id for claim in await harness.claim(9)] == [other]
    assert (await harness.get(pending)).status is TaskStatus.PENDING
    assert (await harness.get(scheduled)).status is TaskStatus.SCHEDULED
    for task_id in (pending, scheduled):
        assert await harness.restore(task_id)
        assert await harness.status(task_id) is TaskStatus.PENDING
    assert {claim.id for claim in await harness.claim(9)} == {pending, scheduled}


async def test_what_runs_soft_deleted_returns_to_the_queue_unseen_and_its_claim_holds(harness: Harness):
    claim = await harness.run_one(max_attempts=5)
    assert await harness.soft_delete(claim.id)
    assert await harness.database.read(lambda: harness.tasks.running_of(harness.dispatcher, 9)) == [(claim.id, 1)]
    assert not (await harness.record(claim, Retrying("OSError", "down", 0))).lost
    assert (await harness.get(claim.id)).status is TaskStatus.PENDING
    assert await harness.claim(9) == []
    await harness.restore(claim.id)
    (again,) = await harness.claim(9)
    await harness.soft_delete(again.id)
    assert not (await harness.record(again, EMPTY)).lost
    task = await harness.get(claim.id)
    assert (task.status, task.deleted_at) == (TaskStatus.SUCCEEDED, harness.clock.now)
    listing = Listing.parse({"status": "succeeded"})
    assert await harness.database.read(lambda: page(harness.tasks, listing)) == []


async def test_a_soft_deleted_task_is_cleaned_when_its_retention_ends(harness: Harness):
    claim = await harness.run_one()
    await harness.record(claim, EMPTY)
    await harness.soft_delete(claim.id)
    harness.clock.advance(8 * 86_400)
    assert await harness.clean() == 1


async def test_a_dispatcher_that_comes_back_before_the_rescue_keeps_its_runs(harness: Harness):
    me = await harness.register()
    await harness.add()
    (claim,) = await harness.claim(by=me)
    harness.clock.advance(LEASE + 1)
    (run,) = await harness.database.read(lambda: harness.tasks.stuck(None))
    assert (run.id, run.fence, run.queue, run.dispatcher) == (claim.id, claim.fence, "default", me)
    fences = {claim.id: claim.fence}
    assert await harness.database.write(lambda: harness.storage.dispatchers.heartbeat(me))
    assert await harness.database.write(lambda: harness.tasks.rescue_runs(fences, me)) == []
    assert await harness.status(claim.id) is TaskStatus.RUNNING
    harness.clock.advance(LEASE + 1)
    older = {claim.id: claim.fence - 1}
    assert await harness.database.write(lambda: harness.tasks.rescue_runs(older, me)) == []
    (rescued,) = await harness.database.write(lambda: harness.tasks.rescue_runs(fences, me))
    assert (rescued.id, rescued.status) == (claim.id, TaskStatus.PENDING)
    assert await harness.database.read(lambda: harness.tasks.stuck(None)) == []
    assert await harness.database.read(harness.storage.dispatchers.list) == [], "its row goes with its last run"


async def test_how_long_a_run_has_lasted_counts_from_its_claim(harness: Harness):
    await harness.add(delay=100)
    harness.clock.advance(100)
    await harness.promote()
    (claim,) = await harness.claim()
    for seconds, found in ((0, [claim.id]), (10, [])):
        runs = await harness.database.read(lambda seconds=seconds: harness.tasks.stuck(seconds))  # type: ignore[misc]
        assert [run.id for run in runs] == found
    harness.clock.advance(10)
    assert [run.id for run in await harness.database.read(lambda: harness.tasks.stuck(10))] == [claim.id]
