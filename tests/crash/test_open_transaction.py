"""A caller's transaction stays open for long: whatever it did in it, nobody else waits for it.

It stays open until the others are done, so whoever waited for it would wait in vain.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiotaskstore import Retention, Retry, TaskContext, TaskHandle, TaskStore
from tests.crash.crew import SHORT
from tests.crash.handlers import handlers
from tests.crash.journal import Journal
from tests.crash.transactions import rolled_back
from tests.helpers import LIMIT, eventually


@pytest.fixture
def url(server_url: str) -> str:
    """The databases where many may write at once. On SQLite an open transaction stops every writer."""
    return server_url


@pytest.fixture
async def store(url: str, journal: Journal) -> AsyncIterator[TaskStore]:
    opened = TaskStore(url)
    opened.include(handlers(journal))
    async with opened:
        yield opened


@pytest.mark.parametrize("before", [0, 3, 200], ids=lambda count: f"{count}_rows")
@pytest.mark.parametrize("did", ["enqueue", "enqueue_many", "external_id", "cancel", "cancel_many", "retry", "delete"])
async def test_nobody_waits_for_it(url: str, store: TaskStore, did: str, before: int):
    """Small tables above all: there the planner likes to read, hence lock, everything."""
    standing = await store.enqueue_many([store.draft("quick", {"number": n}, delay=3600) for n in range(before)])
    touched = await store.enqueue_many([store.draft("quick", {"number": n}, delay=3600) for n in range(3)])
    async with rolled_back(url) as connection:
        await _do(store.using(connection), did, [str(task_id) for task_id in touched])
        async with asyncio.timeout(LIMIT):
            alone = await store.enqueue("quick", {"number": 1})
            keyed = await store.enqueue("quick", {"number": 2}, external_id="another")
            several = await store.enqueue_many([store.draft("quick", {"number": n}) for n in range(12)])
            later = await store.enqueue("quick", {"number": 3}, delay=0.2)
            if standing:
                await store.tasks.cancel(standing[0])
                await store.tasks.delete(standing[1])
                await store.tasks.retry(standing[2])
        async with store.dispatcher(**SHORT, poll_interval=0.1):
            async with asyncio.timeout(LIMIT):
                for task_id in (alone.id, keyed.id, later.id, *several, *standing[2:3]):
                    assert (await store.handle(task_id).wait()).status == "succeeded"


@pytest.mark.parametrize("end", ["success", "error", "retry", "told"])
async def test_the_outcomes_of_others_are_written_while_it_has_locked_one_running_row(
    url: str, store: TaskStore, end: str
):
    locked, finish = asyncio.Event(), asyncio.Event()

    @store.task(max_attempts=2, backoff=0)
    async def work(context: TaskContext, number: int) -> int:
        if number == 0 and context.attempt == 1:
            locked.set()
            await finish.wait()
        if end == "told":
            context.info(f"before {number}")
            await context.progress(f"here is {number}")
            context.info(f"after {number}")
        if context.attempt == 1 and end in {"error", "retry"}:
            raise Retry("once more") if end == "retry" else ValueError("no good")
        return number

    async with store.dispatcher(**SHORT) as dispatcher:
        held = await work.enqueue(0)
        await locked.wait()
        async with rolled_back(url) as connection:
            await store.using(connection).tasks.cancel(held.id)
            finish.set()
            async with asyncio.timeout(LIMIT):
                for count in (1, 5, 50):
                    others = [
                        store.handle(id_) for id_ in await store.enqueue_many([work.draft(n + 1) for n in range(count)])
                    ]
                    assert [await other.result() for other in others] == [n + 1 for n in range(count)]
            assert await held.status() == "running"
        async with asyncio.timeout(LIMIT):
            assert await held.result() == 0
            task = await held.task()
            if end == "told":
                assert task.details.splitlines() == ["before 0", "after 0"]
                assert task.progress is not None
                assert task.progress.text == "here is 0"
        assert len(task.errors) == (1 if end in {"error", "retry"} else 0)
        assert await dispatcher.stop(), "nothing is left to write"


async def _do(inside: Any, did: str, touched: list[str]) -> None:
    draft = inside.draft("quick", {"number": 9})
    match did:
        case "enqueue":
            await inside.enqueue("quick", {"number": 9})
        case "enqueue_many":
            await inside.enqueue_many([draft] * 4)
        case "external_id":
            await inside.enqueue("quick", {"number": 9}, external_id="mine")
            await inside.enqueue("quick", {"number": 9}, external_id="mine", on_conflict="return")
            keyed = [inside.draft("quick", {"number": n}, external_id=f"mine {n}") for n in range(4)]
            await inside.enqueue_many(keyed)
        case "cancel":
            await inside.tasks.cancel(touched[0])
        case "cancel_many":
            assert await inside.tasks.cancel(where={"id_in": touched}) == 3
        case "retry":
            await inside.tasks.retry(touched[0])
            assert await inside.tasks.retry(where={"id_in": touched[1:]}) == 2
        case _:
            await inside.tasks.delete(touched[0])
            assert await inside.tasks.delete(where={"id_in": touched[1:]}) == 2


async def test_the_outcomes_of_others_are_written_while_it_has_locked_the_row_of_a_run_that_was_given_up(
    url: str, store: TaskStore
):
    """Its task has finished as failed by an operator's word, and its success is late."""
    began, finish = asyncio.Event(), asyncio.Event()

    @store.task
    async def work(number: int) -> int:
        while number == 0 and not finish.is_set():
            began.set()
            with contextlib.suppress(asyncio.CancelledError):
                await finish.wait()
        return number

    async with store.dispatcher(**SHORT) as dispatcher:
        held = await work.enqueue(0)
        await began.wait()
        await store.tasks.mark_failed(held.id, "given up")
        async with rolled_back(url) as connection:
            await store.using(connection).tasks.soft_delete(held.id)
            finish.set()
            async with asyncio.timeout(LIMIT):
                for count in (1, 5):
                    others = await store.enqueue_many([work.draft(n + 1) for n in range(count)])
                    assert [await store.handle(id_).result() for id_ in others] == [n + 1 for n in range(count)]
            assert await held.status() == "failed"
        await eventually(lambda: has_succeeded(held))
        assert await dispatcher.stop(), "nothing is left to write"


async def has_succeeded(handle: TaskHandle[int]) -> bool:
    return await handle.status() == "succeeded"


async def test_the_outcomes_of_others_are_written_while_it_has_asked_for_the_external_id_of_one(
    url: str, store: TaskStore
):
    """Of a task of which no row is kept, so that its end frees the external id."""
    began, finish = asyncio.Event(), asyncio.Event()

    @store.task(retention=Retention(keep="none"))
    async def once(number: int) -> None:
        began.set()
        await finish.wait()

    async with store.dispatcher(**SHORT) as dispatcher:
        held = await once.options(external_id="one").enqueue(0)
        await began.wait()
        async with rolled_back(url) as connection:
            inside = store.using(connection)
            again = await inside.enqueue("once", {"number": 1}, external_id="one", on_conflict="return")
            assert again.id == held.id
            finish.set()
            async with asyncio.timeout(LIMIT):
                for count in (1, 5):
                    others = await store.enqueue_many([store.draft("quick", {"number": n}) for n in range(count)])
                    assert [await store.handle(id_).result() for id_ in others] == list(range(count))
        await eventually(lambda: is_gone(held))
        assert await dispatcher.stop(), "nothing is left to write"


async def is_gone(handle: TaskHandle[None]) -> bool:
    return await handle.status() is None
