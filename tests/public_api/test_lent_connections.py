"""What the application does with connections that it was lent, or lends us: it never hinders our own work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import unquote, urlsplit

import aiomysql
import asyncpg
import pytest

from aiotaskstore import ConfigurationError, DatabaseUnavailableError, TaskContext, TaskStore
from tests.helpers import LIMIT, Mine, my_connection


@pytest.fixture
def url(server_url: str) -> str:
    return server_url


@pytest.fixture
async def small(url: str) -> AsyncIterator[TaskStore]:
    """A store with two connections of each kind."""
    async with TaskStore(url, pool_size=2) as opened:
        yield opened


async def pool_of(url: str, size: int) -> Any:
    if url.startswith("postgresql"):
        return await asyncpg.create_pool(url, min_size=1, max_size=size)
    parts = urlsplit(url)
    return await aiomysql.create_pool(
        host=parts.hostname, port=parts.port or 3306, user=parts.username or "root",
        password=unquote(parts.password or ""), db=parts.path[1:], minsize=1, maxsize=size,
    )  # fmt: skip


async def close(pool: Any) -> None:
    if isinstance(pool, aiomysql.Pool):
        pool.close()
        await pool.wait_closed()
    else:
        await pool.close()


async def test_open_transactions_take_no_connection_from_our_own_work(small: TaskStore):
    """As many handlers as there are connections sit in transactions, and everything else goes on."""
    inside, leave = asyncio.Semaphore(0), asyncio.Event()

    @small.task
    async def sits(context: TaskContext) -> str:
        async with small.transaction() as connection:
            inside.release()
            await leave.wait()
            assert connection
        return "done"

    @small.task
    async def quick(context: TaskContext, n: int) -> int:
        await context.progress("half", fraction=0.5)
        return n

    async with small.dispatcher(concurrency=10), asyncio.timeout(LIMIT):
        sitting = [await sits.enqueue() for _ in range(4)]
        for _ in range(2):
            await inside.acquire()
        for n in range(3):
            assert await (await quick.enqueue(n)).result() == n
            assert await (await quick.options(delay=0.05).enqueue(n)).result() == n
            assert await small.tasks.count(status="running") == 4
        leave.set()
        for handle in sitting:
            assert await handle.result() == "done"


async def test_a_transaction_that_would_wait_for_its_own_caller_is_refused_at_once(small: TaskStore):
    async with asyncio.timeout(LIMIT):
        async with small.transaction(), small.transaction():
            with pytest.raises(ConfigurationError, match="inside 2 others"):
                async with small.transaction():
                    pytest.fail("begun")
        async with small.transaction(), small.transaction():
            pass


async def test_so_is_one_of_many_that_wait_for_each_other(small: TaskStore):
    both_inside = asyncio.Barrier(2)

    async def nest() -> str:
        async with small.transaction():
            await both_inside.wait()
            try:
                async with small.transaction():
                    return "went on"
            except ConfigurationError:
                return "refused"

    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        calls = [group.create_task(nest()) for _ in range(2)]
    assert sorted(call.result() for call in calls) == ["refused", "went on"]


async def test_a_transaction_waits_for_another_to_end_and_no_longer_than_its_timeout(url: str):
    async with TaskStore(url, pool_size=1, transaction_timeout=LIMIT) as store, AsyncExitStack() as stack:

        async def wait() -> None:
            async with store.transaction():
                pass

        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group, store.transaction():
            waiting = group.create_task(wait())
            await asyncio.sleep(0.05)
            assert not waiting.done()
        await stack.enter_async_context(_in_another_task(store))
        store._transactions.limit = 0.4
        with pytest.raises(TimeoutError, match=r"No transaction could be begun within transaction_timeout \(0\.4 s\)"):
            await wait()


CHANGES = [
    "SET search_path TO pg_catalog",
    "SET ROLE aiotaskstore_nobody",
    "SET SESSION AUTHORIZATION aiotaskstore_nobody",
    "SET statement_timeout = 1",
    "SET default_transaction_read_only = on",
    "SET TimeZone = 'Asia/Kathmandu'",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET enable_bitmapscan = on",
    "SELECT pg_advisory_lock(42)",
    "LISTEN something",
    "PREPARE mine AS SELECT 1",
    "CREATE TEMP TABLE aiotaskstore_tasks (id int)",
    "DECLARE mine CURSOR WITH HOLD FOR SELECT 1",
]
STATE = """
SELECT current_setting('search_path'), current_user::text, session_user::text, current_setting('statement_timeout'),
    current_setting('default_transaction_read_only'), current_setting('TimeZone'),
    current_setting('transaction_isolation'), current_setting('enable_bitmapscan'), current_setting('plan_cache_mode'),
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
    (SELECT count(*) FROM pg_listening_channels()),
    (SELECT count(*) FROM pg_prepared_statements WHERE from_sql), (SELECT count(*) FROM pg_cursors WHERE is_holdable),
    (SELECT count(*) FROM pg_class WHERE relpersistence = 't')
"""


@pytest.mark.parametrize("change", CHANGES)
async def test_what_a_transaction_does_to_its_session_ends_with_it(postgresql_url: str, change: str):
    async with TaskStore(postgresql_url, pool_size=1) as store:

        @store.task
        async def work() -> None: ...

        async with store.transaction() as connection:
            await connection.execute(
                "DO $$ BEGIN CREATE ROLE aiotaskstore_nobody; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
            )
        async with store.transaction() as connection:
            before = await connection.fetchrow(STATE)
        async with store.transaction() as connection:
            await connection.execute(change)
        await work.enqueue()
        async with store.transaction() as connection:
            await work.enqueue()
            assert tuple(await connection.fetchrow(STATE)) == tuple(before)
        assert await store.tasks.count() == 2


MYSQL_CHANGES = [
    "USE information_schema",
    "SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
    "SET SESSION time_zone = '+05:45'",
    "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET SESSION TRANSACTION READ ONLY",
    "SET autocommit = 0",
    "SET NAMES latin1",
    "SET SESSION innodb_lock_wait_timeout = 1",
    "SET @mine = 1",
    "SELECT GET_LOCK('mine', 1)",
    "LOCK TABLES aiotaskstore_tasks READ",
    "CREATE TEMPORARY TABLE aiotaskstore_tasks (id INT)",
    "PREPARE mine FROM 'SELECT 1'",
]
MYSQL_STATE = """
SELECT DATABASE(), @@sql_mode, @@time_zone, @@autocommit, @@character_set_client, @@collation_connection,
    @@innodb_lock_wait_timeout, @@sql_notes, @mine, COALESCE(IS_USED_LOCK('mine') = CONNECTION_ID(), 0),
    (SELECT count(*) FROM aiotaskstore_tasks WHERE queue = '')
"""


@pytest.mark.parametrize("change", MYSQL_CHANGES)
async def test_what_a_transaction_does_to_its_session_on_mysql_ends_with_it(mysql_url: str, change: str):
    async with TaskStore(mysql_url, pool_size=1) as store:

        @store.task
        async def work() -> None: ...

        async with store.transaction() as connection:
            before = await Mine(mysql_url, connection).execute(MYSQL_STATE)
        async with store.transaction() as connection:
            await Mine(mysql_url, connection).execute(change)
        await work.enqueue()
        async with store.transaction() as connection:
            await work.enqueue()
            assert await Mine(mysql_url, connection).execute(MYSQL_STATE) == before
            with pytest.raises(aiomysql.Error):
                await Mine(mysql_url, connection).execute("EXECUTE mine")
        assert await store.tasks.count() == 2


async def test_a_pool_of_the_applications_gets_no_changed_session_back(mysql_url: str):
    pool = await pool_of(mysql_url, 2)
    async with TaskStore(pool) as store, asyncio.timeout(LIMIT):

        @store.task
        async def work() -> None: ...

        async with store.transaction() as connection:
            await Mine(mysql_url, connection).execute("USE information_schema")
        for _ in range(4):
            await work.enqueue()
    await close(pool)


async def test_the_application_gets_the_connection_that_a_transaction_gives_back(url: str):
    pool = await pool_of(url, 2)
    inside, leave = asyncio.Event(), asyncio.Event()

    async def hold(store: TaskStore) -> None:
        async with store.transaction():
            inside.set()
            await leave.wait()

    async def want() -> None:
        async with pool.acquire():
            pass

    async with TaskStore(pool) as store, asyncio.timeout(LIMIT), asyncio.TaskGroup() as group, pool.acquire():
        group.create_task(hold(store))
        await inside.wait()
        wanting = group.create_task(want())
        await asyncio.sleep(0.05)
        assert not wanting.done()
        leave.set()
        await wanting
    await close(pool)


async def test_listeners_and_codecs_of_a_transaction_end_with_it(postgresql_url: str):
    async with TaskStore(postgresql_url, pool_size=1) as store:

        @store.task
        async def work(n: int) -> None: ...

        received: list[object] = []
        async with store.transaction() as connection:
            await connection.set_type_codec(
                "json", encoder=lambda _value: "null", decoder=lambda _text: "mine", schema="pg_catalog"
            )
            await connection.add_listener("something", lambda *told: received.append(told))
        async with store.transaction() as connection:
            handle = await work.enqueue(7)
            assert (await handle.task()).payload == {"n": 7}
            await connection.execute("SELECT pg_notify('something', '')")
        assert received == []


@pytest.fixture(params=[1, 2])
async def pool(request: pytest.FixtureRequest, url: str) -> AsyncIterator[Any]:
    """A pool of the application's own, as small as it can be."""
    opened = await pool_of(url, request.param)
    yield opened
    await close(opened)


async def test_a_small_pool_of_the_applications_is_enough(pool: Any):
    async with TaskStore(pool) as store, asyncio.timeout(LIMIT):

        @store.task
        async def work(n: int) -> int:
            return n

        async with store.dispatcher(poll_interval=0.1):
            handles = [await work.enqueue(n) for n in range(5)]
            assert [await handle.result() for handle in handles] == [0, 1, 2, 3, 4]


async def test_a_transaction_needs_a_connection_beside_ours(pool: Any):
    async with TaskStore(pool) as store, asyncio.timeout(LIMIT):

        @store.task
        async def work(n: int) -> int:
            return n

        if (pool.maxsize if isinstance(pool, aiomysql.Pool) else pool.get_max_size()) == 1:
            with pytest.raises(ConfigurationError, match="size=2"):
                await store.transaction().__aenter__()
            return
        async with store.dispatcher(poll_interval=0.1):
            async with store.transaction():
                handle = await work.enqueue(7)
                assert await store.tasks.count() == 1
            assert await handle.result() == 7


@pytest.mark.parametrize("how", ["one", "many"])
async def test_an_enqueue_in_the_callers_transaction_waits_no_longer_than_its_timeout(url: str, how: str):
    """Another open transaction holds its external id; the caller's own stays usable."""
    async with (
        TaskStore(url) as patient,  # for what must succeed, however slow the machine is
        TaskStore(url, enqueue_timeout=0.3) as store,
        my_connection(url) as other,
        my_connection(url) as mine,
    ):

        @store.task
        async def work(n: int) -> None: ...

        keyed = work.options(external_id="one")
        await mine.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        await other.begin()
        await patient.using(other.connection).enqueue("work", {"n": 1}, external_id="one", unchecked=True)
        await mine.begin()
        await mine.execute("INSERT INTO orders (id) VALUES (1)")
        async with asyncio.timeout(LIMIT):
            with pytest.raises(DatabaseUnavailableError, match="enqueue_timeout"):
                if how == "one":
                    await keyed.using(mine.connection).enqueue(2)
                else:
                    await store.using(mine.connection).enqueue_many([work.draft(3), keyed.draft(2)])
            await patient.using(mine.connection).enqueue("work", {"n": 4}, unchecked=True)
            await mine.execute("INSERT INTO orders (id) VALUES (2)")
            await mine.commit()
        await other.rollback()
        assert [task.payload for task in await store.tasks.list()] == [{"n": 4}]
        assert await mine.execute("SELECT count(*) FROM orders") == [(2,)]
        await mine.rollback() if mine.dialect != "postgresql" else None


class _in_another_task:  # noqa: N801 - reads as a word
    """Hold a transaction open in a task of its own."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self._inside, self._leave = asyncio.Event(), asyncio.Event()

    async def __aenter__(self) -> None:
        async def hold() -> None:
            async with self._store.transaction():
                self._inside.set()
                await self._leave.wait()

        self._task = asyncio.ensure_future(hold())  # noqa: TID251
        await self._inside.wait()

    async def __aexit__(self, *_error: object) -> None:
        self._leave.set()
        await self._task
