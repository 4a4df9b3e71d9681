"""A queue with a backlog keeps no other queue from being looked at, whoever stored the task and whoever says so."""

from __future__ import annotations

import asyncio

from aiotaskstore import TaskContext, TaskRetried, TaskStarted, TaskStore
from tests.helpers import LIMIT, expect

POLL = 0.2


async def test_a_full_queue_with_a_backlog_keeps_no_other_queue_from_being_polled(store: TaskStore, url: str):
    let_go = asyncio.Event()

    @store.task(queue="bulk")
    async def bulk() -> None:
        await let_go.wait()

    @store.task(queue="urgent")
    async def urgent() -> str:
        return "in time"

    await store.enqueue_many([bulk.draft() for _ in range(8)])
    async with TaskStore(url) as elsewhere, store.dispatcher(queues={"bulk": 2, "urgent": 5}, poll_interval=POLL):
        for _ in range(3):
            handle = await elsewhere.enqueue("urgent", queue="urgent")
            assert await store.handle(handle.id).result(timeout=LIMIT) == "in time"
        let_go.set()


async def test_a_backlog_that_never_ends_keeps_no_other_queue_from_being_polled(store: TaskStore, url: str):
    over = False

    @store.task(queue="bulk")
    async def bulk() -> None:
        await asyncio.sleep(0.005)
        if not over:
            await bulk.enqueue()

    @store.task(queue="urgent")
    async def urgent() -> str:
        return "in time"

    await store.enqueue_many([bulk.draft() for _ in range(8)])
    async with TaskStore(url) as elsewhere, store.dispatcher(queues={"bulk": 2, "urgent": 5}, poll_interval=POLL):
        try:
            for _ in range(3):
                handle = await elsewhere.enqueue("urgent", queue="urgent")
                assert await store.handle(handle.id).result(timeout=LIMIT) == "in time"
        finally:
            over = True


async def test_a_queue_that_nobody_has_named_is_found_beside_a_full_one(store: TaskStore, url: str):
    let_go = asyncio.Event()

    @store.task
    async def work(waits: bool) -> str:
        if waits:
            await let_go.wait()
        return "found"

    await store.enqueue_many([work.draft(waits=True) for _ in range(8)])
    async with TaskStore(url) as elsewhere, store.dispatcher(concurrency=2, poll_interval=POLL):
        handle = await elsewhere.enqueue("work", {"waits": False}, queue="brand new")
        assert await store.handle(handle.id).result(timeout=LIMIT) == "found"
        let_go.set()


async def test_what_a_stopping_dispatcher_gives_back_runs_beside_another_ones_full_queue(store: TaskStore, url: str):
    let_go = asyncio.Event()
    other = TaskStore(url)

    async def bulk() -> None:
        await let_go.wait()

    async def moves(context: TaskContext) -> str:
        if context.store is store:
            await asyncio.Event().wait()
        return "moved"

    for one in (store, other):
        one.task(queue="bulk")(bulk)
        one.task(queue="urgent")(moves)
    async with other:
        await other.enqueue_many([other.draft("bulk", queue="bulk") for _ in range(8)])
        async with expect(store, TaskStarted):
            old = store.dispatcher(queues="urgent")
            await old.start()
            handle = await store.enqueue("moves", queue="urgent")
        async with other.dispatcher(queues={"bulk": 2, "urgent": 5}, poll_interval=POLL):
            async with expect(store, TaskRetried, reason="shutdown", delay=None):
                assert await old.stop(grace=0) is False
            assert await handle.result(timeout=LIMIT) == "moved"
            let_go.set()
