"""Behind PgBouncer in transaction mode each transaction may run in another session of the server."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from aiotaskstore import DispatcherStarted, TaskStore, noop
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.operation import Query, Rows, Steps
from aiotaskstore.storage.storage import Storage
from tests.helpers import LIMIT, eventually
from tests.servers import PgBouncer

SETTINGS = """
SELECT current_setting('search_path'), current_setting('TimeZone'),
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
    (SELECT count(*) FROM pg_listening_channels())
"""


@pytest.fixture(scope="module")
def pooler() -> Iterator[PgBouncer]:
    """PgBouncer in transaction mode before the PostgreSQL of the tests."""
    with PgBouncer(before=os.environ["AIOTASKSTORE_TEST_POSTGRESQL"]) as server:
        yield server


@pytest.fixture
def pooled_url(pooler: PgBouncer, postgresql_url: str) -> str:
    """The URL of a fresh, empty database through PgBouncer."""
    parts = urlsplit(pooler.url)
    return urlunsplit(parts._replace(path=urlsplit(postgresql_url).path))


async def prepared_after_some_use(storage: Storage) -> int:
    def ask() -> Steps[Rows]:
        for _ in range(3):
            yield Query("SELECT count(*) FROM pg_prepared_statements WHERE 1 = :one", {"one": 1})
        return (yield Query("SELECT count(*) FROM pg_prepared_statements WHERE 2 = :two", {"two": 2}))

    return int((await storage.database.read(ask))[0][0])


async def test_statements_are_prepared_where_the_server_is_spoken_to(postgresql_url: str):
    storage = connect(postgresql_url, pool_size=1)
    await storage.database.open()
    assert await prepared_after_some_use(storage) > 0
    await storage.database.close()


async def test_no_statement_is_prepared_behind_a_pooler(pooled_url: str):
    storage = connect(pooled_url, pool_size=1)
    await storage.database.open()
    assert await prepared_after_some_use(storage) <= 1  # the one that asks
    await storage.database.close()


async def test_dispatchers_behind_a_pooler_are_woken_through_a_direct_connection(pooled_url: str, postgresql_url: str):
    """No poll comes within the test, so what runs was told by a notification."""
    async with TaskStore(pooled_url, listen_url=postgresql_url) as store, TaskStore(pooled_url) as elsewhere:
        store.include(noop)
        started: list[str] = []
        store.on(DispatcherStarted, lambda event: started.append(event.waking))
        async with store.dispatcher(poll_interval=10 * LIMIT):
            assert started == ["notify"]
            for _ in range(3):
                handle = await elsewhere.enqueue("noop")
                assert (await handle.wait(timeout=LIMIT)).status == "succeeded"


async def test_dispatchers_without_notifications_behind_a_pooler_say_so_and_poll(
    pooled_url: str, caplog: pytest.LogCaptureFixture
):
    async with TaskStore(pooled_url) as store:
        store.include(noop)
        started: list[str] = []
        store.on(DispatcherStarted, lambda event: started.append(event.waking))
        async with store.dispatcher():
            handle = await noop.enqueue()
            assert (await handle.wait(timeout=LIMIT)).status == "succeeded"
        assert started == ["poll"]
        assert "listen_url" in caplog.text


async def test_everything_at_once_goes_through_three_sessions_of_a_pooler(pooled_url: str, postgresql_url: str):
    """Callers, two dispatchers, keys, retries and transactions share the sessions, and nothing gets lost."""
    store = TaskStore(pooled_url, listen_url=postgresql_url, transaction_timeout=LIMIT)
    runs: Counter[int] = Counter()
    under_way: Counter[str] = Counter()

    @store.task(serialization_key=lambda number: f"account {number % 7}", max_attempts=2, backoff=0)
    async def book(number: int) -> int:
        key = f"account {number % 7}"
        under_way[key] += 1
        assert under_way[key] == 1
        await asyncio.sleep(0)
        under_way[key] -= 1
        runs[number] += 1
        if number % 10 == 0 and runs[number] == 1:
            raise ValueError(number)
        return number

    async def in_a_transaction(number: int) -> None:
        async with store.transaction() as connection:
            await connection.execute("INSERT INTO orders VALUES ($1)", number)
            await book.enqueue(number)

    async with store:
        async with store.transaction() as connection:
            await connection.execute("CREATE TABLE orders (id integer PRIMARY KEY)")
        async with store.dispatcher(), store.dispatcher(), asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(in_a_transaction(number))
            for number in range(50, 100):
                group.create_task(book.enqueue(number))
        async with store.dispatcher():

            async def all_succeeded() -> bool:
                return await store.tasks.count(status="succeeded") == 100

            await eventually(all_succeeded)
        assert runs == {number: 2 if number % 10 == 0 else 1 for number in range(100)}


async def test_a_pool_of_the_applications_own_leads_through_a_pooler(pooled_url: str, postgresql_url: str):
    async with asyncpg.create_pool(pooled_url, min_size=1, statement_cache_size=0) as pool:
        store = TaskStore(pool, listen_url=postgresql_url)
        store.include(noop)
        async with store, store.dispatcher():
            async with pool.acquire() as connection, connection.transaction():
                handle = await noop.using(connection).enqueue()
            assert (await handle.wait(timeout=LIMIT)).status == "succeeded"


async def test_a_pooler_that_is_started_again_is_found_again(pooler: PgBouncer, pooled_url: str, postgresql_url: str):
    store = TaskStore(pooled_url, listen_url=postgresql_url)
    store.include(noop)
    async with store, store.dispatcher(lease=LIMIT):
        await (await noop.enqueue()).wait(timeout=LIMIT)
        await asyncio.to_thread(pooler.kill)
        await asyncio.to_thread(pooler.restart)
        handle = await noop.enqueue()
        assert (await handle.wait(timeout=LIMIT)).status == "succeeded"


async def test_what_a_transaction_does_to_its_session_ends_with_it_behind_a_pooler_too(pooled_url: str):
    """Before the COMMIT: after it, the session may serve somebody else."""
    async with TaskStore(pooled_url, pool_size=1) as store:
        store.include(noop)
        async with store.transaction() as connection:
            before = await connection.fetchrow(SETTINGS)
        async with store.transaction() as connection:
            for change in ("SET search_path TO pg_catalog", "SET TimeZone = 'Asia/Kathmandu'", "LISTEN something"):
                await connection.execute(change)
            await connection.execute("SELECT pg_advisory_lock(42)")
        async with store.transaction() as connection:
            await noop.using(connection).enqueue()
            assert tuple(await connection.fetchrow(SETTINGS)) == tuple(before)
        assert await store.tasks.count() == 1


async def test_a_diagnosis_finds_the_pooler_and_that_notifications_do_not_arrive(pooled_url: str, postgresql_url: str):
    store = TaskStore(pooled_url)
    await store.migrate()
    found = {(one.check, str(one.severity)): one for one in await store.diagnose()}
    assert ("notifications", "warning") in found
    assert "listen_url=" in found["notifications", "warning"].advice
    assert "A pooler in transaction mode stands before the server" in found["server", "ok"].found
    assert ("locking", "ok") in found
    direct = await TaskStore(pooled_url, listen_url=postgresql_url).diagnose()
    assert "ok" in {str(one.severity) for one in direct if one.check == "notifications"}
