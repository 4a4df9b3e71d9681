"""`store.queues`, `store.dispatchers` and what a store was made with: what an operator's screen shows."""

from __future__ import annotations

import asyncio
import os
import socket
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from aiotaskstore import ConfigurationError, TaskStarted, TaskStatus, TaskStore
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.storage.connect import connect
from tests.helpers import clock_of, expect


async def test_a_queue_is_listed_with_its_tasks_by_status(store: TaskStore):
    release = asyncio.Event()

    @store.task(queue="busy")
    async def hold() -> None:
        await release.wait()

    @store.task(queue="broken")
    async def fail() -> None:
        raise ValueError

    assert await store.queues.list() == []
    await fail.enqueue()
    await store.dispatcher(queues="broken").run_once()
    running = await hold.enqueue()
    async with store.dispatcher(queues={"busy": 1}):
        async with expect(store, TaskStarted):
            await store.notify("busy")
        await hold.enqueue()
        await hold.options(delay=60).enqueue()
        broken, busy = await store.queues.list()
        assert (broken.name, busy.name) == ("broken", "busy")
        assert set(busy.depth) == set(TaskStatus)
        assert {status: count for status, count in broken.depth.items() if count} == {TaskStatus.FAILED: 1}
        assert {str(status): count for status, count in busy.depth.items() if count} == {
            "running": 1, "pending": 1, "scheduled": 1,
        }  # fmt: skip
        assert busy.depth["running"] == busy.depth[TaskStatus.RUNNING] == 1
        release.set()
        await running.wait()


async def test_a_queue_says_since_when_its_oldest_task_is_due(store: TaskStore):
    @store.task(queue="late")
    async def work() -> None: ...

    due = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    await work.options(run_at=due + timedelta(minutes=30)).enqueue()
    await work.options(run_at=due).enqueue()
    await work.options(run_at=due - timedelta(hours=1)).enqueue()
    (oldest,) = await store.tasks.list(order_by="run_at", descending=False, limit=1)
    await store.tasks.cancel(oldest.id)
    await work.options(delay=60, queue="early").enqueue()
    early, late = await store.queues.list()
    assert late.oldest_due == due
    assert early.oldest_due is None


async def test_queues_are_listed_as_the_open_transaction_sees_them(store: TaskStore):
    @store.task
    async def work() -> None: ...

    async with store.transaction():
        await work.enqueue()
        (queue,) = await store.queues.list()
        assert queue.depth[TaskStatus.PENDING] == 1


async def test_a_dispatcher_is_listed_from_its_start_to_its_stop(store: TaskStore):
    @store.task
    async def work() -> None: ...

    assert await store.dispatchers.list() == []
    async with store.dispatcher(name="one") as first:
        (one,) = await store.dispatchers.list()
        assert (one.id, one.name, one.host, one.pid) == (first.id, "one", socket.gethostname(), os.getpid())
        assert one.alive
        assert one.started_at <= one.heartbeat_at
        assert one.silent_for >= 0
        async with store.dispatcher(name="two"):
            assert [row.name for row in await store.dispatchers.list()] == ["one", "two"]
    assert await store.dispatchers.list() == []


async def test_a_dispatcher_whose_lease_has_run_out_is_not_alive(store: TaskStore, url: str):
    dead, silence, lease = new_id(), timedelta(hours=1), 15.0
    storage = connect(url, clock=clock_of(lambda: datetime.now(UTC) - silence))
    await storage.database.open()
    try:
        await storage.database.write(
            lambda: storage.dispatchers.register(dead, name="dead", host="gone", pid=1, lease=lease)
        )
    finally:
        await storage.database.close()
    (row,) = await store.dispatchers.list()
    assert row.id == dead
    assert not row.alive
    assert row.silent_for > lease


async def test_what_lists_needs_an_open_store(url: str):
    store = TaskStore(url)
    for manager in (store.queues, store.dispatchers):
        with pytest.raises(ConfigurationError, match="closed"):
            await manager.list()


def test_a_store_tells_what_it_was_made_with_but_no_password():
    store = TaskStore("postgresql+asyncpg://app:s3cret@db.example/shop?x=1", prefix="shop_", schema="tasks")
    assert store.url == "postgresql://app:***@db.example/shop?x=1"
    assert (store.prefix, store.schema, store.pool) == ("shop_", "tasks", None)
    assert TaskStore("sqlite:///tasks.db").url == "sqlite:///tasks.db"


async def test_a_store_on_a_pool_of_the_application_has_that_and_no_url(postgresql_url: str):
    async with asyncpg.create_pool(postgresql_url, min_size=1, max_size=2) as pool:
        store = TaskStore(pool)
        assert store.url is None
        assert store.pool is pool


async def test_an_opening_may_leave_the_tables_as_they_are(store: TaskStore, url: str):
    other = TaskStore(url, prefix="other_")
    with pytest.raises(Exception, match="migrate"):
        await other.open(migrate=False)
    assert not other.is_open
    await other.open()
    await other.close()
    await other.open(migrate=False)
    await other.close()
