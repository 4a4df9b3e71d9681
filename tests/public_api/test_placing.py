"""Paused, rescheduled, hidden, restored: when a task runs, and whether anybody sees it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from aiotaskstore import (
    ConfigurationError,
    DuplicateTaskError,
    InvalidTransitionError,
    TaskEnqueued,
    TaskNotFoundError,
    TaskStarted,
    TaskStatus,
    TaskStore,
)
from tests.helpers import LIMIT, expect

LATER = timedelta(hours=1)


@pytest.mark.acceptance("A27", "A95")
async def test_a_paused_task_is_not_run_until_it_is_resumed(store: TaskStore):
    runs: list[int] = []

    @store.task
    async def work(n: int) -> None:
        runs.append(n)

    first, second = await work.enqueue(1), await work.enqueue(2)
    task = await store.tasks.pause(first.id)
    assert (task.status, task.attempt) == (TaskStatus.PAUSED, 0)
    assert await store.dispatcher().run_once() == 1
    assert (runs, await first.status()) == ([2], TaskStatus.PAUSED)
    resumed = await store.tasks.resume(first.id)
    assert (resumed.status, resumed.run_at) == (TaskStatus.PENDING, task.run_at)
    assert await store.dispatcher().run_once() == 1
    assert runs == [2, 1]
    assert (await second.task()).status is TaskStatus.SUCCEEDED


async def test_what_is_resumed_or_rescheduled_wakes_an_idle_dispatcher(store: TaskStore):
    @store.task
    async def work() -> None: ...

    paused, scheduled = await work.options(delay=3600).enqueue(), await work.options(delay=3600).enqueue()
    hidden = await work.options(delay=0.001).enqueue()
    await store.tasks.soft_delete(hidden.id)
    await store.tasks.pause(paused.id)
    await store.tasks.reschedule(paused.id, delay=0)
    async with store.dispatcher(poll_interval=50):
        await store.tasks.resume(paused.id)
        await paused.wait(timeout=LIMIT)
        await store.tasks.reschedule(scheduled.id, delay=0.05)
        await scheduled.wait(timeout=LIMIT)
        await store.tasks.restore(hidden.id)
        await hidden.wait(timeout=LIMIT)


@pytest.mark.parametrize("where", ["file", "memory"])
async def test_on_sqlite_what_is_due_at_this_instant_is_due_and_was_made_no_earlier(where: str, sqlite_url: str):
    async with TaskStore(sqlite_url if where == "file" else "sqlite://") as store:
        for _ in range(30):
            asked = datetime.now(UTC)
            task = await (await store.enqueue("work", unchecked=True, run_at=asked)).task()
            assert (task.status, task.run_at, task.updated_at) == (TaskStatus.PENDING, asked, task.created_at)
            assert asked <= task.created_at <= datetime.now(UTC)
            assert (await store.tasks.reschedule(task.id, datetime.now(UTC))).status is TaskStatus.PENDING


async def test_a_paused_task_that_is_rescheduled_stays_paused_and_is_placed_by_its_new_time(store: TaskStore):
    handle = await store.enqueue("work", unchecked=True)
    await store.tasks.pause(handle.id)
    at = datetime.now(UTC) + LATER
    task = await store.tasks.reschedule(handle.id, at)
    assert task.status is TaskStatus.PAUSED
    assert abs(task.run_at - at) < timedelta(milliseconds=1)
    assert (await store.tasks.resume(handle.id)).status is TaskStatus.SCHEDULED
    assert (await store.tasks.reschedule(handle.id, delay=timedelta(0))).status is TaskStatus.PENDING
    assert (await store.tasks.reschedule(handle.id, run_at=at)).status is TaskStatus.SCHEDULED


async def test_a_due_time_is_given_once_and_as_an_instant(store: TaskStore):
    handle = await store.enqueue("work", unchecked=True)
    before = await handle.task()
    wrong: list[dict[str, Any]] = [
        {}, {"run_at": datetime.now(UTC), "delay": 1}, {"run_at": datetime(2030, 1, 1)}, {"run_at": "2030"},  # noqa: DTZ001
        {"delay": -1}, {"delay": "1h"}, {"run_at": datetime(999, 1, 1, tzinfo=UTC)},
    ]  # fmt: skip
    for given in wrong:
        with pytest.raises(ConfigurationError, match=r"run_at|delay"):
            await store.tasks.reschedule(handle.id, **given)
        with pytest.raises(ConfigurationError, match=r"run_at|delay"):
            await store.tasks.reschedule(where="all", **given)
    assert await handle.task() == before


async def test_batches_skip_what_an_action_is_not_for(store: TaskStore):
    draft = store.draft("work", unchecked=True)
    pending = await store.enqueue_many([draft] * 3)
    later = await store.enqueue_many([store.draft("work", unchecked=True, delay=3600)] * 2)
    await store.tasks.cancel(pending[0])
    assert await store.tasks.pause(where={"alias": "work"}) == 4
    assert await store.tasks.pause(where={"alias": "work"}) == 0
    assert await store.tasks.reschedule(where={"status": "paused"}, delay=0) == 4
    assert await store.tasks.resume(where={"id_in": [*pending, later[0]], "limit": 2}) == 2
    assert await store.tasks.resume(where="all") == 2
    assert await store.tasks.count(status="pending") == 4
    assert await store.tasks.reschedule(where={"status": "pending"}, run_at=datetime.now(UTC) + LATER) == 4
    assert await store.tasks.count(status="scheduled") == 4


@pytest.mark.acceptance("A07", "A27")
async def test_a_soft_deleted_task_is_invisible_everywhere_and_never_run(store: TaskStore):
    @store.task
    async def work() -> None: ...

    pending = await work.options(queue="q", external_id="one").enqueue()
    later = await work.options(queue="q", delay=0.001).enqueue()
    done = await work.options(queue="q").enqueue()
    await store.dispatcher(queues="q", concurrency=1).run_once(limit=1)
    handles = [pending, later, done]
    hidden = [await store.tasks.soft_delete(handle.id) for handle in handles]
    assert all(task.deleted_at is not None for task in hidden)
    for handle in handles:
        assert await store.tasks.get(handle.id) is None
        assert await handle.status() is None
        wait = partial(store.tasks.wait, timeout=LIMIT)
        for ask in (store.tasks.require, store.tasks.cancel, store.tasks.retry, store.tasks.pause, wait):
            with pytest.raises(TaskNotFoundError):
                await ask(handle.id)
        with pytest.raises(TaskNotFoundError):
            await handle.result(timeout=LIMIT)
        with pytest.raises(TaskNotFoundError):
            await anext(handle.progress())
    assert await store.tasks.list() == []
    assert await store.tasks.count(queue="q") == 0
    assert await store.tasks.peek("q") is None
    assert sum(sum(queue.depth.values()) for queue in await store.queues.list()) == 0
    assert await store.tasks.cancel(where={"queue": "q"}) == 0
    assert await store.dispatcher().run_once() == 0
    assert {task.id for task in await store.tasks.list(queue="q", include_deleted=True)} == {one.id for one in handles}
    assert await store.tasks.count(include_deleted=True) == 3


@pytest.mark.acceptance("A07")
async def test_restoring_shows_a_task_again_and_places_it_by_its_due_time(store: TaskStore):
    @store.task
    async def work() -> int:
        return 7

    due, soon, later, paused, done = [await work.options(delay=delay).enqueue() for delay in (0, 0.001, 3600, 3600, 0)]
    await store.tasks.pause(paused.id)
    await store.tasks.mark_succeeded(done.id, 7)
    ids = [due.id, soon.id, later.id, paused.id, done.id]
    assert await store.tasks.soft_delete(where={"alias": "work"}) == 5
    assert await store.tasks.soft_delete(where={"alias": "work"}) == 0, "hidden ones do not match"
    assert await store.tasks.restore(where={"alias": "none"}) == 0
    shown = await store.tasks.restore(soon.id)
    assert (shown.status, shown.deleted_at) == (TaskStatus.PENDING, None)
    assert await store.tasks.restore(where={"alias": "work", "limit": 3}) == 3
    assert await store.tasks.restore(where="all") == 1
    assert await store.tasks.restore(where="all") == 0
    assert [str(await store.tasks.status(task_id)) for task_id in ids] == [
        "pending", "pending", "scheduled", "paused", "succeeded",
    ]  # fmt: skip
    assert await done.result() == 7
    assert await store.dispatcher().run_once() == 2


async def test_hiding_and_showing_twice_changes_nothing(store: TaskStore):
    handle = await store.enqueue("work", unchecked=True)
    assert await store.tasks.restore(handle.id) == await handle.task()
    hidden = await store.tasks.soft_delete(handle.id)
    assert await store.tasks.soft_delete(handle.id) == hidden
    assert await store.tasks.delete(handle.id) is True
    assert await store.tasks.count(include_deleted=True) == 0
    for act in (store.tasks.soft_delete, store.tasks.restore):
        with pytest.raises(TaskNotFoundError):
            await act(handle.id)


async def test_a_hidden_task_keeps_its_external_id(store: TaskStore):
    handle = await store.enqueue("work", unchecked=True, external_id="one")
    await store.tasks.soft_delete(handle.id)
    with pytest.raises(DuplicateTaskError) as caught:
        await store.enqueue("work", unchecked=True, external_id="one")
    assert caught.value.existing_id == handle.id


async def test_a_running_task_that_is_hidden_goes_on_and_its_end_is_recorded(store: TaskStore):
    let_go = asyncio.Event()

    @store.task(max_attempts=2, backoff=0)
    async def work(fail: bool) -> str:
        await let_go.wait()
        if fail:
            raise ValueError
        return "done"

    async with store.dispatcher():
        async with expect(store, TaskStarted, TaskStarted):
            good, bad = await work.enqueue(False), await work.enqueue(True)
        waiting = asyncio.ensure_future(good.wait(timeout=LIMIT))  # noqa: TID251
        for handle in (good, bad):
            assert (await store.tasks.soft_delete(handle.id)).status is TaskStatus.RUNNING
        with pytest.raises(TaskNotFoundError):
            await waiting
        let_go.set()
    found = {task.id: task for task in await store.tasks.list(include_deleted=True)}
    assert (found[good.id].status, found[good.id].result) == (TaskStatus.SUCCEEDED, "done")
    assert (found[bad.id].status, found[bad.id].attempt) == (TaskStatus.PENDING, 1), "another attempt waits, unseen"
    assert all(task.deleted_at for task in found.values())
    assert await store.tasks.list() == []
    await store.tasks.restore(where={"alias": "work"})
    assert await good.result() == "done"
    assert await store.dispatcher().run_once() == 1
    assert await bad.status() is TaskStatus.FAILED


async def test_an_action_told_to_include_hidden_ones_finds_them(store: TaskStore):
    ids = await store.enqueue_many([store.draft("work", unchecked=True)] * 3)
    await store.tasks.soft_delete(where={"id_in": ids[:2]})
    assert await store.tasks.pause(where={"alias": "work", "include_deleted": True}) == 3
    assert await store.tasks.count(status="paused") == 1
    assert await store.tasks.delete(where={"alias": "work", "include_deleted": True}) == 3


@pytest.mark.acceptance("A22")
async def test_peek_shows_what_would_run_next_and_claims_nothing(store: TaskStore):
    runs: list[str] = []

    @store.task
    async def work(name: str) -> None:
        runs.append(name)

    assert await store.tasks.peek() is None
    await work.options(queue="emails").enqueue("other")
    await work.enqueue("third")
    await work.options(priority=-1).enqueue("second")
    first = await work.options(priority=-1, run_at=datetime.now(UTC) - LATER).enqueue("first")
    for name in (None, "", "default"):
        task = await store.tasks.peek(name)
        assert task is not None
        assert (task.id, task.status, task.payload) == (first.id, TaskStatus.PENDING, {"name": "first"})
    await store.tasks.pause(first.id)
    task = await store.tasks.peek("default")
    assert task is not None
    assert task.payload == {"name": "second"}
    await store.tasks.resume(first.id)
    assert (await store.tasks.peek("emails") or task).payload == {"name": "other"}
    await store.dispatcher(queues="default", concurrency=1).run_once()
    assert runs == ["first", "second", "third"]
    assert [task.payload for task in await store.tasks.list(queue="default", status="running")] == []


async def test_actions_on_a_callers_connection_are_undone_with_it(store: TaskStore):
    ids: list[UUID] = await store.enqueue_many([store.draft("work", unchecked=True)] * 4)
    with pytest.raises(ZeroDivisionError):
        async with store.transaction() as connection:
            tasks = store.using(connection).tasks
            assert (await tasks.pause(ids[0])).status is TaskStatus.PAUSED
            assert await tasks.soft_delete(where={"id_in": ids[1:3]}) == 2
            assert (await tasks.reschedule(ids[3], delay=60)).status is TaskStatus.SCHEDULED
            assert await tasks.get(ids[1]) is None
            assert await tasks.count() == 2
            raise ZeroDivisionError
    assert await store.tasks.count(status="pending") == 4
    async with store.transaction() as connection:
        await store.using(connection).tasks.pause(where={"alias": "work"})
    assert await store.tasks.count(status="paused") == 4


async def test_a_task_that_is_claimed_at_the_same_moment_is_paused_or_run_never_both(store: TaskStore):
    @store.task
    async def work() -> None: ...

    async def pause(task_id: UUID) -> bool:
        try:
            await store.tasks.pause(task_id)
        except InvalidTransitionError:
            return False
        return True

    async with store.dispatcher(concurrency=5):
        for _ in range(5):
            async with expect(store, TaskEnqueued):
                ids = await store.enqueue_many([work.draft()] * 5)
            async with asyncio.TaskGroup() as group:
                pausing = [group.create_task(pause(task_id)) for task_id in ids]
            for task_id, paused in zip(ids, pausing, strict=True):
                if paused.result():
                    task = await store.tasks.require(task_id)
                    assert (task.status, task.attempt) == (TaskStatus.PAUSED, 0)
                else:
                    assert (await store.tasks.wait(task_id, timeout=LIMIT)).status is TaskStatus.SUCCEEDED
