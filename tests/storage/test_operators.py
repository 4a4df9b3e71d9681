"""What an operator does to a task: cancel, retry, delete."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from aiotaskstore import DuplicateTaskError
from aiotaskstore.ids import new_id
from aiotaskstore.outcome import EMPTY, Failed, Retrying, Succeeded
from aiotaskstore.retention import Retention
from aiotaskstore.task import TaskStatus
from tests.storage.bench import Bench, new_task

FAILED = Failed("ValueError", "no good", "error")


async def test_cancelling_what_does_not_run_ends_it_at_once(bench: Bench):
    for status in (TaskStatus.PENDING, TaskStatus.SCHEDULED, TaskStatus.PAUSED, TaskStatus.WAITING):
        task_id = await bench.add(delay=60 if status is TaskStatus.SCHEDULED else None)
        if status in {TaskStatus.PAUSED, TaskStatus.WAITING}:
            await bench.force_status(task_id, status)
        assert await bench.cancel(task_id, "not wanted")
        task = await bench.get(task_id)
        assert (task.status, task.finish_reason, task.cancel_reason) == (TaskStatus.CANCELLED, "request", "not wanted")
        assert task.cancelled_at == task.finished_at == bench.clock.now
    assert await bench.claim(9) == []
    bench.clock.advance(60)
    assert await bench.promote() == []


async def test_cancelling_a_running_task_asks_and_lets_it_run(bench: Bench):
    claim = await bench.run_one()
    assert await bench.cancel(claim.id, "please")
    task = await bench.get(claim.id)
    assert (task.status, task.cancel_requested_at, task.cancel_reason) == (
        TaskStatus.RUNNING, bench.clock.now, "please",
    )  # fmt: skip


async def test_a_forced_cancel_ends_a_running_task_and_voids_its_claim(bench: Bench):
    claim = await bench.run_one()
    assert await bench.cancel(claim.id, "now", force=True)
    task = await bench.get(claim.id)
    assert (task.status, task.cancel_reason) == (TaskStatus.CANCELLED, "now")
    for outcome in (Succeeded("1"), FAILED):
        assert (await bench.record(claim, outcome)).lost == {claim.id}
    assert await bench.get(claim.id) == task


async def test_what_has_finished_is_not_cancelled(bench: Bench):
    claim = await bench.run_one()
    await bench.record(claim, EMPTY)
    before = await bench.get(claim.id)
    for force in (False, True):
        assert not await bench.cancel(claim.id, "late", force=force)
    assert await bench.get(claim.id) == before
    assert await bench.database.write(lambda: bench.tasks.cancel([new_id()], "", force=False)) == {}


async def test_retrying_starts_from_the_beginning(bench: Bench):
    claim = await bench.run_one(max_attempts=5, priority=3, external_id="one", payload='{"a": 1}', metadata='{"t": 1}')
    await bench.record(claim, Retrying("OSError", "down", 0))
    (claim,) = await bench.claim()
    await bench.record(claim, FAILED)
    before = await bench.get(claim.id)
    bench.clock.advance(60)
    assert await bench.retry(claim.id)
    task = await bench.get(claim.id)
    assert (task.status, task.attempt, task.run_at) == (TaskStatus.PENDING, 0, bench.clock.now)
    assert (task.finish_reason, task.finished_at, task.expires_at, task.result) == (None,) * 4
    for kept in ("payload", "metadata", "external_id", "priority", "max_attempts", "created_at", "errors"):
        assert getattr(task, kept) == getattr(before, kept)
    (again,) = await bench.claim()
    assert (again.id, again.attempt) == (claim.id, 1)
    assert (await bench.record(claim, EMPTY)).lost == {claim.id}
    await bench.record(again, EMPTY)
    assert await bench.status(claim.id) is TaskStatus.SUCCEEDED


async def test_everything_but_a_running_or_succeeded_task_can_be_retried(bench: Bench):
    for status in (TaskStatus.PENDING, TaskStatus.SCHEDULED, TaskStatus.PAUSED, TaskStatus.WAITING):
        task_id = await bench.add(delay=60 if status is TaskStatus.SCHEDULED else None)
        if status in {TaskStatus.PAUSED, TaskStatus.WAITING}:
            await bench.force_status(task_id, status)
        assert await bench.retry(task_id)
        assert [claim.id for claim in await bench.claim(9)] == [task_id]
        assert not await bench.retry(task_id)
        assert not await bench.retry(task_id, force=True)
        assert await bench.status(task_id) is TaskStatus.RUNNING
    cancelled = await bench.add()
    await bench.cancel(cancelled)
    assert await bench.retry(cancelled)
    task = await bench.get(cancelled)
    assert (task.status, task.cancel_requested_at, task.cancel_reason, task.cancelled_at) == (
        TaskStatus.PENDING, None, None, None,
    )  # fmt: skip


async def test_a_succeeded_task_is_retried_only_by_force(bench: Bench):
    claim = await bench.run_one()
    await bench.record(claim, Succeeded("1"))
    assert not await bench.retry(claim.id)
    assert (await bench.get(claim.id)).result == 1
    assert await bench.retry(claim.id, force=True)
    task = await bench.get(claim.id)
    assert (task.status, task.result) == (TaskStatus.PENDING, None)


async def test_a_task_whose_payload_was_not_kept_is_not_retried(bench: Bench):
    claim = await bench.run_one(retention=Retention(payload="none").dump())
    await bench.record(claim, FAILED)
    answers = await bench.database.write(lambda: bench.tasks.retry([claim.id], force=True))
    assert (answers[claim.id].done, answers[claim.id].payload_gone) == (False, True)
    assert await bench.status(claim.id) is TaskStatus.FAILED


async def test_a_task_whose_external_id_another_one_took_over_is_not_retried(bench: Bench):
    claim = await bench.run_one(external_id="one")
    await bench.record(claim, FAILED)
    await bench.want(second := new_task(external_id="one"), live_only=True)
    with pytest.raises(DuplicateTaskError) as caught:
        await bench.retry(claim.id)
    assert caught.value.existing_id == second.id
    assert await bench.status(claim.id) is TaskStatus.FAILED


async def test_a_retried_task_owns_its_external_id_again(bench: Bench):
    claim = await bench.run_one(external_id="one")
    await bench.record(claim, FAILED)
    await bench.retry(claim.id)
    assert await bench.want(second := new_task(external_id="one"), live_only=True) == {second.id: claim.id}


async def test_of_a_retry_and_a_take_over_of_one_external_id_that_race_only_one_wins(bench: Bench):
    for round_ in range(10):
        claim = await bench.run_one(external_id=f"{round_}")
        await bench.record(claim, FAILED)
        second = new_task(external_id=f"{round_}")

        async def retry(task_id=claim.id) -> bool:
            try:
                return await bench.retry(task_id)
            except DuplicateTaskError:
                return False

        async with asyncio.TaskGroup() as group:
            revived = group.create_task(retry())
            taken = group.create_task(bench.want(second, live_only=True))
        assert revived.result() == bool(taken.result()), "both live under one external id, or neither"


async def test_deleting_takes_everything_that_stands_beside(bench: Bench):
    finished = await bench.run_one(external_id="one")
    await bench.record(finished, FAILED)
    pending = await bench.add(external_id="two")
    for task_id in (finished.id, pending):
        assert await bench.delete(task_id)
        assert await bench.status(task_id) is None
        assert await bench.rows_beside(task_id) == 0
        assert not await bench.delete(task_id)
    assert await bench.claim(9) == []


async def test_a_running_task_is_deleted_only_by_force_which_voids_its_claim(bench: Bench):
    claim = await bench.run_one(external_id="one")
    assert not await bench.delete(claim.id)
    assert await bench.status(claim.id) is TaskStatus.RUNNING
    assert await bench.delete(claim.id, force=True)
    assert (await bench.record(claim, EMPTY)).lost == {claim.id}
    assert await bench.status(claim.id) is None
    assert not await bench.want(new_task(external_id="one"))


async def test_actions_on_many_tasks_answer_for_each(bench: Bench):
    pending, running, ended, gone = (
        await bench.add(),
        await bench.run_one(queue="b"),
        await bench.run_one(queue="c"),
        new_id(),
    )
    await bench.record(ended, EMPTY)
    ids = [pending, running.id, ended.id, gone]
    answers = await bench.database.write(lambda: bench.tasks.cancel(ids, "all", force=False))
    assert {task_id: (answer.status, answer.done) for task_id, answer in answers.items()} == {
        pending: (TaskStatus.PENDING, True),
        running.id: (TaskStatus.RUNNING, True),
        ended.id: (TaskStatus.SUCCEEDED, False),
    }
    answers = await bench.database.write(lambda: bench.tasks.delete(ids, force=False))
    assert {task_id: answer.done for task_id, answer in answers.items()} == {
        pending: True, running.id: False, ended.id: True,
    }  # fmt: skip


async def test_an_operators_action_keeps_what_it_does_not_name(bench: Bench):
    at = bench.clock.now + timedelta(hours=1)
    task_id = await bench.add(run_at=at, timeout=5, owner_type="user", owner_id="1", source="s", on_stuck=1)
    await bench.retry(task_id)
    task = await bench.get(task_id)
    assert (task.timeout, task.owner, task.source) == (timedelta(seconds=5), ("user", "1"), "s")
    (claim,) = await bench.claim()
    await bench.record(claim, FAILED)
    await bench.retry(task_id)
    (claim,) = await bench.claim()
    assert (claim.timeout, claim.owner_type, claim.owner_id, claim.source, claim.on_stuck) == (5, "user", "1", "s", 1)
