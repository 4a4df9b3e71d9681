"""What an operator does to a task: cancel, retry, delete."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial

from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.outcome import EMPTY, Failed, Retrying, Succeeded
from aiotaskstore.retention import Retention
from aiotaskstore.storage.tasks import ActionResult
from aiotaskstore.task import TaskStatus
from tests.helpers import eventually, my_connection
from tests.storage.harness import Harness, new_task

FAILED = Failed("ValueError", "no good", FinishReason.ERROR)


async def test_cancelling_what_does_not_run_ends_it_at_once(harness: Harness):
    for status in (TaskStatus.PENDING, TaskStatus.SCHEDULED, TaskStatus.PAUSED, TaskStatus.WAITING):
        task_id = await harness.add(delay=60 if status is TaskStatus.SCHEDULED else None)
        if status in {TaskStatus.PAUSED, TaskStatus.WAITING}:
            await harness.force_status(task_id, status)
        assert await harness.cancel(task_id, "not wanted")
        task = await harness.get(task_id)
        assert (task.status, task.finish_reason, task.cancel_reason) == (TaskStatus.CANCELLED, "request", "not wanted")
        assert task.cancelled_at == task.finished_at == harness.clock.now
    assert await harness.claim(9) == []
    harness.clock.advance(60)
    assert await harness.promote() == []


async def test_cancelling_a_running_task_asks_and_lets_it_run(harness: Harness):
    claim = await harness.run_one()
    assert await harness.cancel(claim.id, "please")
    task = await harness.get(claim.id)
    assert (task.status, task.cancel_requested_at, task.cancel_reason) == (
        TaskStatus.RUNNING, harness.clock.now, "please",
    )  # fmt: skip


async def test_a_forced_cancel_ends_a_running_task_and_voids_its_claim(harness: Harness):
    claim = await harness.run_one()
    assert await harness.cancel(claim.id, "now", force=True)
    task = await harness.get(claim.id)
    assert (task.status, task.cancel_reason) == (TaskStatus.CANCELLED, "now")
    for outcome in (Succeeded("1"), FAILED):
        assert (await harness.record(claim, outcome)).lost == {claim.id}
    assert await harness.get(claim.id) == task


async def test_what_has_finished_is_not_cancelled(harness: Harness):
    claim = await harness.run_one()
    await harness.record(claim, EMPTY)
    before = await harness.get(claim.id)
    for force in (False, True):
        assert not await harness.cancel(claim.id, "late", force=force)
    assert await harness.get(claim.id) == before
    assert await harness.database.write(lambda: harness.tasks.cancel([new_id()], "", force=False)) == {}


async def test_retrying_starts_from_the_beginning(harness: Harness):
    claim = await harness.run_one(
        max_attempts=5, priority=3, external_id="one", payload='{"a": 1}', metadata='{"t": 1}'
    )
    await harness.record(claim, Retrying("OSError", "down", 0))
    (claim,) = await harness.claim()
    await harness.record(claim, FAILED)
    before = await harness.get(claim.id)
    harness.clock.advance(60)
    assert await harness.retry(claim.id)
    task = await harness.get(claim.id)
    assert (task.status, task.attempt, task.run_at) == (TaskStatus.PENDING, 0, harness.clock.now)
    assert (task.finish_reason, task.finished_at, task.expires_at, task.result) == (None,) * 4
    assert task.details == f"{harness.clock.now:%Y-%m-%d %H:%M:%S} UTC: retried, after attempt 2"
    for kept in ("payload", "metadata", "external_id", "priority", "max_attempts", "created_at", "errors"):
        assert getattr(task, kept) == getattr(before, kept)
    (again,) = await harness.claim()
    assert (again.id, again.attempt) == (claim.id, 1)
    assert (await harness.record(claim, EMPTY)).lost == {claim.id}
    await harness.record(again, EMPTY)
    assert await harness.status(claim.id) is TaskStatus.SUCCEEDED


async def test_everything_but_a_running_or_succeeded_task_can_be_retried(harness: Harness):
    for status in (TaskStatus.PENDING, TaskStatus.SCHEDULED, TaskStatus.PAUSED, TaskStatus.WAITING):
        task_id = await harness.add(delay=60 if status is TaskStatus.SCHEDULED else None)
        if status in {TaskStatus.PAUSED, TaskStatus.WAITING}:
            await harness.force_status(task_id, status)
        assert await harness.retry(task_id)
        assert [claim.id for claim in await harness.claim(9)] == [task_id]
        assert not await harness.retry(task_id)
        assert not await harness.retry(task_id, force=True)
        assert await harness.status(task_id) is TaskStatus.RUNNING
    cancelled = await harness.add()
    await harness.cancel(cancelled)
    assert await harness.retry(cancelled)
    task = await harness.get(cancelled)
    assert (task.status, task.cancel_requested_at, task.cancel_reason, task.cancelled_at) == (
        TaskStatus.PENDING, None, None, None,
    )  # fmt: skip


async def test_a_succeeded_task_is_retried_only_by_force(harness: Harness):
    claim = await harness.run_one()
    await harness.record(claim, Succeeded("1"))
    assert not await harness.retry(claim.id)
    assert (await harness.get(claim.id)).result == 1
    assert await harness.retry(claim.id, force=True)
    task = await harness.get(claim.id)
    assert (task.status, task.result) == (TaskStatus.PENDING, None)


async def test_a_task_whose_payload_was_not_kept_is_not_retried(harness: Harness):
    claim = await harness.run_one(retention=Retention(payload="none").dump())
    await harness.record(claim, FAILED)
    answers = await harness.database.write(lambda: harness.tasks.retry([claim.id], force=True))
    assert (answers[claim.id].done, answers[claim.id].payload_gone) == (False, True)
    assert await harness.status(claim.id) is TaskStatus.FAILED


async def test_a_task_whose_external_id_another_one_took_over_is_not_retried(harness: Harness):
    claim = await harness.run_one(external_id="one")
    await harness.record(claim, FAILED)
    await harness.add_keyed(second := new_task(external_id="one"), live_only=True)
    answers = await harness.database.write(lambda: harness.tasks.retry([claim.id], force=False))
    assert answers == {claim.id: ActionResult(TaskStatus.FAILED, done=False, taken_by=second.id)}
    assert await harness.status(claim.id) is TaskStatus.FAILED


async def test_a_retried_task_owns_its_external_id_again(harness: Harness):
    claim = await harness.run_one(external_id="one")
    await harness.record(claim, FAILED)
    await harness.retry(claim.id)
    assert await harness.add_keyed(second := new_task(external_id="one"), live_only=True) == {second.id: claim.id}


async def test_of_a_retry_and_a_take_over_of_one_external_id_that_race_only_one_wins(harness: Harness):
    for round_ in range(10):
        claim = await harness.run_one(external_id=f"{round_}")
        await harness.record(claim, FAILED)
        second = new_task(external_id=f"{round_}")
        async with asyncio.TaskGroup() as group:
            revived = group.create_task(harness.retry(claim.id))
            taken = group.create_task(harness.add_keyed(second, live_only=True))
        assert revived.result() == bool(taken.result()), "both live under one external id, or neither"


async def test_deleting_takes_everything_that_stands_beside(harness: Harness):
    finished = await harness.run_one(external_id="one")
    await harness.record(finished, FAILED)
    pending = await harness.add(external_id="two")
    for task_id in (finished.id, pending):
        assert await harness.delete(task_id)
        assert await harness.status(task_id) is None
        assert await harness.side_rows(task_id) == 0
        assert not await harness.delete(task_id)
    assert await harness.claim(9) == []


async def test_a_running_task_is_deleted_only_by_force_which_voids_its_claim(harness: Harness):
    claim = await harness.run_one(external_id="one")
    assert not await harness.delete(claim.id)
    assert await harness.status(claim.id) is TaskStatus.RUNNING
    assert await harness.delete(claim.id, force=True)
    assert (await harness.record(claim, EMPTY)).lost == {claim.id}
    assert await harness.status(claim.id) is None
    assert not await harness.add_keyed(new_task(external_id="one"))


async def test_actions_on_many_tasks_answer_for_each(harness: Harness):
    pending, running, ended, gone = (
        await harness.add(),
        await harness.run_one(queue="b"),
        await harness.run_one(queue="c"),
        new_id(),
    )
    await harness.record(ended, EMPTY)
    ids = [pending, running.id, ended.id, gone]
    answers = await harness.database.write(lambda: harness.tasks.cancel(ids, "all", force=False))
    assert {task_id: (answer.status, answer.done) for task_id, answer in answers.items()} == {
        pending: (TaskStatus.PENDING, True),
        running.id: (TaskStatus.RUNNING, True),
        ended.id: (TaskStatus.SUCCEEDED, False),
    }
    answers = await harness.database.write(lambda: harness.tasks.delete(ids, force=False))
    assert {task_id: answer.done for task_id, answer in answers.items()} == {
        pending: True, running.id: False, ended.id: True,
    }  # fmt: skip


async def test_an_operators_action_keeps_what_it_does_not_name(harness: Harness):
    at = harness.clock.now + timedelta(hours=1)
    task_id = await harness.add(run_at=at, timeout=5, owner_type="user", owner_id="1", source="s", on_stuck=1)
    await harness.retry(task_id)
    task = await harness.get(task_id)
    assert (task.timeout, task.owner, task.source) == (timedelta(seconds=5), ("user", "1"), "s")
    (claim,) = await harness.claim()
    await harness.record(claim, FAILED)
    await harness.retry(task_id)
    (claim,) = await harness.claim()
    assert (claim.timeout, claim.owner_type, claim.owner_id, claim.source, claim.on_stuck) == (5, "user", "1", "s", 1)


async def test_a_task_that_comes_back_while_an_operator_looks_for_it_is_found(harness: Harness, url: str):
    if url.startswith("sqlite"):
        return  # one writer at a time: nothing moves while somebody looks

    for act in (harness.cancel, harness.retry, harness.delete):
        claim = await harness.run_one()
        await harness.record(claim, FAILED)
        async with my_connection(url) as mine:
            await mine.begin()
            # Its row is in the live half, but not committed; the finished one is gone, but not committed.
            await harness.database.run_on(mine.connection, partial(harness.tasks.retry, [claim.id], force=False))
            looking = asyncio.ensure_future(act(claim.id))  # noqa: TID251
            await eventually(partial(_somebody_waits, harness), pause=0.15)  # InnoDB looks anew only after 0.1 s
            await mine.commit()
            assert await looking is True, act.__name__


async def _somebody_waits(harness: Harness) -> bool:
    """Return whether a statement waits for a lock."""
    if harness.database.kind == "mysql":
        rows = await harness.sql("SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'")
    else:
        rows = await harness.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    return bool(rows[0][0])
