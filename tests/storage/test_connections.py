"""Connections: lent, lost, cancelled on, returned, shared with others."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import ssl
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiosqlite
import asyncpg
import pytest

from aiotaskstore import DatabaseUnavailableError, TaskStore, TaskStoreError
from aiotaskstore.outcome import EMPTY
from aiotaskstore.storage.connect import DEADLINE, connect
from aiotaskstore.storage.external_ids import Taken
from aiotaskstore.storage.faults import Conflict
from aiotaskstore.storage.migrations import migrate
from aiotaskstore.storage.operation import BEGIN, Call, Steps
from aiotaskstore.storage.sqlite.database import SqliteDatabase
from aiotaskstore.storage.table_names import TableNames
from aiotaskstore.storage.url import parse_url
from aiotaskstore.task import TaskStatus
from tests.helpers import LIMIT, connect_mysql, eventually, kept_from_writing, my_connection
from tests.storage.harness import Harness, harness_on, new_task


async def test_a_pool_survives_fifty_callers_cancelled_at_any_moment(harness: Harness):
    random_ = random.Random(7)
    for round_ in range(5):
        callers = [asyncio.ensure_future(_write_and_claim(harness, f"{round_}-{n}")) for n in range(50)]  # noqa: TID251
        while not all(caller.done() for caller in callers):
            for _ in range(random_.randrange(4)):
                await asyncio.sleep(0)
            random_.choice(callers).cancel()
        await asyncio.wait(callers)
        for caller in callers:
            assert caller.cancelled() or caller.exception() is None
    async with asyncio.timeout(LIMIT):  # as many at once as the pool has connections, and more
        async with asyncio.TaskGroup() as group:
            for n in range(20):
                group.create_task(_write_and_claim(harness, f"after-{n}"))


async def test_a_cancelled_caller_leaves_no_half_of_its_transaction(harness: Harness):
    for pause in range(12):
        first, second = new_task(), new_task()

        def both(first=first, second=second) -> Steps[None]:
            yield BEGIN
            yield from harness.tasks.insert([first])
            yield from harness.tasks.insert([second])

        caller = asyncio.ensure_future(harness.database.write(both))  # noqa: TID251
        for _ in range(pause):
            await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])
        # SQLite's thread may still be at it: the next write waits for its turn.
        await harness.add()
        statuses = {await harness.status(row.id) for row in (first, second)}
        assert len(statuses) == 1, statuses


async def test_an_operation_that_raises_is_undone_and_hurts_nobody_beside_it(harness: Harness):
    row = new_task()

    def broken() -> Steps[None]:
        yield BEGIN
        yield from harness.tasks.insert([row])
        raise LookupError("not what we thought")

    async def fail() -> None:
        with pytest.raises(LookupError):
            await harness.database.write(broken)

    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(fail())
            group.create_task(harness.add())
    assert await harness.status(row.id) is None
    assert len(await harness.claim(100)) == 5


async def test_a_statement_that_the_database_refuses_is_an_error_of_ours(harness: Harness):
    for sql in ("SELEC 1", "SELECT nonsense(1)", "INSERT INTO aiotaskstore_migrations (version) VALUES (NULL)"):
        with pytest.raises(TaskStoreError):
            await harness.sql(sql)
    assert await harness.add()


async def test_a_database_that_does_not_answer_in_time_is_unavailable(url: str):
    # What opens and migrates has time; SQLite's writer keeps the deadline that it was made with.
    storage = connect(url, deadline=3 if url.startswith("sqlite") else DEADLINE)
    await storage.database.open()
    try:
        await migrate(storage.database)
        row, usual = new_task(), storage.database.deadline
        async with kept_from_writing(url, "aiotaskstore_tasks"):
            storage.database.deadline = 0.3
            with pytest.raises(DatabaseUnavailableError):
                await storage.database.write(lambda: storage.tasks.enqueue([row]))
        storage.database.deadline = usual
        await storage.database.write(lambda: storage.tasks.enqueue([new_task()]))
        assert await storage.database.read(lambda: storage.tasks.status(row.id)) is None
    finally:
        await storage.database.close()


async def test_connections_that_the_server_closed_are_replaced(harness: Harness, url: str):
    if url.startswith("sqlite"):
        return  # no server, no connection to lose
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(harness.add())
    await _close_every_connection(url)
    for _ in range(10):
        try:
            await harness.add()
            break
        except DatabaseUnavailableError:
            continue
    else:
        pytest.fail("the pool never recovered")
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(harness.database.read(harness.tasks.pending_queues))


async def test_new_connections_need_none_of_the_event_loops_own_threads(url: str):
    """Handlers may keep all of those busy for as long as they like."""
    busy, over = threading.Event(), threading.Event()

    def work() -> None:
        busy.set()
        over.wait()

    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    working = loop.run_in_executor(None, work)
    try:
        await eventually(busy.is_set)
        storage = connect(url.replace("127.0.0.1", "localhost"), deadline=LIMIT)
        await storage.database.open()
        try:
            await migrate(storage.database)
            async with asyncio.TaskGroup() as group:
                for _ in range(5):
                    group.create_task(storage.database.write(lambda: storage.tasks.enqueue([new_task()])))
            if url.startswith("postgresql"):
                async with storage.database.listen(lambda _queues: None) as listener:
                    assert listener is not None
        finally:
            await storage.database.close()
    finally:
        over.set()
        await working


async def test_tls_to_mysql_verifies_the_name(mysql_url: str, monkeypatch: pytest.MonkeyPatch):
    async with my_connection(mysql_url) as mine:
        if (await mine.execute("SELECT @@ssl_cert"))[0][0] in {None, ""}:
            pytest.skip("this server has no TLS")
    asked: list[str | None] = []
    wrap = ssl.SSLContext.wrap_bio

    def wrap_bio(*args: Any, **options: Any) -> Any:
        asked.append(options.get("server_hostname"))
        return wrap(*args, **options)

    monkeypatch.setattr(ssl.SSLContext, "wrap_bio", wrap_bio)
    async with harness_on(mysql_url.replace("127.0.0.1", "localhost") + "?ssl=true") as harness:
        assert await harness.add()
    assert set(asked) == {"localhost"}


async def test_transactions_that_deadlock_are_started_again(harness: Harness):
    ids = sorted([await harness.add(), await harness.add()])
    first_locked = [asyncio.Event(), asyncio.Event()]

    def swap(one: int) -> Callable[[], Steps[None]]:
        def operation() -> Steps[None]:
            yield BEGIN
            yield Call("delete_tasks", {"ids": [ids[one]]})
            yield Call("delete_tasks", {"ids": [ids[1 - one]]})

        return operation

    async def run(one: int) -> None:
        first_locked[one].set()
        await first_locked[1 - one].wait()
        await harness.database.write(swap(one))

    async with asyncio.TaskGroup() as group:
        for one in (0, 1):
            group.create_task(run(one))
    assert [await harness.status(one) for one in ids] == [None, None]


async def test_operations_of_one_sqlite_store_that_wait_share_a_commit(sqlite_url: str):
    async with harness_on(sqlite_url) as harness:
        commits = 0

        def counted(statement: str) -> None:
            nonlocal commits
            commits += statement == "COMMIT"

        await harness.database.writer.thread.run(lambda: harness.database.writer.thread.raw.set_trace_callback(counted))  # type: ignore[attr-defined]
        async with asyncio.TaskGroup() as group:
            for _ in range(200):
                group.create_task(harness.add())
        assert commits < 20
        assert len(await harness.claim(1000)) == 200


async def test_two_sqlite_stores_on_one_file_wait_for_each_other_and_never_fail(sqlite_url: str):
    async with harness_on(sqlite_url) as one, harness_on(sqlite_url, one.clock) as two:

        async def work(harness: Harness, name: str) -> None:
            for n in range(25):
                claim = await harness.run_one(queue=f"{name}-{n}")
                await harness.record(claim, EMPTY)
                assert await harness.status(claim.id) is TaskStatus.SUCCEEDED

        async with asyncio.TaskGroup() as group:
            for n in range(3):
                group.create_task(work(one, f"one-{n}"))
                group.create_task(work(two, f"two-{n}"))
        assert (await one.sql("SELECT count(*) FROM aiotaskstore_history"))[0][0] == 150


async def test_a_sqlite_reader_does_not_wait_for_a_writer(sqlite_url: str):
    async with harness_on(sqlite_url) as harness:
        task_id = await harness.add()
        async with kept_from_writing(sqlite_url), asyncio.timeout(LIMIT):
            assert await harness.status(task_id) is TaskStatus.PENDING


async def test_a_sqlite_transaction_that_is_cancelled_while_it_opens_its_connection_closes_it(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
):
    opening, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    class Watched(sqlite3.Connection):
        def close(self) -> None:
            super().close()
            closed.set()

    def slow(*arguments: Any, connect: Any = sqlite3.connect, **options: Any) -> sqlite3.Connection:
        opening.set()
        go_on.wait(LIMIT)
        kept.append(connect(*arguments, factory=Watched, **options))
        return kept[0]

    async def use() -> None:
        async with database.transaction():
            pass

    kept = list[sqlite3.Connection]()
    database = SqliteDatabase(parse_url(sqlite_url), table_names=TableNames(), clock=None, deadline=LIMIT)
    await database.open()
    monkeypatch.setattr(sqlite3, "connect", slow)
    call = asyncio.get_running_loop().create_task(use())
    await eventually(opening.is_set)
    call.cancel()
    await asyncio.wait([call], timeout=LIMIT)
    assert call.cancelled()
    go_on.set()
    await eventually(closed.is_set)
    await database.close()


async def test_sqlite_rows_survive_their_store(sqlite_url: str):
    async with harness_on(sqlite_url) as harness:
        task_id = await harness.add(payload='{"a": 1}')
    async with harness_on(sqlite_url) as harness:
        assert (await harness.get(task_id)).payload == {"a": 1}


@pytest.mark.acceptance("A134")
async def test_a_memory_database_ends_with_its_store():
    for _ in range(2):
        storage = connect("sqlite://")
        await storage.database.open()
        await migrate(storage.database)
        assert await storage.database.read(storage.tasks.pending_queues) == []
        await storage.database.write(partial(storage.tasks.enqueue, [new_task()]))
        assert await storage.database.read(storage.tasks.pending_queues) == ["default"]
        await storage.database.close()


async def test_the_version_names_server_and_number(harness: Harness):
    name, _, number = (await harness.database.version()).partition(" ")
    assert name in {"PostgreSQL", "MariaDB", "MySQL", "SQLite"}
    assert number[0].isdigit()


async def test_a_query_may_hold_any_text(harness: Harness):
    for text in ("it's", 'a "b"', "50% \\ %s %(x)s", "–—…⚙🎉", ":name", "?", "$1", "a;b", "--", "/*", "\n\r\t\x1a"):
        task_id = await harness.add(queue=text[:90], payload='{"a": 1}')
        assert (await harness.get(task_id)).queue == text
        assert [claim.id for claim in await harness.claim(9, queue=text)] == [task_id]


async def test_a_caller_may_lend_its_own_connection(harness: Harness, url: str):
    before = new_task()
    if url.startswith("postgresql"):
        connection = await asyncpg.connect(url)
        try:
            transaction = connection.transaction()
            await transaction.start()
            await _enqueue_on(harness, connection, before)
            await transaction.rollback()
        finally:
            await connection.close()
    elif url.startswith("mysql"):
        connection = await connect_mysql(url)
        try:
            await _enqueue_on(harness, connection, before)
            await connection.rollback()
        finally:
            connection.close()
    else:
        async with aiosqlite.connect(urlsplit(url).path[1:]) as file:
            await _enqueue_on(harness, file, before)
            await file.rollback()
    assert await harness.status(before.id) is None


async def _enqueue_on(harness: Harness, connection: object, row) -> None:
    def store() -> Steps[Taken]:
        return (yield from harness.tasks.enqueue_mixed([row], [], frozenset(), joined=True))

    await harness.database.run_on(connection, store)
    assert await harness.database.run_on(connection, lambda: harness.tasks.status(row.id)) is TaskStatus.PENDING
    assert await harness.status(row.id) is None, "others must not see it before the commit"


async def test_a_callers_transaction_whose_connection_is_lost_ends_with_an_error_of_ours(server_url: str):
    """Also where the driver knows of the loss before the commit is sent."""

    async def loses_it() -> None:
        async with store.transaction() as connection:
            await _close_every_connection(server_url)
            if server_url.startswith("postgresql"):
                with suppress(asyncpg.InterfaceError):  # a pool's refuses even this question once it is gone
                    await eventually(connection.is_closed)

    async with TaskStore(server_url) as store:
        with pytest.raises(DatabaseUnavailableError, match="lost"):
            await loses_it()


async def _write_and_claim(harness: Harness, queue: str) -> None:
    await harness.add(queue=queue)
    await harness.claim(queue=queue)
    await harness.database.read(lambda: harness.tasks.running_of(harness.dispatcher, 10))


async def _close_every_connection(url: str) -> None:
    if url.startswith("postgresql"):
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        finally:
            await connection.close()
        return
    connection = await connect_mysql(url)
    try:
        async with connection.cursor() as cursor:
            with warnings.catch_warnings(action="ignore"):  # MySQL warns of a word that MariaDB has no other for
                await cursor.execute("SHOW FULL PROCESSLIST")
            for number, _user, _host, database, *_ in await cursor.fetchall():
                if database == urlsplit(url).path[1:] and number != connection.thread_id():
                    await cursor.execute(f"KILL {number}")
    finally:
        connection.close()


async def test_what_the_database_refuses_again_and_again_is_tried_until_the_deadline(server_url: str):
    async with harness_on(server_url) as harness:
        tries = 0

        def refused(times: int) -> Callable[[], Steps[str]]:
            def operation() -> Steps[str]:
                nonlocal tries
                yield BEGIN
                tries += 1
                if tries <= times:
                    raise Conflict("deadlock")
                return "done"

            return operation

        assert await harness.database.write(refused(10)) == "done"
        harness.database.deadline = 0.3
        with pytest.raises(DatabaseUnavailableError, match="refused the same transaction") as caught:
            await harness.database.write(refused(1_000_000))
        assert caught.value.nothing_done
