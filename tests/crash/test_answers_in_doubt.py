"""Connections that break under a read or in a COMMIT: what is asked is answered, and what is in doubt is found out."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from aiotaskstore import (
    DatabaseUnavailableError,
    Once,
    Schedule,
    ScheduleFired,
    TaskEnqueued,
    TaskFinished,
    TaskStore,
)
from tests.crash.crew import SHORT
from tests.crash.handlers import handlers
from tests.crash.journal import Journal
from tests.crash.proxy import Cut, Proxy, several_links
from tests.helpers import LIMIT, eventually, expect

pytestmark = pytest.mark.crash

MARK = "424242"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


async def opened(way: Proxy, journal: Journal, **options: Any) -> TaskStore:
    store = TaskStore(way.url, **options)
    store.include(handlers(journal))
    await store.open()
    return store


def cut_in_commit(way: Proxy, *, keyed: bool) -> None:
    """Lose the answer to the insert of `MARK`, and let nobody in from then on."""
    single = way.url.startswith("postgresql") and not keyed
    way.cuts.append(Cut(MARK.encode(), refuse=True) if single else Cut(b"COMMIT", after=MARK.encode(), refuse=True))


async def test_a_read_that_meets_lost_connections_is_answered(way: Proxy, journal: Journal):
    store = await opened(way, journal)
    try:
        handle = await store.enqueue("quick", {"number": 1})
        for _ in range(3):
            await several_links(store, 4)
            assert way.doom_all() >= 4
            assert (await store.tasks.require(handle.id)).id == handle.id
            way.doom_all()
            assert await handle.status() == "pending"
            way.doom_all()
            with pytest.raises(TimeoutError):
                await handle.wait(timeout=0.3)
            way.doom_all()
            async with asyncio.TaskGroup() as group:
                counts = [group.create_task(store.tasks.count()) for _ in range(8)]
            assert {count.result() for count in counts} == {1}
    finally:
        await store.close()


async def test_so_is_a_transaction_that_was_lost_before_its_commit(way: Proxy, journal: Journal):
    store = await opened(way, journal)
    try:
        handles = [await store.enqueue("quick", {"number": n}, external_id=str(n)) for n in range(3)]
        for handle in handles:
            way.doom_all()
            assert await store.tasks.cancel(handle.id)
        way.doom_all()
        assert await store.tasks.delete(handles[0].id)
    finally:
        await store.close()


@pytest.mark.parametrize("how", ["one", "keyed", "many"])
async def test_what_was_lost_in_commit_is_found_out_once_the_database_is_back(way: Proxy, journal: Journal, how: str):
    store = await opened(way, journal)
    try:
        await store.enqueue("quick", {"number": 1})
        cut_in_commit(way, keyed=how == "keyed")
        async with asyncio.TaskGroup() as group:
            call = group.create_task(enqueue(store, how))
            await eventually(lambda: way.refused >= 4)  # more often than patience of a moment would bear
            assert not call.done()
            way.refusing = False
        ids = call.result()
        assert {task.id for task in await store.tasks.list(id_in=ids)} == set(ids)
        assert await store.tasks.count() == len(ids) + 1
    finally:
        await store.close()


@pytest.mark.parametrize("how", ["one", "keyed", "many"])
async def test_what_stays_in_doubt_is_named(way: Proxy, journal: Journal, how: str):
    store = await opened(way, journal, enqueue_timeout=3)
    try:
        async with TaskStore(way.url) as patient:
            patient.include(handlers(journal))
            await patient.enqueue("quick", {"number": 1})
        cut_in_commit(way, keyed=how == "keyed")
        with pytest.raises(DatabaseUnavailableError, match="may still be stored") as caught:
            await enqueue(store, how)
        assert not caught.value.nothing_done
        way.refusing = False
        ids = caught.value.task_ids
        assert len(ids) == (20 if how == "many" else 1)
        assert how == "many" or str(ids[0]) in str(caught.value)
        found = await eventually(lambda: listed(store, ids))
        assert found == set(ids), "they were stored"
    finally:
        await store.close()


async def test_a_schedule_that_was_lost_in_commit_is_told_once_by_whoever_committed_it(
    way: Proxy, journal: Journal, server_url: str
):
    fired: list[ScheduleFired] = []
    enqueued: list[TaskEnqueued] = []
    async with TaskStore(server_url) as direct:
        store = await opened(way, journal)
        store.on(ScheduleFired, fired.append)
        store.on(TaskEnqueued, enqueued.append)
        try:
            once = Schedule(name="s", alias="quick", payload={"number": 1}, recurrence=Once(LONG_AGO), status="active")
            made = await direct.schedules.create(once)
            way.cuts.append(Cut(b"COMMIT", after=f"schedule:{made.id}".encode(), refuse=True))
            async with expect(store, ScheduleFired, TaskEnqueued, TaskFinished):
                dispatcher = store.dispatcher(lease=60, poll_interval=0.1)
                await dispatcher.start()
                await eventually(lambda: way.refused >= 2)
                assert fired == []
                (task,) = await direct.tasks.list()
                way.refusing = False
            await dispatcher.stop()
        finally:
            await store.close()
        assert (await direct.tasks.require(task.id)).status == "succeeded"
    assert [(event.task_id, event.schedule_id) for event in fired] == [(task.id, made.id)]
    assert [event.task_id for event in enqueued] == [task.id]


async def test_a_database_that_is_away_from_the_beginning_is_no_doubt(way: Proxy, journal: Journal):
    store = await opened(way, journal)
    try:
        way.refusing = True
        way.doom_all()
        await eventually(lambda: unavailable(store))
        with pytest.raises(DatabaseUnavailableError) as caught:
            await store.enqueue("quick", {"number": 1})
        assert caught.value.nothing_done
        assert caught.value.task_ids == ()
        way.refusing = False
        assert await store.tasks.count() == 0
    finally:
        await store.close()


async def test_an_outage_is_told_in_our_words_one_line_a_time(
    way: Proxy, journal: Journal, caplog: pytest.LogCaptureFixture
):
    """No inner words of a driver, no traceback of its pool, no exception that nobody fetched."""
    caplog.set_level(logging.INFO)
    stray: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: stray.append(context))
    store = await opened(way, journal)
    try:
        async with store.dispatcher(**SHORT, poll_interval=0.1):
            for _ in range(3):
                assert await (await store.enqueue("quick", {"number": 1})).result(timeout=LIMIT) == 1
                way.refusing = True
                for link in list(way.links):
                    link.close()
                before = way.refused
                await eventually(lambda: way.refused >= before + 12)  # noqa: B023 - asked here and now
                way.refusing = False
                await eventually(lambda: available(store))
    finally:
        await store.close()
    told = [record for record in caplog.records if record.levelno >= logging.INFO]
    assert told
    assert {record.name.partition(".")[0] for record in told} == {"aiotaskstore"}
    for record in told:
        text = record.getMessage()
        assert record.exc_info is None, text
        assert "\n" not in text
        for words in ("switch to state", "another operation", "InterfaceError", "NoneType", "asyncpg", "aiomysql"):
            assert words not in text
    assert stray == []


async def enqueue(store: TaskStore, how: str) -> list[Any]:
    if how == "many":
        drafts = [store.draft("quick", {"number": int(MARK) + n}) for n in range(20)]
        return await store.enqueue_many(drafts)
    options: Any = {"external_id": "one"} if how == "keyed" else {}
    return [(await store.enqueue("quick", {"number": int(MARK)}, **options)).id]


async def listed(store: TaskStore, ids: tuple[Any, ...]) -> set[Any]:
    return set() if await unavailable(store) else {task.id for task in await store.tasks.list(id_in=list(ids))}


async def available(store: TaskStore) -> bool:
    return not await unavailable(store)


async def unavailable(store: TaskStore) -> bool:
    try:
        await store.tasks.count()
    except DatabaseUnavailableError:
        return True
    return False
