"""Measuring: how deep the queues are, every few seconds, while somebody listens, and never by counting every row."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from aiotaskstore import BackgroundFailed, BackgroundRecovered, Every, QueuesMeasured, Schedule, TaskStarted, TaskStore
from aiotaskstore.manage import measuring
from aiotaskstore.manage.open_store import OpenStore
from aiotaskstore.storage import depths
from tests.helpers import LIMIT, change, expect


def an_hour_ago() -> datetime:
    return datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no error."""
    monkeypatch.setattr(measuring, "_LIMIT", LIMIT)


async def measured(store: TaskStore) -> QueuesMeasured:
    """Have the store measure now, and give what it tells."""
    received: list[QueuesMeasured] = []
    store.on(QueuesMeasured, received.append)
    await opened(store)._measuring.measure_once()
    store.off(QueuesMeasured, received.append)
    return received[0]


def opened(store: TaskStore) -> OpenStore:
    return store._require_open()


async def test_a_measurement_tells_of_each_queue_what_is_in_it_since_when_and_who_serves_it(store: TaskStore):
    let_go = asyncio.Event()

    @store.task(queue="busy")
    async def work() -> None:
        await let_go.wait()

    async with store.dispatcher(queues={"busy": 1}):
        async with expect(store, TaskStarted):
            await work.enqueue()
        await store.enqueue_many([work.draft() for _ in range(3)])
        await work.options(run_at=an_hour_ago()).enqueue()
        await work.options(queue="later", delay=3600).enqueue()
        await store.enqueue_many([work.options(queue="keyed", serialization_key="k").draft() for _ in range(3)])
        await store.queues.pause("set aside")
        event = await measured(store)
        let_go.set()
    busy, keyed, later, paused = event.queues
    assert (busy.name, busy.depth, busy.dispatchers, busy.paused) == ("busy", {"pending": 4, "running": 1}, 1, False)
    assert 3599 <= busy.oldest_due < 3600 + LIMIT
    assert (keyed.name, keyed.depth, keyed.dispatchers) == ("keyed", {"pending": 1, "waiting": 2}, 0)
    assert (later.name, later.depth, later.oldest_due) == ("later", {"scheduled": 1}, 0)
    assert (paused.name, paused.depth, paused.paused) == ("set aside", {}, True)
    assert (event.dispatchers, event.schedule_overdue) == (1, 0)


async def test_a_schedule_that_nobody_fires_is_told_as_overdue(store: TaskStore):
    @store.task
    async def work() -> None: ...

    await store.schedules.create(Schedule(name="hourly", alias="work", status="active", recurrence=Every(hours=1)))
    database = opened(store).storage.database
    await change(database, "UPDATE aiotaskstore_schedules SET next_run_at = :at", at=an_hour_ago())
    overdue = (await measured(store)).schedule_overdue
    assert 3599 <= overdue < 3600 + LIMIT


async def test_no_queue_is_counted_beyond_the_limit(store: TaskStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(depths, "MOST_COUNTED", 3)
    monkeypatch.setattr(depths, "_MOST_PENDING", 4)

    @store.task
    async def work() -> None: ...

    for queue in ("a", "b", "c"):
        await store.enqueue_many([work.options(queue=queue).draft() for _ in range(5)])
        await store.enqueue_many([work.options(queue=queue, delay=3600).draft() for _ in range(5)])
    queues = (await measured(store)).queues
    assert [(one.name, one.depth["pending"]) for one in queues] == [("a", 3), ("b", 1), ("c", 1)]
    assert sum(one.depth.get("scheduled", 0) for one in queues) == 3


async def test_nothing_is_measured_while_nobody_listens(sqlite_url: str, monkeypatch: pytest.MonkeyPatch):
    reads = []
    monkeypatch.setattr(depths.Depths, "count", lambda _self: reads.append(1))
    async with TaskStore(sqlite_url) as store:
        await opened(store)._measuring.measure_once()
    assert not reads


async def test_an_open_store_measures_by_itself_and_goes_on_after_an_error(sqlite_url: str):
    store = TaskStore(sqlite_url)
    told = expect(store, QueuesMeasured)
    async with told, store:
        database, loop = opened(store).storage.database, opened(store)._measuring
        await change(database, "ALTER TABLE aiotaskstore_queues RENAME TO elsewhere")
        async with expect(store, BackgroundFailed, loop="measuring"):
            assert await loop.measure_once() > 0
        async with expect(store, BackgroundRecovered, loop="measuring"):  # its own loop may be the first to find out
            await change(database, "ALTER TABLE elsewhere RENAME TO aiotaskstore_queues")
            await loop.measure_once()
