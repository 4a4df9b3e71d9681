"""Everybody who writes to a SQLite file has a turn, and a heartbeat has the next one, whoever waits."""

from __future__ import annotations

import asyncio
from threading import Event

import aiosqlite
import pytest

from aiotaskstore import DatabaseUnavailableError
from aiotaskstore.storage.operation import Query, Rows, Steps
from aiotaskstore.storage.sqlite.database import SqliteDatabase
from aiotaskstore.storage.sqlite.lock_wait import lock_wait_of
from aiotaskstore.storage.table_names import TableNames
from aiotaskstore.storage.url import parse_url
from tests.helpers import LIMIT, eventually

HERE = TableNames()


class Turns:
    """A database, and who has written to it, in the order of their turns."""

    def __init__(self, url: str, deadline: float = LIMIT) -> None:
        self.database = SqliteDatabase(parse_url(url), table_names=HERE, clock=None, deadline=deadline)

    async def open(self) -> None:
        await self.database.open()
        await self.database.write(lambda: _run("CREATE TABLE turns (number INTEGER PRIMARY KEY, name TEXT)"))

    async def taken(self) -> list[str]:
        """Return who has written."""
        rows = await self.database.read(lambda: _run("SELECT name FROM turns ORDER BY number"))
        return [row[0] for row in rows]

    async def write(self, name: str) -> None:
        await self.database.write(lambda: _taken(name))

    async def transaction(self, name: str, entered: asyncio.Event, leave: asyncio.Event) -> None:
        async with self.database.transaction() as connection:
            entered.set()
            await leave.wait()
            await connection.execute(_INSERT.format(name))


_INSERT = "INSERT INTO turns (name) VALUES ('{}')"


def _run(sql: str) -> Steps[Rows]:
    return (yield Query(sql, {}))


def _taken(name: str) -> Steps[None]:
    yield Query(_INSERT.format(name), {})


async def _heartbeat(database: SqliteDatabase, name: str = "heartbeat") -> None:
    await database.write_heartbeat(lambda: _taken(name))


@pytest.fixture(params=["file", "memory"])
def either_url(request: pytest.FixtureRequest, sqlite_url: str) -> str:
    return sqlite_url if request.param == "file" else "sqlite://"


async def _enter(group: asyncio.TaskGroup, turns: Turns, name: str, leave: asyncio.Event) -> asyncio.Event:
    """Have a transaction wait for its turn, behind everybody who waits already."""
    entered = asyncio.Event()
    group.create_task(turns.transaction(name, entered, leave))
    await asyncio.sleep(0)
    return entered


async def test_after_each_transaction_the_operations_that_wait_have_their_turn_and_then_the_next_transaction(
    either_url: str,
):
    turns = Turns(either_url)
    await turns.open()
    leave = [asyncio.Event() for _ in range(3)]
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        await (await _enter(group, turns, "first", leave[0])).wait()
        group.create_task(turns.write("early"))
        await asyncio.sleep(0)
        second = await _enter(group, turns, "second", leave[1])
        await _enter(group, turns, "third", leave[2])
        group.create_task(turns.write("late"))
        await asyncio.sleep(0)
        leave[0].set()
        await second.wait()
        group.create_task(turns.write("last"))
        await asyncio.sleep(0)
        leave[1].set()
        leave[2].set()
    assert await turns.taken() == ["first", "early", "late", "second", "last", "third"]
    await turns.database.close()


@pytest.mark.parametrize("longest", [LIMIT, 0.0], ids=["in groups", "one by one"])
async def test_a_transaction_that_came_before_the_next_operations_does_not_wait_for_them(
    either_url: str, monkeypatch: pytest.MonkeyPatch, longest: float
):
    """So that operations which never cease keep no transaction out."""
    monkeypatch.setattr("aiotaskstore.storage.sqlite.commit._LONGEST", longest)
    turns = Turns(either_url)
    await turns.open()
    over, rounds, entered = asyncio.Event(), 0, asyncio.Event()
    over.set()

    async def write_again_and_again(name: str) -> None:
        nonlocal rounds
        while not entered.is_set():
            await turns.write(name)
            rounds += 1

    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(write_again_and_again(str(number)))
        await eventually(lambda: rounds > 10)
        group.create_task(turns.transaction("transaction", entered, over))
        await asyncio.sleep(0)
        before = rounds
        await entered.wait()
        assert rounds - before <= 6, "the group under way, and the one that waited already"
    await turns.database.close()


async def test_a_heartbeat_of_the_same_store_has_the_next_turn(either_url: str):
    turns = Turns(either_url)
    await turns.open()
    leave = asyncio.Event()
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        await (await _enter(group, turns, "first", leave)).wait()
        await _enter(group, turns, "second", leave)
        group.create_task(turns.write("operation"))
        await asyncio.sleep(0)
        group.create_task(_heartbeat(turns.database))
        await asyncio.sleep(0)
        leave.set()
    assert await turns.taken() == ["first", "heartbeat", "operation", "second"]
    await turns.database.close()


@pytest.mark.parametrize("held_by", ["a transaction of ours", "another connection"])
async def test_a_heartbeat_of_another_thread_has_the_next_turn(sqlite_url: str, held_by: str):
    turns, store_beside = (
        Turns(sqlite_url),
        SqliteDatabase(parse_url(sqlite_url), table_names=HERE, clock=None, deadline=LIMIT),
    )
    await turns.open()
    await store_beside.open()
    sender = turns.database.unopened_copy()
    assert sender is not None
    await sender.open()
    leave = asyncio.Event()
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        if held_by == "another connection":
            stranger = await aiosqlite.connect(turns.database.path, isolation_level=None)
            await stranger.execute("BEGIN IMMEDIATE")
        else:
            await (await _enter(group, turns, "first", leave)).wait()
        await _enter(group, turns, "second", leave)
        group.create_task(turns.write("operation"))
        group.create_task(store_beside.write(lambda: _taken("another store")))
        group.create_task(_heartbeat(sender))
        await eventually(lambda: turns.database._file.lock_wait.heartbeat_waits)
        leave.set()
        if held_by == "another connection":
            await stranger.execute(_INSERT.format("first"))
            await stranger.execute("COMMIT")
            await stranger.close()
    taken = await turns.taken()
    assert taken[:2] == ["first", "heartbeat"]
    assert sorted(taken[2:]) == ["another store", "operation", "second"]
    assert not turns.database._file.lock_wait.heartbeat_waits
    for database in (turns.database, store_beside, sender):
        await database.close()


@pytest.mark.parametrize("whose", ["the same store", "another thread"])
async def test_a_heartbeat_does_not_wait_for_all_operations_that_take_long_together(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, whose: str
):
    monkeypatch.setattr("aiotaskstore.storage.sqlite.commit._LONGEST", 0.0)
    turns, begun, sent = Turns(sqlite_url), Event(), Event()
    await turns.open()
    sender = turns.database.unopened_copy() if whose == "another thread" else turns.database
    assert sender is not None

    def slow() -> Steps[None]:
        yield from _taken("slow")
        begun.set()
        assert sent.wait(LIMIT)

    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        if sender is not turns.database:
            await sender.open()
        leave = asyncio.Event()
        await (await _enter(group, turns, "first", leave)).wait()
        group.create_task(turns.database.write(slow))
        for name in ("second", "third"):
            group.create_task(turns.write(name))
        await asyncio.sleep(0)
        leave.set()
        await eventually(begun.is_set)
        group.create_task(_heartbeat(sender))
        if sender is not turns.database:
            await eventually(lambda: turns.database._file.lock_wait.heartbeat_waits)
        await asyncio.sleep(0)
        sent.set()
    assert await turns.taken() == ["first", "slow", "heartbeat", "second", "third"]
    if sender is not turns.database:
        await sender.close()
    await turns.database.close()


async def test_no_transaction_that_waits_is_opened_before_a_heartbeat_of_another_thread(sqlite_url: str):
    turns = Turns(sqlite_url)
    await turns.open()
    sender = turns.database.unopened_copy()
    assert sender is not None
    await sender.open()
    async with asyncio.timeout(LIMIT):
        for _ in range(10):
            leave = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                await (await _enter(group, turns, "first", leave)).wait()
                await _enter(group, turns, "second", leave)
                group.create_task(_heartbeat(sender))
                await eventually(lambda: turns.database._file.lock_wait.heartbeat_waits)
                leave.set()
    assert await turns.taken() == ["first", "heartbeat", "second"] * 10
    await sender.close()
    await turns.database.close()


@pytest.mark.parametrize("moments", [((0.0, LIMIT), (LIMIT, 0.0)), ((0.0, 0.0), (0.0, LIMIT))], ids=["short", "long"])
async def test_between_long_transactions_the_lock_is_left_to_strangers_for_a_moment(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, moments: object
):
    monkeypatch.setattr("aiotaskstore.storage.sqlite.transactions._MOMENTS", moments)
    turns, leave = Turns(sqlite_url), asyncio.Event()
    await turns.open()
    async with (
        asyncio.timeout(LIMIT),
        aiosqlite.connect(turns.database.path, isolation_level=None, timeout=0) as stranger,
    ):
        async with asyncio.TaskGroup() as group:
            await (await _enter(group, turns, "first", leave)).wait()
            second = group.create_task(turns.transaction("second", asyncio.Event(), leave))
            group.create_task(turns.write("operation"))
            leave.set()
            await eventually(lambda: _is_taken(turns, "operation"))
            await stranger.execute("BEGIN IMMEDIATE")
            await stranger.execute("COMMIT")
            second.cancel()
        await turns.write("last")
    assert await turns.taken() == ["first", "operation", "last"]
    await turns.database.close()


async def _is_taken(turns: Turns, name: str) -> bool:
    return name in await turns.taken()


async def test_a_heartbeat_that_waits_in_vain_ends_with_an_error_of_ours_and_keeps_nobody_out(sqlite_url: str):
    turns = Turns(sqlite_url, deadline=0.3)
    await turns.open()
    async with asyncio.timeout(LIMIT):
        async with aiosqlite.connect(turns.database.path, isolation_level=None) as stranger:
            await stranger.execute("BEGIN IMMEDIATE")
            with pytest.raises(DatabaseUnavailableError, match="held the SQLite file's lock"):
                await _heartbeat(turns.database)
            await stranger.execute("COMMIT")
        assert not turns.database._file.lock_wait.heartbeat_waits
        await turns.write("operation")
        async with turns.database.transaction() as connection:
            await connection.execute(_INSERT.format("transaction"))
    assert await turns.taken() == ["operation", "transaction"]
    await turns.database.close()


async def test_a_forked_process_does_not_wait_for_its_parents_heartbeat(monkeypatch: pytest.MonkeyPatch):
    parents = lock_wait_of((1, 2))
    assert lock_wait_of((1, 2)) is parents
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert lock_wait_of((1, 2)) is not parents
