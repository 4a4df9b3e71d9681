"""Waiting for results: everybody in turn, the limits hold, and the errors say what was waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from itertools import chain
from typing import Any
from uuid import UUID

import pytest

from aiotaskstore import ConfigurationError, TaskHandle, TaskNotFoundError, TaskStatus, TaskStore
from aiotaskstore.mechanics.ids import new_id
from tests.crash.proxy import proxy
from tests.helpers import LIMIT, eventually


@pytest.fixture
async def elsewhere(url: str, store: TaskStore) -> AsyncIterator[TaskStore]:
    """Another service on the same database: what ends there, `store` finds by looking."""
    async with TaskStore(url) as other:
        yield other


def soon(*calls: Any) -> list[asyncio.Task[Any]]:
    return [asyncio.get_running_loop().create_task(call) for call in calls]


async def test_those_who_wait_are_served_however_many_come_after_them(store: TaskStore, elsewhere: TaskStore):
    never = await store.enqueue("never", unchecked=True, delay=3600)
    first = await store.enqueue("first", unchecked=True)
    (waiting,) = soon(first.wait(LIMIT))
    newcomers: list[asyncio.Task[Any]] = []

    async def keep_coming() -> None:
        while True:
            newcomers.extend(soon(never.wait(LIMIT)))
            await asyncio.sleep(0.002)

    (coming,) = soon(keep_coming())
    try:
        await eventually(lambda: len(newcomers) > 100)
        assert not waiting.done()
        await elsewhere.tasks.cancel(first.id)
        async with asyncio.timeout(LIMIT):
            assert (await waiting).status is TaskStatus.CANCELLED
        assert not coming.done()
    finally:
        for task in (coming, *newcomers):
            task.cancel()
        await asyncio.wait([coming, *newcomers])


async def test_requests_that_enqueue_and_await_are_answered_while_more_of_them_come(store: TaskStore, url: str):
    async with TaskStore(url) as elsewhere:

        @elsewhere.task
        async def double(n: int) -> int:
            await asyncio.sleep(0.2)
            return 2 * n

        async def request(n: int) -> int:
            handle: TaskHandle[int] = await store.enqueue("double", {"n": n}, unchecked=True)
            return await handle.result(LIMIT)

        requests: list[asyncio.Task[int]] = []
        async with elsewhere.dispatcher(concurrency=100):
            async with asyncio.timeout(LIMIT):
                while not any(task.done() for task in requests):  # it never ended, while they came
                    requests += soon(request(len(requests)))
                    await asyncio.sleep(0.02)
            assert [await task for task in requests] == [2 * n for n in range(len(requests))]


@pytest.mark.timeout(150)
@pytest.mark.acceptance("A80")
async def test_ten_thousand_wait_at_once(store: TaskStore, elsewhere: TaskStore):
    @store.task
    async def work(n: int) -> None: ...

    ids = await store.enqueue_many([work.draft(n) for n in range(10_000)])
    waiting = soon(*(store.tasks.wait(task_id, 120) for task_id in ids))
    await asyncio.sleep(0)
    assert await elsewhere.tasks.cancel(where={"alias": "work"}) == 10_000
    async with asyncio.timeout(120):
        for task_id, task in zip(ids, waiting, strict=True):
            found = await task
            assert (found.id, found.status) == (task_id, TaskStatus.CANCELLED)
    assert not store._require_open().waiting._waiters


async def test_one_look_asks_for_all_and_one_who_is_new_is_looked_for_at_once(url: str):
    async with TaskStore(url, wait_interval=3600) as store:
        parts = store._require_open()
        asked: list[set[UUID]] = []
        finished_among = parts.storage.tasks.finished_among

        def noting(ids: Any) -> Any:
            asked.append(set(ids))
            return finished_among(ids)

        parts.storage.tasks.finished_among = noting  # type: ignore[method-assign]
        never = [await store.enqueue("never", unchecked=True, delay=3600) for _ in range(30)]
        ended = await store.enqueue("never", unchecked=True, delay=3600)
        await ended.cancel()
        waiting = soon(*(handle.wait() for handle in never))
        await eventually(lambda: set().union(*asked) == {handle.id for handle in never})
        async with asyncio.timeout(LIMIT):  # no interval is sat out
            assert (await ended.wait()).status is TaskStatus.CANCELLED
        assert asked[-1] == {ended.id}, "the newcomer alone, and nobody is delayed"
        await parts.waiting.look_once(everybody=True)
        assert asked[-1] == {handle.id for handle in never}
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


async def test_more_than_one_statement_takes_are_asked_for_in_turn(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("aiotaskstore.manage.waiting._AT_ONCE", 10)
    async with TaskStore(url, wait_interval=3600) as store:
        parts = store._require_open()
        asked: list[list[UUID]] = []
        never = [await store.enqueue("never", unchecked=True, delay=3600) for _ in range(25)]
        finished_among = parts.storage.tasks.finished_among

        def noting(ids: Any) -> Any:
            asked.append(list(ids))
            return finished_among(ids)

        parts.storage.tasks.finished_among = noting  # type: ignore[method-assign]
        waiting = soon(*(handle.wait() for handle in never))
        await eventually(lambda: sorted(chain(*asked)) == sorted(handle.id for handle in never))
        asked.clear()
        for _ in range(5):
            await parts.waiting.look_once(everybody=True)
        assert [len(ids) for ids in asked] == [10] * 5
        assert sorted(id_ for ids in asked for id_ in ids) == sorted(2 * [handle.id for handle in never])
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


async def test_a_wait_ends_at_its_limit_while_the_database_does_not_answer(server_url: str):
    async with proxy(server_url) as between, TaskStore(between.url) as store:
        handle = await store.enqueue("never", unchecked=True)
        (waiting,) = soon(handle.wait(0.5))
        # On a slow machine it may be over already; then the other one alone meets the silence.
        await eventually(lambda: store._require_open().waiting._waiters or waiting.done())
        assert between.freeze(lambda _: True)
        async with asyncio.timeout(LIMIT):
            with pytest.raises(TimeoutError, match=r"has not finished within 0\.5 s"):
                await waiting
            with pytest.raises(TimeoutError, match=r"has not finished within 0\.1 s"):
                await handle.result(0.1)
        between.close()


async def test_one_row_that_cannot_be_read_fails_its_own_waiter_alone(store: TaskStore, elsewhere: TaskStore):
    good = [await store.enqueue("work", unchecked=True) for _ in range(3)]
    bad = await store.enqueue("work", unchecked=True, metadata={"note": "bad"})
    parts = store._require_open()
    beside = parts.storage.tasks.side_rows

    def failing(ids: Any) -> Any:
        if bad.id in ids:
            raise ValueError("cannot be read")
        return beside(ids)

    parts.storage.tasks.side_rows = failing  # type: ignore[method-assign]
    waiting = soon(*(handle.wait(LIMIT) for handle in (*good, bad)))
    await eventually(lambda: len(parts.waiting._waiters) == 4)
    assert await elsewhere.tasks.cancel(where={"alias": "work"}) == 4
    for task in waiting[:3]:
        assert (await task).status is TaskStatus.CANCELLED
    with pytest.raises(ValueError, match="cannot be read"):
        await waiting[3]


async def test_one_result_that_cannot_be_read_keeps_no_other_waiting(store: TaskStore):
    @store.task
    async def work(number: int) -> int:
        return number

    tasks = store._require_open().storage.tasks
    read = tasks.results_among
    handles = [await work.enqueue(number) for number in range(4)]

    def failing(ids: Any) -> Any:
        if handles[3].id in ids:
            raise ValueError("cannot be read")
        return read(ids)

    tasks.results_among = failing  # type: ignore[method-assign]
    waiting = soon(*(handle.result(LIMIT) for handle in handles))
    async with store.dispatcher():
        assert [await task for task in waiting] == [0, 1, 2, 3]


@pytest.mark.acceptance("A80")
async def test_the_error_of_a_wait_says_what_was_waited_for_how_long_and_what_to_do(store: TaskStore):
    handle = await store.enqueue("never", unchecked=True)
    for call in (handle.wait(0.05), handle.result(0.05), store.tasks.wait(str(handle.id), 0.05)):
        with pytest.raises(TimeoutError, match=rf"Task {handle.id} has not finished within 0\.05 s.*wait again"):
            await call
    with pytest.raises(TimeoutError, match=rf"Task {handle.id} has not finished: it is pending"):
        await handle.wait(0)


@pytest.mark.acceptance("A80")
async def test_what_was_never_stored_or_is_not_kept_is_said_at_once(store: TaskStore):
    for task_id in (new_id(), str(new_id())):
        with pytest.raises(TaskNotFoundError, match=str(task_id)):
            await store.tasks.wait(task_id, LIMIT)


async def test_a_task_of_the_same_open_transaction_is_not_waited_for(url: str):
    async with TaskStore(url) as store:
        async with store.transaction():
            handle = await store.enqueue("later", unchecked=True)
            with pytest.raises(ConfigurationError, match=r"enqueued in this transaction.*Commit first"):
                await handle.wait(LIMIT)
        assert await handle.status() is TaskStatus.PENDING


async def test_a_task_of_an_earlier_transaction_is_waited_for_inside_another(server_url: str):
    async with TaskStore(server_url) as store, TaskStore(server_url) as elsewhere:
        handle = await store.enqueue("other", unchecked=True)
        async with store.transaction():
            assert await handle.status() is TaskStatus.PENDING
            (waiting,) = soon(elsewhere.tasks.cancel(handle.id))
            assert (await handle.wait(LIMIT)).status is TaskStatus.CANCELLED
            await waiting


async def test_a_result_that_is_there_is_read_with_one_statement_after_a_look_at_the_status(store: TaskStore):
    @store.task
    async def double(n: int) -> int:
        return 2 * n

    handle = await double.enqueue(21)
    await store.dispatcher().run_once()
    tasks = store._require_open().storage.tasks
    read: list[str] = []

    def noting(name: str, operation: Any, *values: Any) -> Any:
        read.append(name)
        return operation(*values)

    for name in ("status", "finished_among", "results_among", "side_rows"):
        setattr(tasks, name, partial(noting, name, getattr(tasks, name)))
    assert await handle.result(0) == 42
    assert await handle.result(LIMIT) == 42
    assert read == ["status", "results_among", "finished_among", "results_among"]
    assert (await handle.wait(0)).result == 42
    assert read[4:] == ["status", "side_rows"]


async def test_one_waits_for_the_result_and_another_for_the_task(store: TaskStore, elsewhere: TaskStore):
    @elsewhere.task
    async def double(n: int) -> int:
        return 2 * n

    handle: TaskHandle[int] = await store.enqueue("double", {"n": 21}, unchecked=True)
    result, task, other = soon(handle.result(LIMIT), handle.wait(LIMIT), handle.result(LIMIT))
    await eventually(lambda: len(store._require_open().waiting._waiters.get(handle.id, [])) == 3)
    await elsewhere.dispatcher().run_once()
    assert (await result, await other) == (42, 42)
    assert (await task).result == 42
