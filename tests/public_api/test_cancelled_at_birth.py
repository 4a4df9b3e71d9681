"""Asyncio tasks of ours that somebody else cancels before their first step: they take nothing with them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from aiotaskstore import AttemptFailed, BackgroundFailed, TaskClaimed, TaskFinished, TaskStatus, TaskStore
from aiotaskstore.dispatch.after_hooks import AfterHooks
from aiotaskstore.dispatch.instance import DispatcherInstance
from aiotaskstore.dispatch.instance_lifecycle import InstanceLifecycle
from aiotaskstore.errors import TaskStoreError
from aiotaskstore.manage.enqueuing_soon import EnqueuingSoon
from tests.helpers import LIMIT, ended, expect


@contextmanager
def cancelled_at_birth(function: Any, times: int = 1) -> Iterator[None]:
    """Cancel the next asyncio tasks of this coroutine function before their first step, as anybody may."""
    loop, left = asyncio.get_running_loop(), times

    def create(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        nonlocal left
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
        if left and getattr(coroutine, "cr_code", None) is function.__code__:
            left -= 1
            task.cancel()
        return task

    loop.set_task_factory(create)
    try:
        yield
    finally:
        loop.set_task_factory(None)
    assert not left, "no such task was made"


def cancel_what_has_not_begun() -> None:
    for task in asyncio.all_tasks():
        if inspect.getcoroutinestate(task.get_coro()) == inspect.CORO_CREATED:  # type: ignore[arg-type]
            task.cancel()


@pytest.fixture
def both(store: TaskStore) -> Any:
    """A task of which two must run at once."""
    meeting = asyncio.Barrier(2)

    @store.task(max_attempts=2, backoff=0, timeout=LIMIT)
    async def both() -> None:
        await meeting.wait()

    return both


async def test_a_run_cancelled_before_its_first_step_ends_as_a_cancelled_handler_and_keeps_no_slot(
    store: TaskStore, both: Any
):
    claimed = 0

    @store.on(TaskClaimed)
    def cancel(_event: TaskClaimed) -> None:
        nonlocal claimed
        claimed += 1
        if claimed <= 4:
            asyncio.get_running_loop().call_soon(cancel_what_has_not_begun)

    @store.task
    async def once() -> None:
        raise AssertionError("not reached")

    async with store.dispatcher(concurrency=2):
        async with expect(store, AttemptFailed, AttemptFailed, TaskFinished, TaskFinished, alias="once") as told:
            failed = await ended(store, await store.enqueue_many([once.draft(), once.draft()]))
        assert {type(event.error) for event in told if isinstance(event, AttemptFailed)} == {asyncio.CancelledError}
        assert [(task.status, task.attempt) for task in failed] == [(TaskStatus.FAILED, 1)] * 2
        assert all("CancelledError" in str(task.error) for task in failed)
        done = await ended(store, await store.enqueue_many([both.draft() for _ in range(4)]))
    assert {task.status for task in done} == {TaskStatus.SUCCEEDED}
    assert sorted(task.attempt for task in done) == [1, 1, 2, 2]


async def test_a_run_asked_to_stop_and_cancelled_before_its_first_step_is_given_back(store: TaskStore):
    calls: list[int] = []

    @store.task
    async def work() -> None:
        calls.append(1)

    dispatcher = store.dispatcher()

    @store.on(TaskClaimed)
    def stop(_event: TaskClaimed) -> None:
        loop = asyncio.get_running_loop()
        if not calls:
            calls.append(0)
            loop.call_soon(dispatcher.cancel_runs)
            loop.call_soon(cancel_what_has_not_begun)

    async with dispatcher:
        (task,) = await ended(store, [(await work.enqueue()).id])
    assert (task.status, task.attempt, calls) == (TaskStatus.SUCCEEDED, 1, [0, 1])


async def test_a_pass_cancelled_before_its_first_step_ends_run_once_with_an_error(store: TaskStore):
    @store.task
    async def work() -> None: ...

    handle = await work.enqueue()
    dispatcher = store.dispatcher()
    with cancelled_at_birth(DispatcherInstance._make_one_pass):
        async with asyncio.timeout(LIMIT):
            with pytest.raises(TaskStoreError, match="run_once did"):
                await dispatcher.run_once()
    with pytest.raises(TaskStoreError, match="has ended"):
        await dispatcher.stop()
    assert await dispatcher.run_once() == 1
    assert (await handle.task()).status is TaskStatus.SUCCEEDED


@pytest.mark.parametrize(
    "function", [InstanceLifecycle._live, InstanceLifecycle._begin_or_keep_error], ids=["life", "start"]
)
async def test_a_start_cancelled_before_its_first_step_raises_and_the_next_one_works(store: TaskStore, function: Any):
    @store.task
    async def work() -> None: ...

    dispatcher = store.dispatcher()
    with cancelled_at_birth(function):
        async with asyncio.timeout(LIMIT):
            with pytest.raises(TaskStoreError, match="has ended"):
                await dispatcher.start()
    with pytest.raises(TaskStoreError, match="has ended"):
        await dispatcher.stop()
    async with dispatcher:
        await (await work.enqueue()).result(timeout=LIMIT)


async def test_hooks_are_called_also_if_the_read_of_their_tasks_was_cancelled_before_its_first_step(store: TaskStore):
    seen: list[TaskStatus] = []
    store.after(lambda context, task, error: seen.append(task.status))

    @store.task
    async def work() -> None: ...

    async with store.dispatcher():
        with cancelled_at_birth(AfterHooks._read):
            await (await work.enqueue()).result(timeout=LIMIT)
        await (await work.enqueue()).result(timeout=LIMIT)
    assert seen == [TaskStatus.SUCCEEDED] * 2


async def test_hooks_cancelled_before_their_first_step_are_reported_and_the_stop_does_not_wait_for_them(
    store: TaskStore,
):
    seen: list[TaskStatus] = []
    store.after(lambda context, task, error: seen.append(task.status))

    @store.task
    async def work() -> None: ...

    with cancelled_at_birth(AfterHooks._call):
        async with asyncio.timeout(LIMIT), store.dispatcher(grace=10 * LIMIT):
            handle = await work.enqueue()
            async with expect(store, BackgroundFailed, loop="after hooks", task_id=handle.id):
                await handle.result(timeout=LIMIT)
    assert seen == []


async def test_a_draft_whose_storing_was_cancelled_before_its_first_step_is_reported(store: TaskStore):
    @store.task
    async def work() -> None: ...

    async with expect(store, BackgroundFailed) as told:
        with cancelled_at_birth(EnqueuingSoon._store):
            lost = store.enqueue_soon(work.draft())
        kept = store.enqueue_soon(work.draft())
        await store.flush()
    (failed,) = told
    assert isinstance(failed, BackgroundFailed)
    assert (failed.loop, failed.task_id) == ("enqueue_soon of work", lost.id)
    assert "was cancelled" in str(failed.error)
    assert [task.id for task in await store.tasks.list()] == [kept.id]
