"""A SQLite file that cannot grow, be written or be read: every caller gets an error of ours, and work goes on after."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from aiotaskstore import DatabaseUnavailableError, TaskContext, TaskFinished, TaskHandle, TaskStore, TaskStoreError
from aiotaskstore.events import BackgroundFailed
from aiotaskstore.storage.operation import BEGIN, Query, Steps
from aiotaskstore.storage.sqlite.database import SqliteDatabase
from tests.bad_input.refusals import together
from tests.helpers import LIMIT, eventually, expect
from tests.storage.harness import Harness, harness_on, new_task

PLENTY = 2**30
FILLING = "x" * 200_000
LINE = "INSERT INTO aiotaskstore_task_details (task_id, fence, line, text) VALUES (:id, 1, 1, :text)"
"""A statement of one row: where it finds no room, SQLite undoes not it but the transaction."""


async def most_pages(database: Any, pages: int | None) -> None:
    """Let the file have so many pages and no more (`None`: as many as it has): the next one is SQLITE_FULL."""
    assert isinstance(database, SqliteDatabase)

    def limit() -> None:
        raw = database.writer.thread.raw
        has = raw.execute("PRAGMA page_count").fetchone()[0]
        assert raw.execute(f"PRAGMA max_page_count = {has if pages is None else pages}").fetchone()

    await database.writer.thread.run(limit)


@asynccontextmanager
async def no_room(database: Any) -> AsyncIterator[None]:
    """Keep the file from growing while the block lasts."""
    await most_pages(database, None)
    try:
        yield
    finally:
        await most_pages(database, PLENTY)


@pytest.fixture(params=["file", "memory"])
async def disk(request: pytest.FixtureRequest, sqlite_url: str) -> AsyncIterator[Harness]:
    async with harness_on(sqlite_url if request.param == "file" else "sqlite://") as opened:
        yield opened


async def test_each_caller_of_a_batch_learns_whether_its_own_row_is_stored(disk: Harness):
    """SQLite undoes the whole transaction when it finds no room; those who did not need any are not failed for it."""
    small = [new_task() for _ in range(8)]
    large = [new_task() for _ in range(2)]
    raised: dict[Any, BaseException] = {}

    async def store(row: Any) -> None:
        def both() -> Steps[None]:
            yield BEGIN
            yield from disk.tasks.insert([row])
            if row in large:
                yield Query(LINE, {"id": row.id, "text": FILLING})

        try:
            await disk.database.write(both)
        except Exception as error:  # noqa: BLE001 - judged below
            raised[row.id] = error

    for _ in range(3):  # once settled, pages have room for small rows
        await disk.add()
    async with no_room(disk.database):
        async with asyncio.TaskGroup() as group:
            for row in [*small[:4], large[0], *small[4:], large[1]]:
                group.create_task(store(row))
        for row in large:
            assert isinstance(raised.pop(row.id), DatabaseUnavailableError)
        for row in small:
            assert (await disk.status(row.id) is not None) is (row.id not in raised)
        assert all(isinstance(error, DatabaseUnavailableError) for error in raised.values()), raised
        assert len(raised) < len(small), "a page has room for some"
    await store(large[0])
    assert await disk.status(large[0].id) == "pending"


async def test_a_statement_that_finds_no_room_undoes_its_operation_alone(disk: Harness):
    row, other = new_task(), new_task()

    def half() -> Steps[None]:
        yield BEGIN
        yield from disk.tasks.insert([row])
        yield Query(LINE, {"id": row.id, "text": FILLING})

    async with no_room(disk.database):
        with pytest.raises(DatabaseUnavailableError, match="full"):
            await disk.database.write(half)
    await disk.database.write(lambda: disk.tasks.enqueue([other]))
    assert await disk.status(row.id) is None
    assert await disk.status(other.id) == "pending"


async def test_callers_are_told_and_a_dispatcher_goes_on_once_there_is_room(sqlite_url: str):
    store = TaskStore(sqlite_url)

    @store.task
    async def work(context: TaskContext, text: str) -> str:
        context.info(FILLING)
        return text

    failures: list[BackgroundFailed] = []
    store.on(BackgroundFailed, failures.append)
    finished = [TaskFinished] * 4
    async with store, store.dispatcher(heartbeat=0.2, poll_interval=0.1) as dispatcher:
        async with expect(store, *finished, status="succeeded"):
            async with no_room(_database(store)):
                handles = [await work.enqueue("a")]
                answers = await together(*(work.enqueue(FILLING) for _ in range(3)))
                assert any(isinstance(answer, DatabaseUnavailableError) for answer in answers), answers
                handles += [answer for answer in answers if isinstance(answer, TaskHandle)]
                await eventually(lambda: any("recorder" in one.loop for one in failures))
                assert dispatcher.running
            while len(handles) < len(finished):
                handles.append(await work.enqueue("b"))
        assert dispatcher.running
        assert {str(await handle.status()) for handle in handles} == {"succeeded"}
    assert all(isinstance(failure.error, TaskStoreError) for failure in failures), failures


async def test_a_transaction_that_sqlite_has_undone_cannot_go_on_as_if_it_had_not(sqlite_url: str):
    async with TaskStore(sqlite_url) as store:

        @store.task
        async def work(n: int) -> None: ...

        async def fill(connection: Any, spare: int) -> None:
            """Enqueue until there is no room; caught, as an application might."""
            ((pages,),) = await (await connection.execute("PRAGMA page_count")).fetchall()
            await connection.execute(f"PRAGMA max_page_count = {pages + spare}")
            with pytest.raises(DatabaseUnavailableError, match="room"):
                for n in range(500):
                    await work.options(external_id=f"{n:05}" * 40).enqueue(n)
            await connection.execute(f"PRAGMA max_page_count = {PLENTY}")

        async def go_on(spare: int) -> bool:
            async with store.transaction() as connection:
                await fill(connection, spare)
                if connection.in_transaction:  # only the statement was undone
                    await connection.rollback()
                    return False
                with pytest.raises(DatabaseUnavailableError, match="undone"):
                    await work.enqueue(0)
                with pytest.raises(DatabaseUnavailableError, match="undone"):
                    await store.tasks.count()
            raise AssertionError("left as if it had been committed")

        for spare in range(50):  # at one of these the page that is missing is one of the external ids' table
            try:
                assert not await go_on(spare)
            except DatabaseUnavailableError:
                break
        else:
            raise AssertionError("nothing was undone")
        assert await store.tasks.count() == 0
        async with store.transaction():
            await work.enqueue(0)
        assert await store.tasks.count() == 1


async def test_an_operation_with_a_bug_fails_alone_and_the_writer_goes_on(disk: Harness):
    def bug(error: BaseException) -> Any:
        def operation() -> Steps[None]:
            yield BEGIN
            yield from disk.tasks.insert([new_task()])
            raise error

        return operation

    for error in (KeyError("a bug"), MemoryError(), SystemExit(3), asyncio.CancelledError(), KeyboardInterrupt()):
        good = new_task()
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
            with_it = group.create_task(disk.database.write(partial(disk.tasks.enqueue, [good])))
            with pytest.raises((TaskStoreError, type(error))):
                await disk.database.write(bug(error))
            await with_it
        assert await disk.status(good.id) == "pending"
    assert len(await disk.sql("SELECT id FROM aiotaskstore_tasks")) == 5


async def test_a_number_that_sqlite_cannot_hold_is_an_error_of_ours(disk: Harness):
    with pytest.raises(TaskStoreError):
        await disk.sql("SELECT :number", number=2**70)
    await disk.add()


async def test_what_cannot_be_written_any_more_says_so_and_can_still_be_read(sqlite_url: str):
    async with harness_on(sqlite_url) as harness:
        await harness.add()
        assert isinstance(harness.database, SqliteDatabase)
        writer = harness.database.writer.thread
        await writer.run(lambda: writer.raw.execute("PRAGMA query_only = ON"))
        with pytest.raises(DatabaseUnavailableError):
            await harness.add()
        assert len(await harness.database.read(_ids)) == 1
        await writer.run(lambda: writer.raw.execute("PRAGMA query_only = OFF"))
        await harness.add()


async def test_a_corrupt_file_is_an_error_of_ours_for_reader_and_writer(sqlite_url: str):
    path = Path(urlsplit(sqlite_url).path[1:])
    async with harness_on(sqlite_url) as harness:
        for _ in range(300):
            await harness.add(payload='"' + "y" * 3000 + '"')
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * (path.stat().st_size - 4096))
    store = TaskStore(sqlite_url)
    with pytest.raises((DatabaseUnavailableError, TaskStoreError)):
        await store.open()
        await store.close()


async def test_a_file_deleted_beneath_an_open_store_is_noticed_by_the_next_write(sqlite_url: str):
    """Without that, SQLite goes on writing into a file that no other process will ever find."""
    path = Path(urlsplit(sqlite_url).path[1:])
    async with TaskStore(sqlite_url) as store:

        @store.task
        async def work() -> None: ...

        await work.enqueue()
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
        with pytest.raises(DatabaseUnavailableError, match="deleted or replaced"):
            await work.enqueue()
        with pytest.raises(DatabaseUnavailableError, match="deleted or replaced"):
            await store.tasks.count()
        with pytest.raises(DatabaseUnavailableError, match="deleted or replaced"):
            async with store.transaction():
                raise AssertionError("entered")
    async with store:
        await work.enqueue()
        assert await store.tasks.count() == 1


def _database(store: TaskStore) -> Any:
    return store._require_open().storage.database


def _ids() -> Steps[Any]:
    return (yield Query("SELECT id FROM aiotaskstore_tasks", {}))


PROGRAM = """
import asyncio, json, resource, signal, sys
from aiotaskstore import TaskStore, TaskStoreError
url = sys.argv[1]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = TaskStore(url, payload_limit=10_000_000)

@store.task
async def work(text: str) -> int:
    return len(text)

async def main():
    said = {"ours": 0, "others": []}
    async with store:
        await work.enqueue("")
        soft = 2_000_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))
        async def one(call):
            try:
                await call
            except TaskStoreError:
                said["ours"] += 1
            except BaseException as error:
                said["others"].append(repr(error))
        async with store.dispatcher(heartbeat=0.2) as dispatcher:
            for _ in range(2):
                async with asyncio.TaskGroup() as group:
                    for _ in range(10):
                        group.create_task(one(work.enqueue("z" * 400_000)))
                await one(store.enqueue_many([work.draft("z" * 900_000) for _ in range(22)]))
            said["running"] = dispatcher.running
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            said["result"] = await (await work.enqueue("abc")).result(timeout=100)
            while await store.tasks.count(status=["pending", "running"]):
                await asyncio.sleep(0.05)
        said["failed"] = await store.tasks.count(status="failed")
        said["succeeded"] = await store.tasks.count(status="succeeded")
    print(json.dumps(said))

asyncio.run(main())
"""


def test_a_process_whose_disk_fills_for_real_goes_on_once_there_is_room(sqlite_url: str):
    """The operating system refuses the writes (EFBIG), at whatever moment they come: in a statement or in COMMIT."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, sqlite_url], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["others"] == []
    assert said["ours"]
    assert said["running"]
    assert said["result"] == 3
    assert said["failed"] == 0
    with sqlite3.connect(urlsplit(sqlite_url).path[1:]) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    file.close()
