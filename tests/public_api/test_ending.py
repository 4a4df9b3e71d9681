"""What ends a dispatcher, and what cannot: cancellations, callers that leave, loops that end."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

from aiotaskstore import (
    ConfigurationError,
    DispatcherStarted,
    DispatcherStopped,
    TaskFinished,
    TaskRetried,
    TaskStarted,
    TaskStatus,
    TaskStore,
    TaskStoreError,
)
from aiotaskstore.dispatch import loops
from aiotaskstore.dispatch.heartbeat import HeartbeatSender
from aiotaskstore.events import BackgroundEnded
from aiotaskstore.manage.enqueuing import Enqueuing
from tests.helpers import LIMIT, eventually, expect, lasting_heartbeats

LOOPS = ["recorder", "claimer", "promoter", "listener", "guard"]


@pytest.fixture
def waits(store: TaskStore) -> Any:
    """A task that runs until it is cancelled."""

    @store.task
    async def waits() -> None:
        await asyncio.Event().wait()

    return waits


# ── a stop is never lost ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_stop_that_meets_the_poll_is_not_lost(store: TaskStore, monkeypatch: pytest.MonkeyPatch):
    """In the very turn of the loop in which the poll's own timer fires, before or after it."""

    @store.task
    async def work() -> None: ...

    for before in (True, False):
        dispatcher = store.dispatcher(poll_interval=0.05, lease=60, healer=False, cleaner=False)
        await dispatcher.start()
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        call_at = loop.call_at

        def stop_at_the_poll(when: float, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            def both(*given: Any) -> None:
                if before:  # noqa: B023
                    dispatcher.begin_stop()  # noqa: B023
                callback(*given)
                dispatcher.begin_stop()  # noqa: B023
                told.set()  # noqa: B023

            return call_at(when, both, *args, **kwargs)  # noqa: B023

        with monkeypatch.context() as patch:
            patch.setattr(loop, "call_at", stop_at_the_poll)
            async with asyncio.timeout(LIMIT):
                await told.wait()
        async with asyncio.timeout(LIMIT):
            assert await dispatcher.stop() is True


async def test_stops_at_any_moment_of_an_idle_poll_end_at_once(store: TaskStore):
    @store.task
    async def work() -> None: ...

    for turns in range(12):
        dispatcher = store.dispatcher(poll_interval=0.001, lease=600, heartbeat=100, healer=False, cleaner=False)
        await dispatcher.start()
        for _ in range(turns):
            await asyncio.sleep(0.0003)
        async with asyncio.timeout(LIMIT):
            assert await dispatcher.stop() is True
    assert not lasting_heartbeats()


# ── stopping belongs to the dispatcher ────────────────────────────────────────────────────────────────────────


async def test_a_stop_whose_caller_leaves_goes_on(store: TaskStore, waits: Any):
    dispatcher = store.dispatcher()
    await dispatcher.start()
    async with expect(store, TaskStarted):
        handle = await waits.enqueue()
    began = asyncio.get_running_loop().time()
    async with expect(store, DispatcherStopped, TaskRetried):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await dispatcher.stop(grace=0.3)
        assert not dispatcher.running
    assert asyncio.get_running_loop().time() - began >= 0.3, "it had its grace all the same"
    assert await handle.status() is TaskStatus.PENDING
    assert not lasting_heartbeats()
    await dispatcher.start()  # nothing is left of it
    assert await dispatcher.stop(grace=0) in {True, False}


async def test_a_second_stop_joins_the_first_and_the_grace_that_ends_first_counts(store: TaskStore, waits: Any):
    dispatcher = store.dispatcher()
    await dispatcher.start()
    async with expect(store, TaskStarted):
        handle = await waits.enqueue()
    async with expect(store, DispatcherStopped) as stopped, asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        long = group.create_task(dispatcher.stop(grace=600))
        await asyncio.sleep(0)
        longer = group.create_task(dispatcher.stop(grace=6000))
        await asyncio.sleep(0.05)
        assert not long.done()
        short = group.create_task(dispatcher.stop(grace=0))
    assert [task.result() for task in (long, longer, short)] == [False, False, False]
    assert len(stopped) == 1
    assert (await handle.task()).attempt == 0


async def test_a_closing_store_finds_a_dispatcher_that_nobody_references(url: str):
    store = TaskStore(url)

    @store.task
    async def work() -> None: ...

    async with store:
        await store.dispatcher().start()
        gc.collect()
        assert heartbeats() == (0 if url == "sqlite://" else 1)
        async with expect(store, DispatcherStopped):
            await store.close()
    assert not lasting_heartbeats()


async def test_a_closing_store_joins_a_stop_that_was_cut_short(url: str):
    store = TaskStore(url)
    let_go = asyncio.Event()

    @store.task
    async def work() -> str:
        await let_go.wait()
        return "drained"

    async with store:
        dispatcher = store.dispatcher()
        await dispatcher.start()
        async with expect(store, TaskStarted):
            handle = await work.enqueue()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await dispatcher.stop(grace=LIMIT)
        async with asyncio.TaskGroup() as group, expect(store, TaskFinished):
            closing = group.create_task(store.close())
            await asyncio.sleep(0.05)
            assert not closing.done()
            let_go.set()
    assert not lasting_heartbeats()
    async with store:
        assert await store.handle(handle.id).result(timeout=LIMIT) == "drained"


async def test_a_stop_overtakes_a_start(store: TaskStore):
    @store.task
    async def work() -> None: ...

    for turns in range(0, 40, 4):
        dispatcher = store.dispatcher()
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
            group.create_task(dispatcher.start())
            for _ in range(turns):
                await asyncio.sleep(0)
            group.create_task(dispatcher.stop())
        assert not dispatcher.running or await dispatcher.stop()
        assert not lasting_heartbeats()


async def test_a_store_that_is_closed_while_a_dispatcher_starts_leaves_nothing_running(url: str):
    store = TaskStore(url)

    @store.task
    async def work() -> None: ...

    for turns in range(0, 24, 4):
        await store.open()
        dispatcher = store.dispatcher()
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
            starting = group.create_task(attempt(dispatcher.start()))
            for _ in range(turns):
                await asyncio.sleep(0)
            group.create_task(store.close())
        assert isinstance(starting.result(), TaskStoreError | None)
        assert not dispatcher.running
        assert not lasting_heartbeats()


async def test_a_stop_ends_a_run_once_early(store: TaskStore, waits: Any):
    dispatcher = store.dispatcher()
    handle = await waits.enqueue()
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        async with expect(store, TaskStarted):
            once = group.create_task(dispatcher.run_once())
        assert await dispatcher.stop(grace=0) is False
    assert once.result() == 1
    assert (await handle.task()).attempt == 0


async def test_a_block_that_raises_stops_its_dispatcher_and_raises_the_same(store: TaskStore):
    @store.task
    async def work() -> None: ...

    with pytest.raises(ZeroDivisionError):
        async with store.dispatcher() as dispatcher:
            raise ZeroDivisionError
    assert not dispatcher.running
    assert not lasting_heartbeats()


@pytest.mark.parametrize("handler", ["async", "def"])
async def test_a_stop_ends_although_a_handler_ignores_it(store: TaskStore, handler: str):
    let_go, started = threading.Event(), threading.Event()

    def thread() -> None:
        started.set()
        let_go.wait(LIMIT)

    async def deaf() -> None:
        started.set()
        while not let_go.is_set():
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue

    task = store.task(deaf) if handler == "async" else store.task(thread)
    dispatcher = store.dispatcher(stuck_grace=0.1)
    await dispatcher.start()
    await task.enqueue()
    await asyncio.to_thread(started.wait, LIMIT)
    try:
        async with asyncio.timeout(LIMIT):
            assert await dispatcher.stop(grace=0) is False
    finally:
        let_go.set()
    assert not lasting_heartbeats()


def test_run_says_that_only_the_main_thread_receives_signals(sqlite_url: str):
    store = TaskStore(sqlite_url)

    @store.task
    async def work() -> None: ...

    raised: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(store.run())
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(LIMIT)
    assert isinstance(raised[0], ConfigurationError)
    assert "main thread" in str(raised[0])
    assert not store.is_open


async def test_healer_and_cleaner_begin_at_a_random_instant_of_their_period(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
):
    store, drawn = TaskStore(sqlite_url), list[float]()

    def draw(period: float) -> float:
        drawn.append(period)
        return 0

    @store.task
    async def work() -> None: ...

    monkeypatch.setattr(loops, "random_part_of", draw)
    async with store, store.dispatcher(healer=7, cleaner=11):
        assert {7, 11} <= set(drawn)


# ── a loop that ends ends its dispatcher ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("listener", ["sync", "async"])
async def test_whatever_a_listener_raises_the_work_goes_on(url: str, listener: str):
    raised = [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit, BaseException]

    def on_error(_queue: object, _task_id: object, error: BaseException) -> Any:
        if listener == "sync":
            raise raised[int(str(error))]

        async def later() -> None:
            raise raised[int(str(error))]

        return later()

    store = TaskStore(url, on_error=on_error)

    @store.task
    async def fails(how: int) -> None:
        raise ValueError(how)

    @store.task
    async def works() -> int:
        return 1

    async with store, store.dispatcher() as dispatcher:
        for how in range(len(raised)):
            failed = await fails.enqueue(how)
            assert (await failed.wait(timeout=LIMIT)).status is TaskStatus.FAILED
        assert await (await works.enqueue()).result(timeout=LIMIT) == 1
        assert dispatcher.running


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_loop_that_ends_ends_its_dispatcher_and_gives_back_what_runs(store: TaskStore, waits: Any, loop: str):
    dispatcher = store.dispatcher(heartbeat=1, lease=60, grace=0)
    await dispatcher.start()
    async with expect(store, TaskStarted):
        handle = await waits.enqueue()
    async with expect(store, BackgroundEnded, DispatcherStopped) as facts:
        background_task(loop).cancel()
    assert isinstance(facts[0], BackgroundEnded)
    assert facts[0].loop == loop
    assert not dispatcher.running
    assert not lasting_heartbeats()
    task = await handle.task()
    assert (task.status, task.attempt) == (TaskStatus.PENDING, 0)
    with pytest.raises(TaskStoreError, match=loop):
        await dispatcher.stop()
    async with dispatcher:  # told once; now it starts anew
        await eventually(lambda: dispatcher.active)


async def test_the_end_of_the_heartbeats_thread_ends_the_dispatcher(url: str, monkeypatch: pytest.MonkeyPatch):
    started, send_once = threading.Event(), HeartbeatSender.send_once

    async def broken(heartbeat: HeartbeatSender, storage: Any) -> Any:
        if started.is_set():
            raise RuntimeError("a bug")
        return await send_once(heartbeat, storage)

    monkeypatch.setattr(HeartbeatSender, "send_once", broken)
    store = TaskStore(url)

    @store.task
    async def work() -> None: ...

    async with store:
        dispatcher = store.dispatcher(heartbeat=0.1)
        async with expect(store, DispatcherStarted, BackgroundEnded):
            await dispatcher.start()
            started.set()
        with pytest.raises(TaskStoreError, match="heartbeat"):
            await dispatcher.ended()


async def test_a_loop_that_ends_wakes_the_body_of_its_block(store: TaskStore):
    @store.task
    async def work() -> None: ...

    with pytest.raises(TaskStoreError, match="promoter"):
        async with asyncio.timeout(LIMIT), store.dispatcher():
            background_task("promoter").cancel()
            await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


@pytest.mark.parametrize("swallowed", [False, True])
async def test_a_cancellation_from_before_the_block_hides_no_failure_and_none_is_left_by_it(
    store: TaskStore, swallowed: bool
):
    """Tasks that were cancelled once and went on count it for ever, as the parent of a TaskGroup on 3.11 does."""

    @store.task
    async def work() -> None: ...

    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    with pytest.raises(TaskStoreError, match="promoter"):
        async with store.dispatcher():
            background_task("promoter").cancel()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if not swallowed:
                    raise
    assert task.cancelling() == 1
    task.uncancel()


async def test_a_body_that_is_cancelled_by_others_too_stays_cancelled(store: TaskStore):
    @store.task
    async def work() -> None: ...

    entered = asyncio.Event()

    async def body() -> None:
        async with store.dispatcher():
            entered.set()
            await asyncio.Event().wait()

    async with expect(store, BackgroundEnded):
        running = asyncio.ensure_future(body())  # noqa: TID251
        await entered.wait()
        background_task("promoter").cancel()
        running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()


async def test_a_loop_that_ends_ends_run_with_the_error(store: TaskStore):
    @store.task
    async def work() -> None: ...

    @store.on(DispatcherStarted)
    def break_it(_event: DispatcherStarted) -> None:
        asyncio.get_running_loop().call_later(0.05, background_task("recorder").cancel)

    with pytest.raises(TaskStoreError, match="recorder"):
        async with asyncio.timeout(LIMIT):
            await store.run()


async def test_a_close_that_is_cut_short_leaves_no_loop_behind(url: str, monkeypatch: pytest.MonkeyPatch):
    reached = asyncio.Event()

    async def goes_on(_enqueuing: Enqueuing) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Enqueuing, "drain", goes_on)
    before = asyncio.all_tasks()
    store = TaskStore(url)
    await store.open()
    closing = asyncio.ensure_future(store.close())  # noqa: TID251
    await reached.wait()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await eventually(lambda: asyncio.all_tasks() <= before)


# ── every task cancelled, by the application or the end of its loop ───────────────────────────────────────────


async def test_a_dispatcher_whose_every_task_was_cancelled_gives_back_what_it_runs_and_says_so(url: str):
    store = TaskStore(url)

    @store.task
    async def waits() -> None:
        await asyncio.Event().wait()

    await store.open()
    dispatcher = store.dispatcher(concurrency=50)
    await dispatcher.start()
    async with expect(store, *[TaskStarted] * 20):
        ids = await store.enqueue_many([waits.draft() for _ in range(20)])
    cancel_every_task()
    await eventually(lambda: heartbeats() == 0)
    with pytest.raises(TaskStoreError, match="has ended"):
        await waits.enqueue()
    with pytest.raises(TaskStoreError, match="has ended"):
        await store.tasks.wait(ids[0])
    with pytest.raises(TaskStoreError, match="has ended"):
        store.enqueue_soon(waits.draft())
    with pytest.raises(TaskStoreError, match="has ended"):
        await dispatcher.stop()
    with pytest.raises(TaskStoreError, match="has ended"):
        await dispatcher.start()
    with pytest.raises(TaskStoreError, match="has ended"):
        await store.close()
    assert not store.is_open
    async with store:
        tasks = await store.tasks.list(id_in=ids)
        assert {(task.status, task.attempt) for task in tasks} == {(TaskStatus.PENDING, 0)}


async def test_the_end_of_the_program_in_a_stop_that_was_cut_short_leaves_no_task_claimed(url: str):
    """As `asyncio.run` ends: every task is cancelled once, and waited for."""
    store = TaskStore(url)

    @store.task
    async def waits() -> None:
        await asyncio.Event().wait()

    await store.open()
    dispatcher = store.dispatcher()
    await dispatcher.start()
    async with expect(store, *[TaskStarted] * 5):
        await store.enqueue_many([waits.draft() for _ in range(5)])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await dispatcher.stop(grace=600)
    await asyncio.wait(cancel_every_task(), timeout=LIMIT)
    assert not lasting_heartbeats()
    with pytest.raises(TaskStoreError, match="has ended"):
        await store.close()
    async with store:
        tasks = await store.tasks.list()
        assert {(task.status, task.attempt) for task in tasks} == {(TaskStatus.PENDING, 0)}


async def attempt(call: Any) -> TaskStoreError | None:
    try:
        await call
    except TaskStoreError as error:
        return error
    return None


def heartbeats() -> int:
    return sum(thread.name == "aiotaskstore-heartbeat" for thread in threading.enumerate())


def background_task(name: str) -> asyncio.Task[Any]:
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == f"aiotaskstore {name}"]
    return task


def cancel_every_task() -> set[asyncio.Task[Any]]:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    return others
