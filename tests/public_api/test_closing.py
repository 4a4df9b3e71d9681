"""Closing ends, whatever goes on meanwhile; what was accepted before is stored, what comes after is refused."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from aiotaskstore import ConfigurationError, TaskEnqueued, TaskStore
from tests.bad_input.refusals import judge, refusal_of, together
from tests.helpers import LIMIT


async def test_flush_waits_for_what_was_given_before_it_and_not_for_ever_more(store: TaskStore):
    @store.task
    async def work() -> None: ...

    over = False

    async def stream() -> None:
        while not over:
            store.enqueue_soon(work.draft())
            await asyncio.sleep(0)

    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        group.create_task(stream())
        await asyncio.sleep(0)
        handle = store.enqueue_soon(work.draft())
        await store.flush()
        assert await handle.status() is not None
        over = True


async def test_a_store_closes_while_tasks_are_given_to_it_without_end(url: str):
    store = TaskStore(url)
    accepted: list[UUID] = []
    refused: list[Exception] = []

    @store.task
    async def work() -> None: ...

    async def soon() -> None:
        while True:
            try:
                accepted.append(store.enqueue_soon(work.draft()).id)
            except ConfigurationError as error:
                refused.append(error)
                return
            await asyncio.sleep(0)

    async def each() -> None:
        while True:
            try:
                accepted.append((await work.enqueue()).id)
            except ConfigurationError as error:
                refused.append(error)
                return

    await store.open()
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        group.create_task(soon())
        for _ in range(5):
            group.create_task(each())
        await asyncio.sleep(0.05)
        await store.close()
    assert len(refused) == 6
    assert all("closed" in str(error) for error in refused), refused
    async with store:
        stored = {task.id for task in await store.tasks.list()}
    assert stored >= set(accepted)


async def test_a_listener_that_gives_a_task_for_each_task_does_not_keep_the_store_open(url: str):
    store = TaskStore(url)

    @store.task
    async def work() -> None: ...

    store.on(TaskEnqueued, lambda _event: store.enqueue_soon(work.draft()))
    async with asyncio.timeout(LIMIT):
        async with store:
            await work.enqueue()
            await asyncio.sleep(0.05)
        assert not store.is_open


async def test_a_store_is_not_closed_inside_its_own_transaction_which_goes_on(store: TaskStore):
    @store.task
    async def work() -> None: ...

    async with asyncio.timeout(LIMIT):
        async with store.transaction():
            await work.enqueue()
            for error in (await refusal_of(store.close), (await together(store.close()))[0]):
                judge(error, ConfigurationError, "after the block")
            await work.enqueue()
        assert await store.tasks.count() == 2
        await store.close()
    assert not store.is_open


async def test_a_store_closes_while_somebody_holds_a_transaction(url: str):
    store = TaskStore(url, transaction_timeout=10 * LIMIT)
    inside, go_on = asyncio.Event(), asyncio.Event()

    @store.task
    async def work() -> None: ...

    async def hold() -> None:
        with pytest.raises(ConfigurationError, match="closed"):
            async with store.transaction():
                await work.enqueue()
                inside.set()
                await go_on.wait()
                await work.enqueue()

    async with asyncio.timeout(2 * LIMIT), asyncio.TaskGroup() as group:
        await store.open()
        group.create_task(hold())
        await inside.wait()
        async with asyncio.timeout(LIMIT):
            await store.close()
        go_on.set()
    async with asyncio.timeout(LIMIT), store:
        assert await store.tasks.count() == 0
        async with store.transaction():
            await work.enqueue()
        assert await store.tasks.count() == 1
