"""A store belongs to the event loop, thread and process that opened it; elsewhere it says so at once."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import warnings
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio.from_thread
import anyio.to_thread
import pytest

from aiotaskstore import ConfigurationError, TaskStore, current_context
from tests.helpers import LIMIT, lasting_heartbeats

Call = Callable[[], Awaitable[Any]]


def in_another_thread(call: Call) -> Any:
    """Run a coroutine on a loop of its own, in a thread of its own; gives its result, or what it raised."""
    answers: list[Any] = []

    async def bounded() -> Any:
        async with asyncio.timeout(LIMIT):
            return await call()

    def run() -> None:
        try:
            answers.append(asyncio.run(bounded()))
        except BaseException as error:  # noqa: BLE001 - judged by whoever asks
            answers.append(error)

    thread = threading.Thread(target=run, name="elsewhere", daemon=True)
    thread.start()
    thread.join(2 * LIMIT)
    assert answers, "it hangs"
    return answers[0]


async def _enter(block: Any) -> None:
    async with block:
        raise AssertionError("entered")


async def test_every_call_from_another_loop_is_refused_at_once_and_stores_nothing(store: TaskStore):
    @store.task
    async def work(n: int) -> None: ...

    handle = await work.options(delay=600).enqueue(0)
    dispatcher, running = store.dispatcher(), store.dispatcher()
    await running.start()

    async def soon() -> None:
        store.enqueue_soon(work.draft(1))

    async def join() -> None:
        with store.joined(object()):
            raise AssertionError("joined")

    calls: dict[str, Call] = {
        "enqueue": partial(work.enqueue, 1),
        "by alias": partial(store.enqueue, "work", {"n": 1}),
        "enqueue_many": lambda: store.enqueue_many([work.draft(1)]),
        "enqueue_soon": soon,
        "using": lambda: work.using(object()).enqueue(1),
        "get": partial(store.tasks.get, handle.id),
        "list": store.tasks.list,
        "count": store.tasks.count,
        "wait": handle.wait,
        "result": handle.result,
        "status": handle.status,
        "cancel": handle.cancel,
        "retry": partial(store.tasks.retry, where={"queue": "default"}),
        "delete": partial(store.tasks.delete, handle.id),
        "progress": lambda: anext(aiter(handle.progress())),
        "transaction": lambda: _enter(store.transaction()),
        "joined": join,
        "notify": store.notify,
        "migrate": store.migrate,
        "open": store.open,
        "close": store.close,
        "start": dispatcher.start,
        "run_once": dispatcher.run_once,
        "start of a running one": running.start,
        "stop of a running one": running.stop,
        "run": store.run,
    }
    for name, call in calls.items():
        error = await asyncio.to_thread(in_another_thread, call)
        assert isinstance(error, ConfigurationError), f"{name}: {error!r}"
        assert "from_thread.run" in str(error) or name == "run", f"{name}: {error}"
    assert running.running
    await running.stop()
    assert await store.tasks.count() == 1


async def test_what_needs_no_loop_is_refused_in_a_worker_thread_too(store: TaskStore):
    @store.task
    async def work(n: int) -> None: ...

    with pytest.raises(ConfigurationError, match="from_thread"):
        await asyncio.to_thread(store.enqueue_soon, work.draft(1))
    await anyio.to_thread.run_sync(lambda: anyio.from_thread.run_sync(store.enqueue_soon, work.draft(2)))
    await store.flush()
    assert [task.payload for task in await store.tasks.list()] == [{"n": 2}]


async def test_a_worker_thread_enqueues_through_the_stores_own_loop(store: TaskStore):
    @store.task
    def child(n: int) -> int:
        return n

    @store.task
    def parent() -> list[str]:
        assert current_context().attempt == 1
        return [str(anyio.from_thread.run(child.enqueue, n).id) for n in (1, 2)]

    @store.task
    def wrong() -> None:
        asyncio.run(_call(child.enqueue, 3))

    async with store.dispatcher():
        handle = await parent.enqueue()
        ids = await handle.result(timeout=LIMIT)
        for task_id in ids:
            task = await store.tasks.wait(task_id, timeout=LIMIT)
            assert task.parent_id == handle.id
        failed = await (await wrong.enqueue()).wait(timeout=LIMIT)
        assert "from_thread.run" in (failed.error or "")
    loop = asyncio.get_running_loop()

    def enqueue() -> Any:
        return asyncio.run_coroutine_threadsafe(_call(child.enqueue, 9), loop).result(LIMIT)

    assert (await asyncio.to_thread(enqueue)).id
    assert await store.tasks.count(alias="child") == 3


async def _call(call: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    return await call(*args)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # aiomysql's, of the same
@pytest.mark.parametrize("serving", [False, True])
def test_a_store_left_open_by_a_loop_that_is_gone_says_so_and_can_be_opened_again(url: str, serving: bool):
    store = TaskStore(url)

    @store.task
    async def work(n: int) -> int:
        return n

    dispatcher = store.dispatcher(heartbeat=0.1, lease=3)

    async def leave_open() -> None:
        await store.open()
        await work.enqueue(1)
        if serving:
            await dispatcher.start()

    async def use() -> None:
        async with asyncio.timeout(LIMIT):
            for call in (partial(work.enqueue, 2), store.tasks.count, store.notify):
                with pytest.raises(ConfigurationError, match="closed"):
                    await call()
            assert not store.is_open

    async def again() -> None:
        async with asyncio.timeout(LIMIT), store:
            handle = await work.enqueue(3)
            assert not dispatcher.running
            assert await dispatcher.stop()
            await dispatcher.run_once()
            assert await handle.result(timeout=LIMIT) == 3
            async with dispatcher:
                assert await (await work.enqueue(4)).result(timeout=LIMIT) == 4

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # what was left open is closed by the garbage collector
        asyncio.run(leave_open())
        asyncio.run(use())
        asyncio.run(again())
        asyncio.run(leave_open())
        asyncio.run(store.close())
        asyncio.run(again())
        gc.collect()
    assert not lasting_heartbeats()


def in_a_fork(work: Call) -> str:
    """Fork, run a coroutine on a loop of the child's own; gives what it raised there, in words."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = "nothing raised"
        try:
            asyncio.events._set_running_loop(None)
            asyncio.run(asyncio.wait_for(work(), LIMIT))  # noqa: TID251 - a child that must not hang
        except BaseException as error:  # noqa: BLE001 - told to the parent
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(writer, said.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


@pytest.mark.memory(False)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_forked_child_is_refused_its_parents_connections_and_can_open_its_own(store: TaskStore):
    @store.task
    async def work(n: int) -> int:
        return n

    await work.enqueue(1)
    async with store.dispatcher(queues=["none"]) as dispatcher:
        for call in (partial(work.enqueue, 2), store.tasks.count, store.dispatcher().start):
            said = in_a_fork(call)
            assert said.startswith("ConfigurationError"), said
            assert "fork" in said

        async def reopen() -> None:
            await store.open()
            await work.enqueue(3)
            count = await store.tasks.count()
            await store.close()
            raise LookupError(count)

        assert in_a_fork(reopen) == "LookupError: 2"
        assert in_a_fork(store.close) == "nothing raised"
        assert await store.tasks.count() == 2, "the parent's connections are unharmed"
        async with store.transaction():
            await work.enqueue(4)
        assert await store.tasks.count() == 3
        assert dispatcher.running
