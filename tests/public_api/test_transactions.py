"""In the caller's transaction: committed with it, gone with its rollback, seen by nobody else before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import Context
from typing import Any
from urllib.parse import urlsplit

import aiosqlite
import asyncpg
import pytest

from aiotaskstore import (
    ConfigurationError,
    DatabaseUnavailableError,
    DuplicateTaskError,
    NotInTransactionError,
    TaskContext,
    TaskEnqueued,
    TaskFinished,
    TaskStatus,
    TaskStore,
)
from tests.helpers import LIMIT, Mine, connect_mysql, expect, my_connection


@pytest.fixture
async def mine(url: str, store: TaskStore) -> AsyncIterator[Mine]:
    async with my_connection(url) as opened:
        await opened.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        if opened.dialect != "postgresql":
            await opened.commit()
        yield opened


@pytest.mark.acceptance("A102")
async def test_a_task_is_committed_with_the_callers_own_rows(store: TaskStore, mine: Mine):
    @store.task
    async def work(n: int) -> int:
        return n

    await mine.begin()
    await mine.execute("INSERT INTO orders (id) VALUES (1)")
    handle = await work.using(mine.connection).enqueue(7)
    by_alias = await store.using(mine.connection).enqueue("work", {"n": 8})
    ids = await store.using(mine.connection).enqueue_many([work.draft(n) for n in (9, 10)])
    assert await store.using(mine.connection).tasks.count() == 4
    assert await store.tasks.count() == 0, "nobody else sees it yet"
    assert await handle.status() is None
    await mine.commit()
    assert await store.tasks.count() == 4
    assert await store.dispatcher().run_once() == 4
    assert await handle.result() == 7
    assert [task.result for task in await store.tasks.list(id_in=[by_alias.id, *ids], descending=False)] == [8, 9, 10]
    assert await mine.execute("SELECT count(*) FROM orders") == [(1,)]


@pytest.mark.acceptance("A102")
async def test_a_rollback_leaves_nothing(store: TaskStore, mine: Mine):
    @store.task
    async def work(n: int) -> None: ...

    for begins in (True, False):  # a driver's own implicit transaction too
        if begins or mine.dialect == "postgresql":
            await mine.begin()
        handle = await work.using(mine.connection).enqueue(1)
        await work.options(external_id="one", delay=5).using(mine.connection).enqueue(1)
        await store.using(mine.connection).enqueue_many([work.draft(2)])
        await mine.rollback()
        assert await store.tasks.count() == 0
        assert await handle.status() is None
    assert await work.options(external_id="one").enqueue(1), "the external id is free again"


async def test_a_duplicate_in_the_callers_transaction_keeps_it_usable(store: TaskStore, mine: Mine):
    @store.task
    async def work() -> None: ...

    first = await work.options(external_id="one").enqueue()
    await mine.begin()
    await mine.execute("INSERT INTO orders (id) VALUES (1)")
    bound = work.using(mine.connection)
    for _ in range(2):
        with pytest.raises(DuplicateTaskError) as caught:
            await bound.options(external_id="one").enqueue()
        assert caught.value.existing_id == first.id
    assert (await bound.options(external_id="one", on_conflict="return").enqueue()).id == first.id
    with pytest.raises(DuplicateTaskError):
        await store.using(mine.connection).enqueue_many([work.draft(), work.options(external_id="one").draft()])
    await bound.enqueue()
    await mine.execute("INSERT INTO orders (id) VALUES (2)")
    await mine.commit()
    assert await store.tasks.count() == 2
    assert await mine.execute("SELECT count(*) FROM orders") == [(2,)]


async def test_a_connection_that_commits_by_itself_is_refused(store: TaskStore, url: str):
    @store.task
    async def work() -> None: ...

    if url.startswith("postgresql"):
        connection: Any = await asyncpg.connect(url)
        close = connection.close
    elif url.startswith("mysql"):
        connection = await connect_mysql(url, autocommit=True)
        close = connection.ensure_closed
    else:
        connection = await aiosqlite.connect(urlsplit(url).path[1:], isolation_level=None)
        close = connection.close
    try:
        with pytest.raises(NotInTransactionError, match="commits by itself"):
            await work.using(connection).enqueue()
        with pytest.raises(NotInTransactionError):
            await store.using(connection).enqueue_many([work.draft()])
        with pytest.raises(NotInTransactionError), store.joined(connection):
            pass
        assert await store.tasks.count() == 0
        await Mine(url, connection).begin()
        await work.using(connection).enqueue()
        await Mine(url, connection).commit()
        assert await store.tasks.count() == 1
    finally:
        await close()


async def test_a_block_that_closes_the_stores_own_connection_learns_that_nothing_is_stored(store: TaskStore, url: str):
    @store.task
    async def work() -> None: ...

    with pytest.raises(DatabaseUnavailableError):
        async with store.transaction() as connection:
            await work.enqueue()
            await (connection.ensure_closed() if url.startswith("mysql") else connection.close())
    assert await store.tasks.count() == 0


@pytest.mark.memory(False)  # where one connection sees what another has not committed
@pytest.mark.acceptance("A103")
async def test_the_stores_own_transaction_is_joined_by_everything_its_asyncio_task_does(store: TaskStore):
    @store.task
    async def work(n: int) -> None: ...

    before = await work.enqueue(0)
    async with store.transaction():
        handle = await work.enqueue(1)
        ids = await store.enqueue_many([work.draft(2), work.draft(3)])
        assert (await handle.task()).status is TaskStatus.PENDING
        assert await store.tasks.count() == 4
        assert (await store.tasks.cancel(before.id, "inside")).status is TaskStatus.CANCELLED
        await store.tasks.delete(ids[0])
        assert len(await store.tasks.list(status="pending")) == 2
        outside = asyncio.ensure_future(_count_elsewhere(store))  # noqa: TID251 - a task of its own
        assert await outside == 1, "another asyncio task joins nothing and sees nothing"
    assert await store.tasks.count(status="pending") == 2
    assert await before.status() is TaskStatus.CANCELLED


@pytest.mark.acceptance("A103")
async def test_an_error_inside_the_stores_transaction_rolls_everything_back(store: TaskStore):
    @store.task
    async def work(n: int) -> None: ...

    before = await work.enqueue(0)
    with pytest.raises(LookupError):
        async with store.transaction():
            await work.enqueue(1)
            await store.tasks.cancel(before.id)
            raise LookupError
    assert await store.tasks.count() == 1
    assert await before.status() is TaskStatus.PENDING


async def test_the_lent_connection_is_the_drivers_own(store: TaskStore, mine: Mine, url: str):
    @store.task
    async def work() -> None: ...

    async with store.transaction() as connection:
        kinds = {kind.__module__.partition(".")[0] for kind in type(connection).__mro__}
        assert kinds & {"asyncpg", "aiomysql", "aiosqlite"}
        await Mine(url, connection).execute("INSERT INTO orders (id) VALUES (5)")
        await work.enqueue()
    assert await mine.execute("SELECT id FROM orders") == [(5,)]
    with pytest.raises(LookupError):
        async with store.transaction() as connection:
            await Mine(url, connection).execute("INSERT INTO orders (id) VALUES (6)")
            raise LookupError
    if mine.dialect != "postgresql":
        await mine.commit()
    assert await mine.execute("SELECT id FROM orders") == [(5,)]


async def test_a_joined_connection_is_seen_only_by_the_asyncio_task_that_joined_it(store: TaskStore, mine: Mine):
    @store.task
    async def work(n: int) -> None: ...

    await mine.begin()
    with store.joined(mine.connection):
        await work.enqueue(1)
        assert await store.tasks.count() == 1
        if mine.dialect != "sqlite":  # there the open transaction keeps everybody else from writing
            other = asyncio.ensure_future(_call(work.enqueue, 2))  # noqa: TID251
            await other
        assert await asyncio.ensure_future(_count_elsewhere(store)) == (mine.dialect != "sqlite")  # noqa: TID251
    await mine.rollback()
    assert [task.payload["n"] for task in await store.tasks.list()] == ([] if mine.dialect == "sqlite" else [2])


async def test_an_inner_transaction_shadows_the_outer_one(store: TaskStore, mine: Mine, url: str):
    if mine.dialect == "sqlite":
        return  # one file has one writer: an inner transaction would wait for the outer one

    @store.task
    async def work(name: str) -> None: ...

    await mine.begin()
    async with store.transaction():
        await work.enqueue("outer")
        with store.joined(mine.connection):
            await work.enqueue("inner")
        await work.enqueue("outer too")
    await mine.rollback()
    assert {task.payload["name"] for task in await store.tasks.list()} == {"outer", "outer too"}


async def test_what_is_enqueued_soon_joins_no_transaction(store: TaskStore, url: str):
    @store.task
    async def work(name: str) -> None: ...

    with pytest.raises(LookupError):
        async with store.transaction():
            await work.enqueue("inside")
            store.enqueue_soon(work.draft("soon"))
            raise LookupError
    await store.flush()
    assert [task.payload["name"] for task in await store.tasks.list()] == ["soon"]


async def test_handlers_and_listeners_never_see_the_callers_transaction(store: TaskStore, url: str):
    @store.task
    async def child() -> None: ...

    @store.task
    async def parent(context: TaskContext) -> None:
        await child.enqueue()

    received = []

    async def listen(_event: TaskEnqueued) -> None:
        received.append(store._ambient.current())

    store.on(TaskEnqueued, listen)
    with pytest.raises(LookupError):
        async with store.transaction():
            await child.enqueue()
            raise LookupError
    dispatcher = store.dispatcher()
    if url.startswith("sqlite"):  # where a start inside the transaction would wait for its end
        await dispatcher.start()
    async with expect(store, TaskFinished, alias="child", status=TaskStatus.SUCCEEDED), store.transaction():
        await dispatcher.start()
        await parent.enqueue()
    await dispatcher.stop()
    assert set(received) == {None}


@pytest.mark.acceptance("A102")
async def test_a_dispatcher_learns_of_a_committed_task_without_waiting_for_a_poll(store: TaskStore, url: str):
    @store.task
    async def work(n: int) -> int:
        return n

    async with store.dispatcher(poll_interval=50), my_connection(url) as mine:
        async with store.transaction():
            handle = await work.enqueue(1)
            later = await work.options(delay=0.2).enqueue(2)
        assert await handle.result(timeout=LIMIT) == 1
        assert await later.result(timeout=LIMIT) == 2
        await mine.begin()
        handle = await work.using(mine.connection).enqueue(3)
        await mine.commit()
        await store.notify()
        assert await handle.result(timeout=LIMIT) == 3


async def test_a_transaction_that_takes_too_long_ends_with_an_error_and_is_rolled_back(url: str):
    async with TaskStore(url, transaction_timeout=0.2) as store:

        @store.task
        async def work() -> None: ...

        with pytest.raises(TimeoutError, match="transaction_timeout"):
            async with store.transaction():
                await work.enqueue()
                await asyncio.Event().wait()
        assert await store.tasks.count() == 0
        store._transactions.limit = LIMIT
        async with store.transaction():
            await work.enqueue()
        assert await store.tasks.count() == 1
        with pytest.raises(TimeoutError) as caught:
            async with store.transaction():
                raise TimeoutError("of the application's own")
        assert "own" in str(caught.value)


async def test_a_cancelled_transaction_is_rolled_back_and_the_next_one_works(store: TaskStore):
    @store.task
    async def work() -> None: ...

    inside = asyncio.Event()

    async def hold() -> None:
        async with store.transaction():
            await work.enqueue()
            inside.set()
            await asyncio.Event().wait()

    for _ in range(3):
        inside.clear()
        holder = asyncio.ensure_future(hold())  # noqa: TID251
        await inside.wait()
        holder.cancel()
        await asyncio.wait([holder])
        assert holder.cancelled()
        assert await store.tasks.count() == 0
    async with store.transaction():
        await work.enqueue()
    assert await store.tasks.count() == 1


async def test_on_sqlite_others_wait_for_a_transaction_and_do_not_fail(sqlite_url: str):
    async with TaskStore(sqlite_url, transaction_timeout=LIMIT) as store, TaskStore(sqlite_url) as elsewhere:

        @store.task
        async def work(n: int) -> None: ...

        async with store.transaction():
            await work.enqueue(0)
            others = [
                asyncio.create_task(_call(work.enqueue, 1), context=Context()),  # noqa: TID251 - not started inside
                asyncio.ensure_future(elsewhere.enqueue("work", {"n": 2}, unchecked=True)),  # noqa: TID251
            ]
            for _ in range(5):
                await asyncio.sleep(0.02)
                assert await _count_from(elsewhere) == 0
            assert not any(other.done() for other in others)
        async with asyncio.timeout(LIMIT):
            await asyncio.wait(others)
        assert {task.payload["n"] for task in await store.tasks.list()} == {0, 1, 2}


async def test_a_memory_database_has_transactions_too():
    async with TaskStore("sqlite://", transaction_timeout=LIMIT) as store:

        @store.task
        async def work(n: int) -> int:
            return n

        async with store.transaction() as connection:
            await connection.execute("CREATE TABLE orders (id INTEGER)")
            handle = await work.enqueue(1)
        with pytest.raises(LookupError):
            async with store.transaction():
                await work.enqueue(2)
                raise LookupError
        assert await store.dispatcher().run_once() == 1
        assert await handle.result() == 1


async def test_the_event_of_a_joined_enqueue_is_told_to_this_process(store: TaskStore):
    @store.task
    async def work() -> None: ...

    async with expect(store, TaskEnqueued), store.transaction():
        await work.enqueue()


async def test_what_is_no_connection_of_this_database_is_refused(store: TaskStore):
    @store.task
    async def work() -> None: ...

    for thing in (object(), "postgresql://", 7):
        with pytest.raises(ConfigurationError, match=r"using\(\)"):
            await work.using(thing).enqueue()
    assert await store.tasks.count() == 0


async def _call(call, *args):
    return await call(*args)


async def _count_elsewhere(store: TaskStore) -> int:
    return await store.tasks.count(status="pending")


async def _count_from(store: TaskStore) -> int:
    return await store.tasks.count()


async def test_transactions_that_raise_leave_the_store_at_work(store: TaskStore):
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            async with store.transaction():
                raise ZeroDivisionError
        assert await store.tasks.count() == 0
