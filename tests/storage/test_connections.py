"""Connections: lent, lost, cancelled on, given back, shared with others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit
from uuid import UUID

import aiosqlite
import asyncpg
import pytest

from aiotaskstore import DatabaseUnavailableError, TaskStoreError
from aiotaskstore.outcome import EMPTY
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.migrations import migrate
from aiotaskstore.storage.steps import BEGIN, Call, Unit
from aiotaskstore.task import TaskStatus
from tests.helpers import connect_mysql, kept_from_writing
from tests.storage.bench import Bench, bench_on, new_task


async def test_a_pool_survives_fifty_callers_cancelled_at_any_moment(bench: Bench):
    random_ = random.Random(7)
    for round_ in range(5):
        callers = [asyncio.ensure_future(_write_and_claim(bench, f"{round_}-{n}")) for n in range(50)]  # noqa: TID251
        while not all(caller.done() for caller in callers):
            for _ in range(random_.randrange(4)):
                await asyncio.sleep(0)
            random_.choice(callers).cancel()
        await asyncio.wait(callers)
        for caller in callers:
            assert caller.cancelled() or caller.exception() is None
    async with asyncio.timeout(20):  # as many at once as the pool has connections, and more
        async with asyncio.TaskGroup() as group:
            for n in range(20):
                group.create_task(_write_and_claim(bench, f"after-{n}"))


async def test_a_cancelled_caller_leaves_no_half_of_its_transaction(bench: Bench):
    for pause in range(12):
        first, second = new_task(), new_task()

        def both(first=first, second=second) -> Unit[None]:
            yield BEGIN
            yield from bench.tasks.insert([first])
            yield from bench.tasks.insert([second])

        caller = asyncio.ensure_future(bench.database.write(both))  # noqa: TID251
        for _ in range(pause):
            await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])
        # SQLite's thread may still be at it: the next write waits for its turn.
        await bench.add()
        statuses = {await bench.status(row.id) for row in (first, second)}
        assert len(statuses) == 1, statuses


async def test_an_operation_that_raises_is_undone_and_hurts_nobody_beside_it(bench: Bench):
    row = new_task()

    def broken() -> Unit[None]:
        yield BEGIN
        yield from bench.tasks.insert([row])
        raise LookupError("not what we thought")

    async def fail() -> None:
        with pytest.raises(LookupError):
            await bench.database.write(broken)

    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(fail())
            group.create_task(bench.add())
    assert await bench.status(row.id) is None
    assert len(await bench.claim(100)) == 5


async def test_a_statement_that_the_database_refuses_is_an_error_of_ours(bench: Bench):
    for sql in ("SELEC 1", "SELECT nonsense(1)", "INSERT INTO aiotaskstore_migrations (version) VALUES (NULL)"):
        with pytest.raises(TaskStoreError):
            await bench.sql(sql)
    assert await bench.add()


async def test_a_database_that_does_not_answer_in_time_is_unavailable(url: str):
    storage = connect(url, deadline=0.3)
    await storage.database.open()
    try:
        await migrate(storage.database)
        row = new_task()
        async with kept_from_writing(url, "aiotaskstore_tasks"):
            with pytest.raises(DatabaseUnavailableError):
                await storage.database.write(lambda: storage.tasks.enqueue([row]))
        await storage.database.write(lambda: storage.tasks.enqueue([new_task()]))
        assert await storage.database.read(lambda: storage.tasks.status(row.id)) is None
    finally:
        await storage.database.close()


async def test_connections_that_the_server_closed_are_replaced(bench: Bench, url: str):
    if url.startswith("sqlite"):
        return  # no server, no connection to lose
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(bench.add())
    await _close_every_connection(url)
    for _ in range(10):
        try:
            await bench.add()
            break
        except DatabaseUnavailableError:
            continue
    else:
        pytest.fail("the pool never recovered")
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(bench.database.read(bench.tasks.pending_queues))


async def test_transactions_that_deadlock_are_started_again(bench: Bench):
    ids = sorted([await bench.add(), await bench.add()])
    first_locked = [asyncio.Event(), asyncio.Event()]

    def swap(one: int) -> Callable[[], Unit[None]]:
        def operation() -> Unit[None]:
            yield BEGIN
            yield Call("delete_tasks", {"ids": [ids[one]]})
            yield Call("delete_tasks", {"ids": [ids[1 - one]]})

        return operation

    async def run(one: int) -> None:
        first_locked[one].set()
        await first_locked[1 - one].wait()
        await bench.database.write(swap(one))

    async with asyncio.TaskGroup() as group:
        for one in (0, 1):
            group.create_task(run(one))
    assert [await bench.status(one) for one in ids] == [None, None]


async def test_operations_of_one_sqlite_store_that_wait_share_a_commit(sqlite_url: str):
    async with bench_on(sqlite_url) as bench:
        commits = 0

        def counted(statement: str) -> None:
            nonlocal commits
            commits += statement == "COMMIT"

        await bench.database.writer.hop(lambda: bench.database.writer.raw.set_trace_callback(counted))  # type: ignore[attr-defined]
        async with asyncio.TaskGroup() as group:
            for _ in range(200):
                group.create_task(bench.add())
        assert commits < 20
        assert len(await bench.claim(1000)) == 200


async def test_two_sqlite_stores_on_one_file_wait_for_each_other_and_never_fail(sqlite_url: str):
    async with bench_on(sqlite_url) as one, bench_on(sqlite_url, one.clock) as two:

        async def work(bench: Bench, name: str) -> None:
            for n in range(25):
                claim = await bench.run_one(queue=f"{name}-{n}")
                await bench.record(claim, EMPTY)
                assert await bench.status(claim.id) is TaskStatus.SUCCEEDED

        async with asyncio.TaskGroup() as group:
            for n in range(3):
                group.create_task(work(one, f"one-{n}"))
                group.create_task(work(two, f"two-{n}"))
        assert (await one.sql("SELECT count(*) FROM aiotaskstore_history"))[0][0] == 150


async def test_a_sqlite_reader_does_not_wait_for_a_writer(sqlite_url: str):
    async with bench_on(sqlite_url) as bench:
        task_id = await bench.add()
        async with kept_from_writing(sqlite_url), asyncio.timeout(10):
            assert await bench.status(task_id) is TaskStatus.PENDING


async def test_sqlite_rows_survive_their_store(sqlite_url: str):
    async with bench_on(sqlite_url) as bench:
        task_id = await bench.add(payload='{"a": 1}')
    async with bench_on(sqlite_url) as bench:
        assert (await bench.get(task_id)).payload == {"a": 1}


async def test_a_memory_database_ends_with_its_store():
    for _ in range(2):
        storage = connect("sqlite://")
        await storage.database.open()
        await migrate(storage.database)
        assert await storage.database.read(storage.tasks.pending_queues) == []
        await storage.database.write(partial(storage.tasks.enqueue, [new_task()]))
        assert await storage.database.read(storage.tasks.pending_queues) == ["default"]
        await storage.database.close()


async def test_the_version_names_server_and_number(bench: Bench):
    name, _, number = (await bench.database.version()).partition(" ")
    assert name in {"PostgreSQL", "MariaDB", "MySQL", "SQLite"}
    assert number[0].isdigit()


async def test_a_query_may_hold_any_text(bench: Bench):
    for text in ("it's", 'a "b"', "50% \\ %s %(x)s", "–—…⚙🎉", ":name", "?", "$1", "a;b", "--", "/*", "\n\r\t\x1a"):
        task_id = await bench.add(queue=text[:90], payload='{"a": 1}')
        assert (await bench.get(task_id)).queue == text
        assert [claim.id for claim in await bench.claim(9, queue=text)] == [task_id]


async def test_a_caller_may_lend_its_own_connection(bench: Bench, url: str):
    before = new_task()
    if url.startswith("postgresql"):
        connection = await asyncpg.connect(url)
        try:
            transaction = connection.transaction()
            await transaction.start()
            await _enqueue_on(bench, connection, before)
            await transaction.rollback()
        finally:
            await connection.close()
    elif url.startswith("mysql"):
        connection = await connect_mysql(url)
        try:
            await _enqueue_on(bench, connection, before)
            await connection.rollback()
        finally:
            connection.close()
    else:
        async with aiosqlite.connect(urlsplit(url).path[1:]) as file:
            await _enqueue_on(bench, file, before)
            await file.rollback()
    assert await bench.status(before.id) is None


async def _enqueue_on(bench: Bench, connection: object, row) -> None:
    def store() -> Unit[dict[UUID, UUID]]:
        return (yield from bench.tasks.enqueue_mixed([row], [], frozenset()))

    await bench.database.run_on(connection, store)
    assert await bench.database.run_on(connection, lambda: bench.tasks.status(row.id)) is TaskStatus.PENDING
    assert await bench.status(row.id) is None, "others must not see it before the commit"


async def _write_and_claim(bench: Bench, queue: str) -> None:
    await bench.add(queue=queue)
    await bench.claim(queue=queue)
    await bench.database.read(lambda: bench.tasks.running_of(bench.dispatcher, 10))


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
            await cursor.execute(
                "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
            )
            for (number,) in await cursor.fetchall():
                await cursor.execute(f"KILL {number}")
    finally:
        connection.close()
