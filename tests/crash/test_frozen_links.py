"""Links over which nothing comes any more, and nobody says so, while new connections work: nothing waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from typing import Any

import aiomysql
import pytest

from aiotaskstore import DatabaseUnavailableError, TaskHandle, TaskStore
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.mysql import connections as mysql_connections
from aiotaskstore.storage.postgresql import connections
from tests.bad_input.refusals import judge, refusal_of
from tests.crash.crew import SHORT
from tests.crash.handlers import handlers
from tests.crash.journal import Journal
from tests.crash.proxy import Proxy, proxy, several_links
from tests.helpers import LIMIT, Mine, eventually, my_connection
from tests.public_api.test_lent_connections import pool_of

pytestmark = pytest.mark.crash

DEADLINE = 1.0
"""Seconds after which a link that says nothing counts as hanging, while links are frozen."""


@pytest.fixture
async def store(way: Proxy, journal: Journal) -> AsyncIterator[TaskStore]:
    opened = TaskStore(way.url, enqueue_timeout=20)
    opened.include(handlers(journal))
    async with opened:
        yield opened


@contextmanager
def frozen(way: Proxy, store: TaskStore) -> Iterator[None]:
    """Freeze the links that there are; until the end of the block, one that hangs is noticed soon."""
    with noticed_soon(store):
        assert way.freeze_all() >= 2
        yield


@contextmanager
def noticed_soon(store: TaskStore) -> Iterator[None]:
    database = store._require_open().storage.database
    usual, database.deadline = database.deadline, DEADLINE
    try:
        yield
    finally:
        database.deadline = usual


async def warm(store: TaskStore) -> None:
    """Have several connections in the pool."""
    await several_links(store, 4)


async def test_the_store_goes_on_over_new_links(way: Proxy, store: TaskStore):
    async with asyncio.timeout(LIMIT):
        await warm(store)
        with frozen(way, store):
            handle = await store.enqueue("quick", {"number": 1})
        assert await handle.status() == "pending"
        assert await store.tasks.count() == 1, "stored once"


async def test_one_frozen_link_leaves_an_enqueue_time_for_another(way: Proxy, journal: Journal):
    """Also where the database may take longer over a step than the caller waits for the whole."""
    timeout = 10

    async def late() -> None: ...

    async with AsyncExitStack() as stack, asyncio.timeout(LIMIT):
        calls: list[Callable[[TaskStore], Coroutine[Any, Any, Any]]] = [
            lambda store: store.enqueue("quick", {"number": 1}),
            lambda store: store.enqueue("quick", {"number": 1}, external_id="one"),
            lambda store: store.enqueue_many([store.draft("quick", {"number": 1})]),
            lambda store: store.enqueue("elsewhere"),
            lambda store: store.enqueue("late"),
        ]
        other = TaskStore(way.url)
        other.task(alias="elsewhere")(late)
        async with other:
            pass
        stores = [await stack.enter_async_context(TaskStore(way.url, enqueue_timeout=timeout)) for _ in calls]
        for store in stores:
            store.include(handlers(journal))
            await store.enqueue("quick", {"number": 0})
            await warm(store)
        stores[-1].task(alias="late")(late)
        assert way.freeze_all() >= 4 * len(stores)
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for call, store in zip(calls, stores, strict=True):
                group.create_task(call(store))
        assert asyncio.get_running_loop().time() - began < timeout, "within enqueue_timeout"
        assert await stores[0].tasks.count() == 2 * len(calls), "each stored once"


async def test_a_dispatcher_goes_on_over_new_links(way: Proxy, store: TaskStore):
    async with asyncio.timeout(LIMIT), store.dispatcher(**SHORT, poll_interval=0.2):
        assert await (await store.enqueue("quick", {"number": 1})).result() == 1
        with noticed_soon(store):
            for number in range(2):
                assert way.freeze_all() >= 2
                assert await (await store.enqueue("quick", {"number": number})).result() == number
                later = await store.enqueue("quick", {"number": 7}, delay=0.1)
                assert await later.result() == 7


async def test_stop_and_close_end_while_every_link_is_frozen(way: Proxy, store: TaskStore):
    dispatcher = store.dispatcher(**SHORT, poll_interval=0.2)
    async with asyncio.timeout(LIMIT):
        await dispatcher.start()
        await (await store.enqueue("quick", {"number": 1})).result()
        running = await store.enqueue("slow", {"seconds": 3600})
        await eventually(lambda: dispatcher.active)
        with frozen(way, store):
            await dispatcher.stop(grace=0)
        assert await running.status() in {"pending", "running"}
        await warm(store)
        with frozen(way, store):
            await store.close()


async def test_a_caller_who_gives_up_is_let_go(way: Proxy, store: TaskStore):
    store._require_open().storage.database.deadline = 600
    async with asyncio.timeout(LIMIT):
        for call in (store.tasks.count, store.tasks.list, lambda: store.tasks.cancel(where={"alias": "quick"})):
            await warm(store)
            way.freeze_all()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await call()
        assert await store.tasks.count() == 0


@pytest.mark.parametrize("ending", ["commit", "error", "cancelled", "timeout"])
async def test_a_transaction_of_the_applications_ends(way: Proxy, store: TaskStore, server_url: str, ending: str):
    store._transactions.limit = 1.0 if ending == "timeout" else 60

    async def work(stack: ExitStack) -> None:
        async with store.transaction() as connection:
            await Mine(server_url, connection).execute("SELECT 1")
            way.freeze_all()
            stack.enter_context(noticed_soon(store))
            if ending == "error":
                raise LookupError
            if ending in {"cancelled", "timeout"}:
                await Mine(server_url, connection).execute("SELECT 2")

    expected: dict[str, Any] = {"commit": DatabaseUnavailableError, "error": LookupError}
    async with asyncio.timeout(LIMIT):
        with pytest.raises(expected.get(ending, TimeoutError)), ExitStack() as stack:
            async with asyncio.timeout(0.5 if ending == "cancelled" else None):
                await work(stack)
        store._transactions.limit = LIMIT
        async with store.transaction():
            await store.enqueue("quick", {"number": 1})
        async with my_connection(server_url) as mine:
            assert await mine.execute("SELECT count(*) FROM aiotaskstore_tasks") == [(1,)]


async def test_what_follows_in_a_transaction_whose_link_was_lost_is_told_so(way: Proxy, store: TaskStore):
    async with asyncio.timeout(LIMIT):
        with pytest.raises(DatabaseUnavailableError):
            async with store.transaction():
                way.doom_all()
                with pytest.raises(DatabaseUnavailableError, match="lost"):
                    await store.enqueue("quick", {"number": 1})
                for call in (lambda: store.enqueue("quick", {"number": 2}), store.tasks.count):
                    error = await refusal_of(call)
                    judge(error, DatabaseUnavailableError, "its link was lost")
                    assert "using" not in str(error)
        assert await store.tasks.count() == 0


async def test_a_transaction_cannot_begin_on_a_frozen_link_but_the_next_one_can(way: Proxy, store: TaskStore):
    async with asyncio.timeout(LIMIT):
        async with store.transaction():
            pass
        way.freeze_all()
        with pytest.raises(DatabaseUnavailableError), noticed_soon(store):
            async with store.transaction():
                pytest.fail("begun")
        async with store.transaction():
            await store.enqueue("quick", {"number": 1})


@pytest.mark.parametrize("how", ["one", "external_id", "many", "by_alias"])
async def test_an_enqueue_ends_soon_after_enqueue_timeout(way: Proxy, server_url: str, journal: Journal, how: str):
    """Not after the longer time that a call to the database may take."""
    async with TaskStore(way.url, enqueue_timeout=0.5) as store, TaskStore(server_url) as direct:
        for one in (store, direct):
            one.include(handlers(journal))
        await direct.enqueue("quick", {"number": 0})
        store._require_open().storage.database.deadline = 10 * LIMIT
        drafts = [store.draft("quick", {"number": n}) for n in range(3)]
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "one": lambda: store.enqueue("quick", {"number": 1}),
            "external_id": lambda: store.enqueue("quick", {"number": 1}, external_id="one"),
            "many": lambda: store.enqueue_many(drafts),
            "by_alias": lambda: store.enqueue("elsewhere", unchecked=True),
        }
        way.freezing = True
        way.freeze_all()
        async with asyncio.timeout(LIMIT):
            error = await refusal_of(calls[how])
        assert isinstance(error, DatabaseUnavailableError)
        assert error.task_ids or error.nothing_done
        assert await direct.tasks.count() == 1
        way.freezing = False
        way.freeze_all()


async def test_an_enqueue_in_the_callers_transaction_ends(way: Proxy, journal: Journal):
    async with (
        AsyncExitStack() as stack,
        TaskStore(way.url, enqueue_timeout=3) as store,
        TaskStore(way.url) as patient,
        asyncio.timeout(LIMIT),
    ):
        for one in (store, patient):
            one.include(handlers(journal))
        mine = await stack.enter_async_context(my_connection(way.url))
        connection = mine.connection
        await mine.begin()
        for options in ({}, {"external_id": "one"}):
            await patient.using(connection).enqueue("quick", {"number": 1}, **options)  # type: ignore[arg-type]
        way.freeze_all()
        for options in ({}, {"external_id": "two"}):
            with pytest.raises(DatabaseUnavailableError), noticed_soon(store):
                await store.using(connection).enqueue("quick", {"number": 1}, **options)  # type: ignore[arg-type]
        closed = connection.closed if mine.dialect == "mysql" else connection.is_closed()
        assert closed, "it would have waited for ever"
        with noticed_soon(patient):
            assert await patient.enqueue("quick", {"number": 2})


@pytest.mark.parametrize("call", ["open", "migrate", "listen", "version"])
async def test_a_server_that_takes_connections_and_says_nothing(
    server_url: str, monkeypatch: pytest.MonkeyPatch, call: str
):
    if call == "listen" and not server_url.startswith("postgresql"):
        return  # nobody tells anything there
    async with proxy(server_url) as way, asyncio.timeout(LIMIT):
        database = connect(way.url).database
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "open": database.open,
            "migrate": TaskStore(way.url).migrate,
            "listen": lambda: database.listen(lambda _queues: None).__aenter__(),
            "version": database.version,
        }
        if call in {"listen", "version"}:
            await database.open()
        monkeypatch.setattr(connections, "CONNECT", 0.5)
        monkeypatch.setattr(mysql_connections, "CONNECT", 0.5)
        database.deadline = 0.5
        way.freezing = True
        way.freeze_all()
        with pytest.raises(DatabaseUnavailableError):
            await calls[call]()
        await database.close()


async def _enqueued(store: TaskStore, number: int) -> TaskHandle[Any]:
    """Enqueue as soon as the pool has a link that works: while others wait on all of them, it has none to give."""
    while True:
        with suppress(DatabaseUnavailableError):
            return await store.enqueue("quick", {"number": number})


async def test_a_pool_of_the_applications_is_waited_for_no_longer(way: Proxy, journal: Journal):
    pool = await pool_of(way.url, 2)
    store = TaskStore(pool, enqueue_timeout=20)
    store.include(handlers(journal))
    async with asyncio.timeout(LIMIT):
        async with store:
            await several_links(store, 2)
            with frozen(way, store):
                handle = await _enqueued(store, 1)
            dispatcher = store.dispatcher(**SHORT, poll_interval=0.2)
            await dispatcher.start()
            assert await handle.result() == 1
            with noticed_soon(store):
                assert way.freeze_all() >= 2
                assert await (await _enqueued(store, 2)).result() == 2
                assert way.freeze_all()
                await dispatcher.stop()
        pool.terminate()
        if isinstance(pool, aiomysql.Pool):
            await pool.wait_closed()  # terminate() leaves those open that nobody uses
