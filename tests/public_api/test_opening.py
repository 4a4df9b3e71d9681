"""A store: made without a database, opened, closed, opened again, on a pool of the application's."""

from __future__ import annotations

import asyncio
import threading

import aiomysql
import asyncpg
import pytest

from aiotaskstore import ConfigurationError, Queue, TaskContext, TaskHandler, TaskStore
from tests.helpers import LIMIT


def test_importing_and_constructing_touch_no_loop_and_no_database():
    for url in ("postgresql://nobody@nowhere/none", "mysql://nobody@nowhere/none", "sqlite:////no/where/at.all"):
        store = TaskStore(url)

        @store.task
        async def work() -> None: ...

        assert not store.is_open
        assert [one.alias for one in store.handlers] == ["work"]


async def test_a_store_does_not_open_for_a_handler_with_a_type_that_cannot_be_found(url: str):
    store = TaskStore(url)

    @store.task
    async def work(value: NotThere) -> None: ...  # type: ignore[name-defined] # noqa: F821 - the point

    with pytest.raises(ConfigurationError, match=r'handler "work".*NotThere.*Import the type at run time'):
        await store.open()
    assert not store.is_open


async def test_a_handler_with_a_type_that_cannot_be_found_is_not_registered(store: TaskStore):
    class Work(TaskHandler):
        async def handle(self, context: TaskContext, value: NotThere) -> None:  # type: ignore[name-defined] # noqa: F821
            raise NotImplementedError

    with pytest.raises(ConfigurationError, match=r'handler "Work".*NotThere.*Import the type at run time'):
        await store.register(Work(), create_if_missing=True)
    assert store.handlers == []
    assert await store.definitions.count() == 0


async def test_a_store_is_open_inside_its_block_and_may_be_opened_again(url: str):
    store = TaskStore(url)

    @store.task
    async def work(n: int) -> int:
        return n

    for n in range(3):
        async with store:
            assert store.is_open
            handle = await work.enqueue(n)
            assert await store.dispatcher().run_once() == 1
            assert await handle.result() == n
        assert not store.is_open
    async with store:
        assert await store.tasks.count() == 3


def test_a_store_may_be_opened_again_on_another_loop(url: str):
    store = TaskStore(url)

    @store.task
    async def work(n: int) -> int:
        return n

    async def use(n: int) -> int:
        async with store:
            async with asyncio.TaskGroup() as group:  # contended, so that what waits binds to this loop
                for _ in range(3):
                    group.create_task(store.open())
                    group.create_task(work.enqueue(n))
            async with store.dispatcher():
                return await (await work.enqueue(n)).result(timeout=LIMIT)

    assert [asyncio.run(use(n)) for n in range(3)] == [0, 1, 2]


async def test_opening_and_closing_twice_or_at_once_does_it_once(url: str):
    store = TaskStore(url)
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(store.open())
    assert await store.tasks.count() == 0
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(store.close())
    assert not store.is_open


async def test_an_opening_that_is_cancelled_leaves_nothing_open(url: str):
    before = set(threading.enumerate())
    for turns in range(40):
        store = TaskStore(url)
        opening = asyncio.ensure_future(store.open())  # noqa: TID251
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait([opening])
        if not opening.cancelled():
            assert opening.exception() is None
            await store.close()
        assert not store.is_open
        async with asyncio.timeout(LIMIT), store:
            assert await store.tasks.count() == 0
    await asyncio.to_thread(_until_gone, before)


def _until_gone(before: set[threading.Thread]) -> None:
    """Wait for threads that are ending; the pool that this very thread is in stays."""
    for thread in set(threading.enumerate()) - before - {threading.current_thread()}:
        if thread.name.startswith("aiotaskstore"):
            thread.join(LIMIT)
            assert not thread.is_alive(), thread.name


@pytest.mark.acceptance("A01")
async def test_from_env_reads_our_variable_before_the_common_one(monkeypatch: pytest.MonkeyPatch, sqlite_url: str):
    monkeypatch.delenv("AIOTASKSTORE_URL", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(ConfigurationError, match="AIOTASKSTORE_URL"):
        TaskStore.from_env()
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    async with TaskStore.from_env(prefix="jobs_") as store:
        assert "jobs_tasks" in store.ddl()
    monkeypatch.setenv("AIOTASKSTORE_URL", "postgresql://nobody@nowhere/none")
    assert "uuid PRIMARY KEY" in TaskStore.from_env().ddl()


@pytest.mark.parametrize("driver", ["", "+asyncpg", "+aiomysql", "+asyncmy", "+aiosqlite"])
async def test_sqlalchemys_spelling_of_a_url_is_taken(url: str, driver: str):
    dialect, _, rest = url.partition("://")
    fits = {"postgresql": ("", "+asyncpg"), "mysql": ("", "+aiomysql", "+asyncmy"), "sqlite": ("", "+aiosqlite")}
    if driver not in fits[dialect]:
        with pytest.raises(ConfigurationError, match="driver"):
            TaskStore(f"{dialect}{driver}://{rest}")
        return
    async with TaskStore(f"{dialect}{driver}://{rest}") as store:
        assert await store.tasks.count() == 0


async def test_the_older_names_of_the_databases_are_taken(postgresql_url: str, mysql_url: str):
    for url in (postgresql_url.replace("postgresql://", "postgres://"), mysql_url.replace("mysql://", "mariadb://")):
        async with TaskStore(url) as store:
            assert await store.tasks.count() == 0


async def test_a_relative_sqlite_path_is_relative(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    async with TaskStore("sqlite:///tasks.db"):
        assert (tmp_path / "tasks.db").exists()


async def test_a_pool_of_the_applications_is_used_and_left_open(postgresql_url: str, mysql_url: str):
    host = mysql_url.rpartition("@")[2].partition("/")[0].partition(":")
    mysql = await aiomysql.create_pool(
        host=host[0], port=int(host[2] or 3306), user="root", db=mysql_url.rpartition("/")[2], maxsize=4
    )
    postgresql = await asyncpg.create_pool(postgresql_url, min_size=1, max_size=4)
    try:
        for pool in (postgresql, mysql):
            store = TaskStore(pool)

            @store.task
            async def work(n: int) -> int:
                return n

            for n in range(2):
                async with store, store.dispatcher():
                    assert await (await work.enqueue(n)).result(timeout=LIMIT) == n
        assert await postgresql.fetchval("SELECT 1") == 1
        async with mysql.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute("SELECT @@autocommit")
            assert (await cursor.fetchone())[0] == 0, "as the application had set it"
    finally:
        mysql.close()
        await mysql.wait_closed()
        await postgresql.close()


async def test_a_pool_with_one_connection_is_enough(url: str):
    store = TaskStore(url, pool_size=1)

    @store.task
    async def work(n: int) -> int:
        return n

    async with store, store.dispatcher(), asyncio.timeout(LIMIT):
        handles = [await work.enqueue(n) for n in range(5)]
        assert [await handle.result() for handle in handles] == list(range(5))


async def test_two_stores_with_their_own_prefix_run_their_own_tasks(url: str):
    one, two = TaskStore(url, prefix="one_"), TaskStore(url, prefix="two_")

    async def work() -> None: ...

    first, _ = one.task(work), two.task(work)
    async with one, two:
        await one.enqueue(first.alias)
        assert await two.dispatcher().run_once() == 0
        assert await one.dispatcher().run_once() == 1


async def test_what_is_asked_of_a_closed_store_says_so(url: str):
    store = TaskStore(url)

    @store.task
    async def work() -> None: ...

    for ask in (
        work.enqueue,
        store.tasks.count,
        store.tasks.list,
        store.notify,
        lambda: store.enqueue("work"),
        lambda: store.enqueue_many([work.draft()]),
        lambda: store.handle("01909b6e-7c6e-7d05-bcd5-7c2a3c9f0d3a").status(),
        lambda: store.transaction().__aenter__(),
    ):
        with pytest.raises(ConfigurationError, match="closed"):
            await ask()
    with pytest.raises(ConfigurationError, match="closed"):
        store.enqueue_soon(work.draft())


@pytest.mark.parametrize(
    "options",
    [
        {"pool_size": 0}, {"payload_limit": 0}, {"wait_interval": 0}, {"enqueue_timeout": -1},
        {"transaction_timeout": 0}, {"prefix": "no good"}, {"schema": "public"}, {"queues": [Queue("a"), 3]},
    ],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_an_option_that_cannot_work_is_refused_when_the_store_is_made(options):
    with pytest.raises(ConfigurationError):
        TaskStore("sqlite://", **options)
