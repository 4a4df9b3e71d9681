"""Health: what a process says of itself, from any thread and without asking the database."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from aiotaskstore import DispatcherHealth, StoreHealth, TaskStarted, TaskStore, TaskStoreError
from aiotaskstore.dispatch import instance_health
from tests.helpers import LIMIT, eventually, expect

WAKING = {"postgresql": "notify", "mysql": "poll", "sqlite": "data_version"}


async def test_a_store_is_ready_while_it_is_open_and_its_dispatchers_claim(url: str):
    store = TaskStore(url)
    let_go = asyncio.Event()

    @store.task(queue="q")
    async def work() -> None:
        await let_go.wait()

    assert store.health() == StoreHealth(open=False, live=True, ready=False, problems=("the store is not open",))
    async with store:
        assert store.health() == StoreHealth(open=True, live=True, ready=True)
        dispatcher = store.dispatcher(name="mine")
        assert dispatcher.health() == DispatcherHealth(
            name="mine", id=None, live=True, ready=False, problems=("it is stopped",)
        )
        async with dispatcher:
            async with expect(store, TaskStarted):
                await work.enqueue()
            health = store.health()
            (mine,) = health.dispatchers
            assert (health.ready, health.problems) == (True, ())
            assert (mine.name, mine.id, mine.live, mine.ready) == ("mine", dispatcher.id, True, True)
            assert (mine.running, mine.slots_in_use) == (1, {"q": 1})
            assert mine.heartbeat_age < LIMIT
            assert mine.waking == WAKING[url.partition(":")[0]]
            dispatcher.begin_stop(grace=LIMIT)
            stopping = store.health()
            assert (stopping.live, stopping.ready) == (True, False)
            assert stopping.problems == ("dispatcher mine: it is stopping",)
            let_go.set()
    assert not store.health().open


async def test_a_blocked_event_loop_is_seen_from_another_thread_while_it_is_blocked(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(instance_health, "LONGEST_LAG", 0.3)
    store = TaskStore(sqlite_url)
    seen: list[StoreHealth] = []

    @store.task
    async def block() -> None:
        while not seen:
            time.sleep(0.01)  # noqa: ASYNC251 - it blocks the event loop on purpose

    def watch() -> None:
        until, health = time.monotonic() + LIMIT, store.health()
        while health.live and time.monotonic() < until:
            time.sleep(0.01)
            health = store.health()
        seen.append(health)

    async with store, store.dispatcher():
        await eventually(lambda: store.health().ready)
        watcher = threading.Thread(target=watch)
        await block.enqueue()
        watcher.start()
        await eventually(lambda: seen)
        watcher.join()
        await eventually(lambda: store.health().live)
    assert not seen[0].ready
    assert "its event loop has been blocked for" in seen[0].problems[0]


async def test_a_dispatcher_without_a_heartbeat_in_its_lease_is_live_and_not_ready(sqlite_url: str):
    store = TaskStore(sqlite_url)

    @store.task
    async def work() -> None: ...

    async with store, store.dispatcher(heartbeat=60, lease=120) as dispatcher:
        instance = dispatcher._instance
        assert instance is not None
        await eventually(lambda: instance.assembly.lease.replies_in_a_row)
        instance.assembly.lease._renewed_at -= 100
        health = store.health()
    assert (health.live, health.ready) == (True, False)
    assert "no heartbeat has got a reply for 100" in health.problems[0]


async def test_a_dispatcher_that_one_of_its_loops_has_ended_is_not_live(sqlite_url: str):
    store = TaskStore(sqlite_url)

    @store.task
    async def work() -> None: ...

    async with store:
        dispatcher = store.dispatcher()
        await dispatcher.start()
        instance = dispatcher._instance
        assert instance is not None
        instance.assembly.loops.fail("promoter", ValueError("a bug"))
        during = dispatcher.health()
        await instance.life.over.wait()
        after, of_the_store = dispatcher.health(), store.health()
        with pytest.raises(TaskStoreError, match="a bug"):
            await dispatcher.stop()
        assert store.health().ready, "the application has been told, and may start another"
    for health in (during, after, of_the_store):
        assert (health.live, health.ready) == (False, False)
        assert "promoter" in health.problems[0]
    assert of_the_store.dispatchers == (after,)
