"""How tests wait: for facts, never for time."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

import aiomysql
import aiosqlite
import asyncpg

from aiotaskstore import DatabaseUnavailableError, TaskStore
from aiotaskstore.events import Event
from aiotaskstore.mechanics.clock import Clock
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.database import Database
from aiotaskstore.storage.operation import Operation, Query, Rows, Steps, T
from aiotaskstore.task import Task

LIMIT = 120.0
"""Seconds until what a test waits for counts as not happening; no test passes because it ended early."""


def clock_of(read: Callable[[], datetime]) -> Clock:
    """Make a clock of a function: due times and heartbeats obey it."""

    class OfFunction(Clock):
        def now(self) -> datetime:
            return read()

    return OfFunction()


@asynccontextmanager
async def expect(
    store: TaskStore, *kinds: type[Event], limit: float = LIMIT, **fields: Any
) -> AsyncIterator[list[Event]]:
    """At the end of the block, wait until the store has told every kind named, as often as it is named.

    `fields` must match (`task_id=handle.id`, `status="failed"`). Gives the list of facts, in the order told.
    """
    missing = Counter(kinds)
    facts: list[Event] = []
    told = asyncio.Event()
    over = False

    def receive(event: Event) -> None:
        kind = type(event)
        if over or any(getattr(event, name, None) != value for name, value in fields.items()):
            return
        facts.append(event)
        missing[kind] -= 1
        if all(count <= 0 for count in missing.values()):
            told.set()

    for kind in missing:
        store.on(kind, receive)
    try:
        yield facts
        try:
            async with asyncio.timeout(limit):
                await told.wait()
        except TimeoutError:
            short = ", ".join(f"{kind.__name__} × {count}" for kind, count in missing.items() if count > 0)
            raise AssertionError(f"not told within {limit:g} s: {short}; told: {facts}") from None
    finally:
        over = True


async def eventually(condition: Callable[[], Awaitable[Any] | Any], limit: float = LIMIT, pause: float = 0.02) -> Any:
    """Ask until the answer is true, and give it. Only for facts of other processes, which tell this one nothing."""
    until = time.monotonic() + limit
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        if time.monotonic() > until:
            raise AssertionError(f"not so within {limit:g} s: {condition}")
        await asyncio.sleep(pause)


def lasting_heartbeats() -> list[threading.Thread]:
    """Wait for the threads that have sent heartbeats; give those that do not end."""
    until = time.monotonic() + LIMIT
    sending = [thread for thread in threading.enumerate() if thread.name == "aiotaskstore-heartbeat"]
    for thread in sending:
        thread.join(max(0.0, until - time.monotonic()))
    return [thread for thread in sending if thread.is_alive()]


def answered_within(deadline: float | None) -> None:
    """Have the stores that this process makes from now on wait so many seconds for their database."""
    if deadline is not None:
        assert connect.__kwdefaults__ is not None
        connect.__kwdefaults__["deadline"] = deadline


@contextmanager
def answers_lost(database: Database, times: int = 1) -> Iterator[None]:
    """Let the database do what it is asked `times` times, and lose its answers: the connection died in COMMIT."""
    left, write = times, database.write

    async def losing(operation: Operation[T], *, retry_held: bool = True, limit: float | None = None) -> T:
        nonlocal left
        answer = await write(operation, retry_held=retry_held, limit=limit)
        if left > 0:
            left -= 1
            raise DatabaseUnavailableError("the connection was lost before the answer came")
        return answer

    database.write = losing  # type: ignore[method-assign]
    try:
        yield
    finally:
        database.write = write  # type: ignore[method-assign]
    assert left == 0, "nothing was written, so no answer was lost"


@asynccontextmanager
async def kept_from_writing(url: str, *tables: str) -> AsyncIterator[None]:
    """Hold locks, as some other process, so that nobody can write to these tables (SQLite: to the file)."""
    dialect = url.partition(":")[0]
    if dialect == "sqlite":
        async with aiosqlite.connect(urlsplit(url).path[1:], timeout=LIMIT, isolation_level=None) as file:
            await file.execute("BEGIN IMMEDIATE")
            yield
            await file.rollback()
    elif dialect == "mysql":
        connection = await connect_mysql(url)
        try:
            async with connection.cursor() as cursor:
                await cursor.execute("LOCK TABLES " + ", ".join(f"{table} READ" for table in tables))
            yield
        finally:
            connection.close()
    else:
        server = await asyncpg.connect(url)
        try:
            async with server.transaction():
                await server.execute(f"LOCK TABLE {', '.join(tables)} IN EXCLUSIVE MODE")
                yield
        finally:
            await server.close()


async def connect_mysql(url: str, **options: Any) -> Any:
    """Open a connection of our own, as an application would."""
    parts = urlsplit(url)
    return await aiomysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""),
        db=parts.path[1:],
        **options,
    )


async def ended(store: TaskStore, ids: Iterable[UUID]) -> list[Task]:
    """Wait until all of these have finished, and give them in order."""
    return [await store.tasks.wait(task_id, timeout=LIMIT) for task_id in ids]


async def change(database: Database, text: str, **params: Any) -> Rows:
    """Run a statement that no operation has."""

    def asking() -> Steps[Rows]:
        return (yield Query(text, params))

    return await database.write(asking)


class Mine:
    """A connection of the application's own, spoken to in the same words on each database."""

    def __init__(self, url: str, connection: Any) -> None:
        self.dialect, self.connection = url.partition(":")[0], connection

    async def execute(self, sql: str) -> list[tuple[Any, ...]]:
        if self.dialect == "postgresql":
            return [tuple(row) for row in await self.connection.fetch(sql)]
        async with self.connection.cursor() as cursor:
            await cursor.execute(sql)
            return [tuple(row) for row in await cursor.fetchall()]

    async def begin(self) -> None:
        sql = {"mysql": "START TRANSACTION", "sqlite": "BEGIN IMMEDIATE"}.get(self.dialect, "BEGIN")
        await (self.connection.execute(sql) if self.dialect == "postgresql" else self.execute(sql))

    async def commit(self) -> None:
        await (self.connection.execute("COMMIT") if self.dialect == "postgresql" else self.connection.commit())

    async def rollback(self) -> None:
        await (self.connection.execute("ROLLBACK") if self.dialect == "postgresql" else self.connection.rollback())


@asynccontextmanager
async def my_connection(url: str) -> AsyncIterator[Mine]:
    """Open a connection as an application would."""
    if url.startswith("postgresql"):
        connection: Any = await asyncpg.connect(url)
        try:
            yield Mine(url, connection)
        finally:
            await connection.close()
    elif url.startswith("mysql"):
        connection = await connect_mysql(url)
        try:
            yield Mine(url, connection)
        finally:
            connection.close()
    else:
        async with aiosqlite.connect(urlsplit(url).path[1:], timeout=LIMIT) as connection:
            yield Mine(url, connection)
