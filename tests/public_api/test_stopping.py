"""How a run ends that is asked to: timeout, cancel, shutdown; and handlers that do not want to."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest

from aiotaskstore import (
    Cancel,
    DispatcherStopped,
    NotCancellableError,
    Retry,
    Snooze,
    TaskCancelledError,
    TaskContext,
    TaskFailedError,
    TaskFinished,
    TaskNotFoundError,
    TaskRetried,
    TaskStarted,
    TaskStatus,
    TaskStore,
    current_context,
)
from tests.helpers import LIMIT, eventually, expect, lasting_heartbeats


@pytest.mark.acceptance("A55")
async def test_a_timeout_cancels_the_handler_and_fails_the_attempt_naming_the_limit(store: TaskStore):
    seen = []

    @store.task(timeout=0.1)
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(current_context().cancelled)
            raise

    handle = await slow.enqueue()
    async with store.dispatcher():
        task = await handle.wait(timeout=LIMIT)
    assert seen == [True]
    assert (task.status, task.finish_reason, task.timeout) == (TaskStatus.FAILED, "timeout", timedelta(seconds=0.1))
    assert task.error is not None
    assert task.error.startswith("TimeoutError")
    assert "0.1" in task.error


@pytest.mark.acceptance("A55")
async def test_a_timed_out_attempt_is_retried_like_any_error(store: TaskStore):
    attempts = []

    @store.task(timeout=0.1, max_attempts=3, backoff=0)
    async def slow(context: TaskContext) -> str:
        attempts.append(context.attempt)
        if context.attempt < 3:
            await asyncio.Event().wait()
        return "at last"

    handle = await slow.enqueue()
    async with store.dispatcher():
        assert await handle.result(timeout=LIMIT) == "at last"
    assert attempts == [1, 2, 3]
    assert [error.type for error in (await handle.task()).errors] == ["TimeoutError"] * 2


async def test_a_handler_that_returns_a_value_after_its_timeout_has_succeeded(store: TaskStore):
    @store.task(timeout=0.05)
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "finished all the same"
        return "never"

    handle = await stubborn.enqueue()
    async with store.dispatcher():
        assert await handle.result(timeout=LIMIT) == "finished all the same"


async def test_what_a_handler_raises_after_its_timeout_is_how_it_ended(store: TaskStore):
    @store.task(timeout=0.05, max_attempts=3)
    async def careful(error: str) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            match error:
                case "snooze":
                    raise Snooze(3600) from None
                case "cancel":
                    raise Cancel("no use") from None
                case "retry":
                    raise Retry("later", delay=3600) from None
                case _:
                    raise ValueError("broken") from None

    wanted = {"snooze": "scheduled", "cancel": "cancelled", "retry": "scheduled", "value": "scheduled"}
    handles = {error: await careful.enqueue(error) for error in wanted}
    async with expect(store, *[TaskRetried] * 3, TaskFinished):
        await store.dispatcher().run_once()
    assert {error: await handle.status() for error, handle in handles.items()} == wanted


async def test_a_handlers_own_timeouts_are_its_own(store: TaskStore):
    @store.task(timeout=60)
    async def work() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "mine"
        return "never"

    handle = await work.enqueue()
    await store.dispatcher().run_once()
    assert await handle.result() == "mine"


async def test_a_cancellation_that_nobody_asked_for_is_the_handlers_error(store: TaskStore):
    @store.task
    async def cancels_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    @store.task
    async def raises() -> None:
        raise asyncio.CancelledError("odd")

    for definition in (cancels_itself, raises):
        handle = await definition.enqueue()
        await store.dispatcher().run_once()
        task = await handle.task()
        assert task.status is TaskStatus.FAILED
        assert task.error is not None
        assert task.error.startswith("CancelledError")


@pytest.mark.acceptance("A58")
async def test_system_exit_in_a_handler_is_its_error_and_ends_nobody(store: TaskStore):
    @store.task
    async def leaves() -> None:
        raise SystemExit(3)

    @store.task
    async def stays() -> int:
        return 1

    left, stayed = await leaves.enqueue(), await stays.enqueue()
    async with store.dispatcher():
        with pytest.raises(TaskFailedError, match="SystemExit"):
            await left.result(timeout=LIMIT)
        assert await stayed.result(timeout=LIMIT) == 1


async def test_a_cancel_reaches_a_running_handler_from_any_store_and_keeps_its_reason(store: TaskStore, url: str):
    seen = asyncio.Event()

    @store.task(max_attempts=5)
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.set()
            raise

    async with TaskStore(url) as elsewhere, store.dispatcher():
        for who in (store, elsewhere):
            async with expect(store, TaskStarted):
                handle = await work.enqueue()
            seen.clear()
            asked = await who.tasks.cancel(handle.id, "not wanted any more")
            assert (asked.status, asked.cancel_reason) == (TaskStatus.RUNNING, "not wanted any more")
            async with asyncio.timeout(LIMIT):
                await seen.wait()
            with pytest.raises(TaskCancelledError, match="not wanted any more"):
                await handle.result(timeout=LIMIT)
            task = await handle.task()
            assert (task.finish_reason, task.cancel_reason, task.attempt) == ("request", "not wanted any more", 1)
            with pytest.raises(NotCancellableError):
                await handle.cancel()


@pytest.mark.acceptance("A74", "A75")
async def test_after_a_cancel_request_an_error_is_cancelled_and_a_value_is_a_success(store: TaskStore):
    @store.task(max_attempts=5)
    async def work(how: str) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if how == "error":
                raise ValueError("while cleaning up") from None
            if how == "retry":
                raise Retry from None
        return how

    async with store.dispatcher():
        for how, status in (("value", "succeeded"), ("error", "cancelled"), ("retry", "cancelled")):
            async with expect(store, TaskStarted):
                handle = await work.enqueue(how)
            await handle.cancel("because")
            task = await handle.wait(timeout=LIMIT)
            assert (task.status, task.cancel_reason) == (status, "because")


async def test_a_def_handler_sees_that_it_is_cancelled_and_holds_its_slot_until_it_returns(store: TaskStore):
    started, let_go = threading.Event(), threading.Event()

    @store.task
    def work(context: TaskContext) -> None:
        started.set()
        while not context.cancelled:
            let_go.wait(0.01)
        let_go.wait(LIMIT)
        raise RuntimeError("stopped")

    @store.task
    async def waits() -> None: ...

    async with store.dispatcher(concurrency=1, stuck_grace=0.05):
        handle = await work.enqueue()
        await asyncio.to_thread(started.wait, LIMIT)
        second = await waits.enqueue()
        async with expect(store, TaskFinished, task_id=handle.id):
            await handle.cancel("enough")
            # Far longer than stuck_grace, and still nothing else runs in its slot.
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await second.wait(timeout=0.1)
            assert await second.status() is TaskStatus.PENDING
            let_go.set()
        await second.wait(timeout=LIMIT)
    task = await handle.task()
    assert (task.status, task.cancel_reason) == (TaskStatus.CANCELLED, "enough")


async def test_a_def_handlers_timeout_counts_when_it_returns(store: TaskStore):
    @store.task(timeout=0.05, max_attempts=2)
    def raises(context: TaskContext) -> None:
        while not context.cancelled:
            threading.Event().wait(0.01)
        raise ValueError("gave up")

    @store.task(timeout=0.05)
    def returns(context: TaskContext) -> str:
        while not context.cancelled:
            threading.Event().wait(0.01)
        return "done all the same"

    failing, done = await raises.enqueue(), await returns.enqueue()
    await store.dispatcher().run_once()
    assert (await failing.task()).error == "ValueError: gave up"
    assert await done.result() == "done all the same"


async def test_an_async_handler_that_ignores_its_cancellation_is_failed_as_stuck_and_gives_its_slot_back(
    store: TaskStore,
):
    let_go = asyncio.Event()

    @store.task(max_attempts=5, timeout=0.05)
    async def deaf() -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    @store.task
    async def next_one() -> int:
        return 2

    async with store.dispatcher(concurrency=1, stuck_grace=0.1):
        handle, second = await deaf.enqueue(), await next_one.enqueue()
        try:
            task = await handle.wait(timeout=LIMIT)
            assert (task.status, task.finish_reason, task.attempt) == (TaskStatus.FAILED, "stuck", 1)
            assert "ignored its cancellation" in (task.error or "")
            assert await second.result(timeout=LIMIT) == 2
        finally:
            let_go.set()  # or the loop could never end
    assert await handle.task() == task


@pytest.mark.acceptance("A36", "A39")
async def test_a_stop_drains_what_runs_and_claims_nothing_more(store: TaskStore):
    let_go = asyncio.Event()

    @store.task
    async def work() -> str:
        await let_go.wait()
        return "drained"

    dispatcher = store.dispatcher(concurrency=1)
    await dispatcher.start()
    async with expect(store, TaskStarted):
        running = await work.enqueue()
    waiting = await work.enqueue()
    async with expect(store, DispatcherStopped, drained=True):
        stopping = asyncio.ensure_future(dispatcher.stop(grace=LIMIT))  # noqa: TID251
        await asyncio.sleep(0)
        late = await work.enqueue()
        let_go.set()
        assert await stopping is True
    assert await running.result(timeout=LIMIT) == "drained"
    assert [await handle.status() for handle in (waiting, late)] == [TaskStatus.PENDING] * 2


@pytest.mark.acceptance("A37")
async def test_what_outlasts_the_grace_is_cancelled_and_given_back_with_its_place_and_attempt(store: TaskStore):
    seen = []

    @store.task
    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(current_context().cancelled)
            raise

    dispatcher = store.dispatcher()
    await dispatcher.start()
    async with expect(store, TaskStarted):
        handle = await endless.enqueue()
    before = await handle.task()
    async with expect(store, TaskRetried, DispatcherStopped) as facts:
        assert await dispatcher.stop(grace=0) is False
    assert {getattr(fact, "reason", None) for fact in facts} == {"shutdown", None}
    task = await handle.task()
    assert seen == [True]
    assert (task.status, task.attempt, task.run_at) == (TaskStatus.PENDING, 0, before.run_at)
    assert task.errors == []


@pytest.mark.acceptance("A39")
async def test_a_handler_that_finishes_during_its_shutdown_has_succeeded(store: TaskStore):
    @store.task
    async def tidy() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "tidied up"
        return "never"

    dispatcher = store.dispatcher()
    await dispatcher.start()
    async with expect(store, TaskStarted):
        handle = await tidy.enqueue()
    await dispatcher.stop(grace=0)
    assert await handle.result(timeout=LIMIT) == "tidied up"


async def test_a_stop_at_any_moment_leaves_no_task_claimed_and_no_attempt_counted(store: TaskStore):
    @store.task
    async def quick() -> None:
        await asyncio.sleep(0)

    for turns in range(0, 90, 3):
        await store.enqueue_many([quick.draft() for _ in range(20)])
        dispatcher = store.dispatcher(concurrency=3, healer=False)
        await dispatcher.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        await dispatcher.stop()
        assert await store.tasks.count(status="running") == 0, f"stopped after {turns} turns of the loop"
    assert {task.attempt for task in await store.tasks.list(status="pending")} <= {0}
    assert {task.attempt for task in await store.tasks.list(status="succeeded")} <= {1}


async def test_a_def_handler_that_outlasts_the_stop_is_not_handed_to_others_while_its_thread_runs(
    store: TaskStore, url: str
):
    started, let_go = threading.Event(), threading.Event()
    runs = []

    def work() -> str:
        runs.append(1)
        started.set()
        let_go.wait(LIMIT)
        return "done"

    task = store.task(work)
    other = TaskStore(url)
    other.task(work)
    dispatcher = store.dispatcher(heartbeat=0.1, lease=20, stuck_grace=0.1)
    await dispatcher.start()
    handle = await task.enqueue()
    await asyncio.to_thread(started.wait, LIMIT)
    assert await dispatcher.stop(grace=0) is False
    async with other:
        assert await other.dispatcher(healer=True).run_once() == 0
    assert await handle.status() is TaskStatus.RUNNING
    assert len(runs) == 1
    let_go.set()


async def test_closing_the_store_after_an_abandoned_dispatcher_leaves_no_heartbeat_thread(url: str):
    store = TaskStore(url)

    @store.task
    async def work() -> None: ...

    async with store:
        async with store.dispatcher():
            pass
        assert not lasting_heartbeats()


async def test_a_forced_cancel_ends_the_row_at_once_and_drops_what_the_run_still_says(store: TaskStore):
    let_go = asyncio.Event()

    @store.task
    async def work() -> str:
        await let_go.wait()
        return "too late"

    async with store.dispatcher():
        async with expect(store, TaskStarted):
            handle = await work.enqueue()
        task = await store.tasks.cancel(handle.id, "now", force=True)
        assert (task.status, task.cancel_reason) == (TaskStatus.CANCELLED, "now")
        let_go.set()
    assert await handle.task() == task


async def test_a_run_whose_task_was_deleted_learns_it_from_its_progress(store: TaskStore):
    let_go, ended = asyncio.Event(), asyncio.Event()

    @store.task
    async def work(context: TaskContext) -> None:
        await let_go.wait()
        try:
            await context.progress("still here")
        finally:
            ended.set()

    async with store.dispatcher():
        async with expect(store, TaskStarted):
            handle = await work.enqueue()
        assert await store.tasks.delete(handle.id, force=True)
        let_go.set()
        async with asyncio.timeout(LIMIT):
            await ended.wait()
    with pytest.raises(TaskNotFoundError):
        await handle.task()


async def test_a_stop_while_the_dispatcher_looks_for_queues_with_work_claims_nothing_more(store: TaskStore):
    @store.task
    async def work() -> None: ...

    storage = store._require_open().storage
    read, claim = storage.database.read, storage.tasks.claim
    looked, stopped, claims = asyncio.Event(), asyncio.Event(), list[object]()

    async def read_slowly(operation: Any, **options: Any) -> Any:
        found = await read(operation, **options)
        if operation == storage.tasks.pending_queues and found:
            looked.set()
            await stopped.wait()
        return found

    def counted(*arguments: Any) -> Any:
        claims.append(arguments)
        return claim(*arguments)

    storage.database.read = read_slowly  # type: ignore[method-assign]
    storage.tasks.claim = counted  # type: ignore[method-assign, assignment]
    handle = await work.enqueue()
    dispatcher = store.dispatcher()
    await dispatcher.start()
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        await looked.wait()
        stop = group.create_task(dispatcher.stop())
        await eventually(lambda: not dispatcher.running)
        stopped.set()
    assert stop.result() is True
    assert claims == []
    assert (await handle.task()).status is TaskStatus.PENDING
