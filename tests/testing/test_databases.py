"""A tester on the databases that users have: with tables of its own, or in a transaction that the test rolls back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from aiotaskstore import ConfigurationError, TaskStatus, TaskStore, current_context
from aiotaskstore.storage.table_names import TableNames
from aiotaskstore.testing import KEEP, TaskStoreTester
from aiotaskstore.testing.own_tables import drop_tables, own_names
from tests.helpers import my_connection

LISTED = {
    "postgresql": "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    "mysql": "SELECT count(*) FROM information_schema.tables WHERE table_schema = DATABASE()",
    "sqlite": "SELECT count(*) FROM sqlite_master",
}


async def tables(url: str) -> int:
    """Count the tables of a database."""
    async with my_connection(url) as mine:
        return int((await mine.execute(LISTED[mine.dialect]))[0][0])


class Shop:
    """An application whose handler writes in the transaction of its run."""

    def __init__(self, url: str) -> None:
        self.store = TaskStore(url)

        @self.store.task(max_attempts=2, serialization_key=lambda number: f"shop {number}")
        async def ship(number: int) -> str:
            context = current_context()
            context.info(f"ships {number}")
            await context.progress("on its way")
            async with context.transaction():
                await bill.enqueue(number)
            if number < 0:
                raise ValueError(number)
            return f"shipped {number}"

        @self.store.task
        async def bill(number: int) -> int:
            return number

        self.ship, self.bill = ship, bill

    async def order(self, number: int) -> None:
        """Do what a request does: in a transaction of the store's, and by the way in another asyncio task."""
        async with self.store.transaction():
            await self.ship.enqueue(number)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.store.enqueue("bill", {"number": number}, delay=3600))


async def test_a_tester_has_tables_of_its_own_and_drops_them(url: str):
    shop = Shop("sqlite://")
    before = await tables(url)
    async with TaskStoreTester(shop.store, database=url) as tester:
        assert await tables(url) > before
        await shop.order(1)
        with tester.inline(raises=False):
            await shop.ship.enqueue(-1)
        assert (await tester.drain()).succeeded == 2
        handle = await shop.bill.enqueue(5)
        await shop.bill.enqueue(6)
        assert (await tester.crash(handle.id)).attempt == 1
        await tester.travel(hours=2)
        report = await tester.drain(raises=False)
        assert (report.succeeded, report.failed) == (3, 1)
        shipped = (await tester.enqueued(shop.ship))[0]
        assert (shipped.result, shipped.details) == ("shipped 1", "ships 1")
        assert shipped.progress is not None
        await tester.assert_enqueued(shop.bill, {"count": 1}, number=6)
    assert await tables(url) == before


async def test_what_a_killed_test_has_left_is_dropped_a_day_later(url: str):
    here = TaskStore(url)._location
    killed, others, ours = own_names(here.kind, made_at=1_000_000), own_names(here.kind), own_names(here.kind)
    for names in (killed, others, ours):
        async with TaskStore(url, prefix=names.prefix, schema=names.schema):
            pass
    await drop_tables(replace(here, table_names=ours))
    assert [await there(url, names) for names in (killed, others, ours)] == [False, True, False]


async def there(url: str, names: TableNames) -> bool:
    """Return whether a location has tables."""
    listed = {
        "postgresql": f"SELECT count(*) FROM pg_tables WHERE schemaname = '{names.schema}'",
        "mysql": f"SELECT count(*) FROM information_schema.tables WHERE table_name LIKE '{names.prefix}%'",
        "sqlite": f"SELECT count(*) FROM sqlite_master WHERE tbl_name LIKE '{names.prefix}%'",
    }
    async with my_connection(url) as mine:
        return bool((await mine.execute(listed[mine.dialect]))[0][0])


async def test_a_store_keeps_its_own_database_if_that_is_said_and_empty(url: str):
    shop = Shop(url)
    async with TaskStoreTester(shop.store, database=KEEP) as tester:
        handle = await shop.bill.enqueue(1)
        await tester.drain()
    with pytest.raises(ConfigurationError, match="holds 1 tasks already"):
        async with TaskStoreTester(shop.store, database=KEEP):
            pass
    assert not shop.store.is_open
    async with TaskStoreTester(shop.store, database=KEEP, allow_existing=True) as tester:
        assert await tester.enqueued() == []
        await shop.bill.enqueue(2)
        assert [task.payload for task in await tester.enqueued()] == [{"number": 2}]
    async with shop.store:
        assert await shop.store.tasks.status(handle.id) is TaskStatus.SUCCEEDED


# ── rolled back ───────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def sqlalchemy_session(url: str) -> AsyncIterator[Any]:
    driver = {"postgresql": "asyncpg", "mysql": "aiomysql", "sqlite": "aiosqlite"}[url.partition(":")[0]]
    engine = create_async_engine(url.replace("://", f"+{driver}://", 1))
    try:
        async with engine.connect() as connection:
            transaction = await connection.begin()
            async with AsyncSession(bind=connection, join_transaction_mode="create_savepoint") as session:
                await session.execute(text("SELECT 1"))
                yield session
            await transaction.rollback()
    finally:
        await engine.dispose()


@asynccontextmanager
async def driver_connection(url: str) -> AsyncIterator[Any]:
    if url.startswith("postgresql"):
        connection = await asyncpg.connect(url)
        transaction = connection.transaction()
        await transaction.start()
        try:
            yield connection
        finally:
            await transaction.rollback()
            await connection.close()
        return
    async with my_connection(url) as mine:
        await mine.begin()
        yield mine.connection
        await mine.rollback()


async def rolled_back(url: str, connection: Any) -> None:
    """Do on the connection what an application does, and find all of it in its transaction."""
    shop = Shop(url)
    async with TaskStoreTester(shop.store, connection=connection) as tester:
        await shop.order(1)
        await tester.assert_enqueued(shop.ship, {"count": 1}, number=1)
        assert await (await shop.bill.enqueue(2)).status() is TaskStatus.PENDING
        report = await tester.drain()
        assert (report.succeeded, [task.result for task in report.tasks]) == (3, ["shipped 1", 2, 1])
        with tester.inline(raises=False):
            failed = await shop.ship.enqueue(-1)
        assert (await failed.task()).error == "ValueError: -1"
        await tester.refute_enqueued(shop.bill, number=-1)
        await tester.travel(hours=1)
        report = await tester.drain(raises=False)
        assert (report.succeeded, report.failed) == (1, 1)
        crashed = await tester.crash((await shop.bill.enqueue(3)).id)
        assert (crashed.status, crashed.attempt) == (TaskStatus.PENDING, 1)
        shop.store.enqueue_soon(shop.bill.draft(4))
        assert len(await tester.enqueued()) == 7


@pytest.mark.parametrize("connect_to", [sqlalchemy_session, driver_connection])
async def test_everything_happens_in_the_transaction_of_the_test_and_goes_with_it(url: str, connect_to: Any):
    async with TaskStore(url):
        pass
    async with connect_to(url) as connection:
        await rolled_back(url, connection)
    async with TaskStore(url) as store:
        assert await store.tasks.count(include_deleted=True) == 0
        assert await store.definitions.list() == []


async def test_a_connection_to_another_kind_of_database_is_refused(sqlite_url: str):
    store = TaskStore(sqlite_url)
    with pytest.raises(ConfigurationError, match="SQLite"):
        async with TaskStoreTester(store, connection=object()):
            pass
    assert not store.is_open


async def test_a_session_to_the_database_that_the_store_was_taken_from_is_told_of_the_tester(postgresql_url: str):
    shop = Shop(postgresql_url)
    engine = create_async_engine(postgresql_url.replace("postgresql:", "postgresql+asyncpg:"))
    async with TaskStoreTester(shop.store), AsyncSession(engine) as session, my_connection(postgresql_url) as mine:
        for connection in (session, mine.connection):
            with pytest.raises(ConfigurationError, match="A TaskStoreTester has it in memory: give that database=<URL"):
                await shop.bill.using(connection).enqueue(1)
    async with TaskStoreTester(shop.store, database=postgresql_url), AsyncSession(engine) as session, session.begin():
        await shop.bill.using(session).enqueue(1)
    await engine.dispose()
