"""SQLite: whole operations in one hop to a writer thread, which commits what waits in one transaction."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import aiosqlite

from aiotaskstore.errors import (
    ConfigurationError,
    DatabaseUnavailableError,
    NotInTransactionError,
    TaskStoreError,
)
from aiotaskstore.storage.database import Conflict, Database, Ear, Hint, Session, TestClock
from aiotaskstore.storage.sqlite.line import Line, Thread
from aiotaskstore.storage.sqlite.trouble import patiently, translated
from aiotaskstore.storage.sqlite.watch import FileEar
from aiotaskstore.storage.statements import Naming, Spelling, Statement, Statements
from aiotaskstore.storage.steps import Batch, Begin, Operation, Query, Rows, Step, T, Unit
from aiotaskstore.storage.url import DatabaseURL

_sql = logging.getLogger("aiotaskstore.sql")

OLDEST = (3, 35, 0)
"""The first with RETURNING."""
_BUSY_SLICE_MS = 250
"""How long SQLite itself waits for the write lock before we look at our own deadline."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AT_ONCE = 50
"""Rows that one statement takes: more would be little faster, and each number of rows is a text of its own."""
_NATIVE = frozenset({int, float, str, bool, type(None)})
"""Types whose values SQLite takes as they are."""
_NOW = "(CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER) * 1000)"
"""Microseconds since 1970, exact to the millisecond; one value for a whole statement."""


class JoinedSession(Session):
    """The caller's aiosqlite connection, statement by statement; a savepoint stands for our transaction."""

    def __init__(self, database: SqliteDatabase, connection: aiosqlite.Connection) -> None:
        self._database, self._connection = database, connection

    async def begin(self) -> None:
        if not self._connection.in_transaction:
            # The connection opens its transactions by itself; without one, RELEASE would commit.
            await self._plain("BEGIN IMMEDIATE")
        await self._plain("SAVEPOINT aiotaskstore")

    async def commit(self) -> None:
        await self._plain("RELEASE aiotaskstore")

    async def rollback(self) -> None:
        with suppress(TaskStoreError):
            await self._plain("ROLLBACK TO aiotaskstore")
            await self._plain("RELEASE aiotaskstore")

    async def run(self, step: Step) -> Rows:
        if isinstance(step, Batch):
            with translated():
                for sql, rows in self._database.bind_batch(step):
                    await self._connection.executemany(sql, rows)
            return ()
        return await self._plain(*self._database.bind(step))

    async def script(self, sql: str) -> None:
        await self._plain(sql)

    async def _plain(self, sql: str, arguments: tuple[Any, ...] = ()) -> Rows:
        _sql.debug("%s", sql)
        with translated():
            cursor = await self._connection.cursor()
            cursor.row_factory = None
            try:
                await cursor.execute(sql, arguments)
                return list(await cursor.fetchall())
            finally:
                await cursor.close()


class ThreadSession(Session):
    """Our own writer, step by step, outside any batch: for migrations."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database, self._writer = database, database.writer

    async def begin(self) -> None:
        await self._writer.hop(self._database.begin_immediate)

    async def commit(self) -> None:
        await self.script("COMMIT")

    async def rollback(self) -> None:
        await self.script("ROLLBACK")

    async def run(self, step: Step) -> Rows:
        return await self._writer.hop(partial(self._database.run, self._writer.raw, step))

    async def script(self, sql: str) -> None:
        """Run one statement of a migration."""
        _sql.debug("%s", sql)

        def work() -> None:
            with translated():
                self._writer.raw.execute(sql)

        await self._writer.hop(work)


class SqliteDatabase(Database):
    """A file, or the memory of this process."""

    kind: ClassVar[str] = "sqlite"
    joins: ClassVar[str] = "an aiosqlite connection"
    waking: ClassVar[str] = "data_version"
    no_limit: ClassVar[str] = " LIMIT -1"

    def __init__(self, target: DatabaseURL, *, naming: Naming, clock: TestClock | None, deadline: float) -> None:
        super().__init__(naming=naming, clock=clock, deadline=deadline)
        if naming.schema:
            raise ConfigurationError("schema= is for PostgreSQL; a SQLite file is its own schema.")
        if sqlite3.sqlite_version_info < OLDEST:
            raise ConfigurationError(f"SQLite 3.35 or newer is needed, and this Python has {sqlite3.sqlite_version}.")
        self._url = target
        self.path: str = target.path
        self.shared_memory: bool = self.path == ":memory:"
        self.writer: Thread = Thread("writer", partial(self._connect, write=True))
        self._reader = self.writer if self.shared_memory else Thread("reader", partial(self._connect, write=False))
        self._line = Line(self._commit)
        self._memory: aiosqlite.Connection | None = None

    def load(self) -> Statements:
        return Statements(
            self.kind,
            self.naming,
            Spelling(now=None if self.clock else _NOW, later=lambda x: f"(:now + CAST(({x}) * 1000000 AS INTEGER))"),
        )

    async def open(self) -> None:
        await self.writer.open()
        try:
            if self._reader is not self.writer:
                await self._reader.open()
            else:
                self._memory = await aiosqlite.Connection(lambda: self.writer.raw, iter_chunk_size=64)
        except BaseException:
            await self.writer.close()
            raise
        self._line.open(self.writer)

    async def close(self) -> None:
        self._line.close()
        async with self._line.alone():
            if self._memory is not None:
                await self._memory.close()
            else:
                await self._reader.close()
            await self.writer.close()

    async def version(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        async with self._line.alone():
            yield ThreadSession(self)

    async def read(self, operation: Operation[T]) -> T:
        if self.shared_memory:
            return await self.write(operation)
        return await self._reader.hop(partial(self._look, operation))

    async def write(self, operation: Operation[T]) -> T:
        """Hand the operation to the writer; what waits while it commits goes together in the next commit."""
        return await self._line.enter(operation)

    def borrow(self, connection: Any) -> JoinedSession:
        if not isinstance(connection, aiosqlite.Connection):
            raise ConfigurationError(
                f"This store is on SQLite: .using() takes {self.joins}, not {type(connection).__name__}."
            )
        try:
            open_or_opens_one = connection.in_transaction or connection.isolation_level is not None
        except ValueError as error:
            raise DatabaseUnavailableError("The aiosqlite connection given to .using() is closed.") from error
        if not open_or_opens_one:
            raise NotInTransactionError("aiosqlite", 'await connection.execute("BEGIN IMMEDIATE")')
        return JoinedSession(self, connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        async with self._line.alone(), self._lent() as connection:
            await self._begin(connection)
            try:
                yield connection
            except BaseException:
                if connection.in_transaction:
                    await connection.rollback()
                raise
            with translated():
                await connection.commit()

    async def migrate_on(self, work: Any) -> None:
        """One transaction: whoever comes second finds the work done."""
        async with self.session() as session:
            await session.begin()
            try:
                await work(session)
            except BaseException:
                await session.rollback()
                raise
            await session.commit()

    def instant(self, value: Any) -> datetime:
        return _EPOCH + timedelta(microseconds=int(value))

    def twin(self) -> SqliteDatabase | None:
        if self.shared_memory:
            return None
        return SqliteDatabase(self._url, naming=self.naming, clock=self.clock, deadline=self.deadline)

    @asynccontextmanager
    async def listen(self, hint: Hint) -> AsyncIterator[Ear | None]:
        if self.shared_memory:
            yield None
            return
        loop = asyncio.get_running_loop()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop has just been closed: nobody is left to hear
                loop.call_soon_threadsafe(hint, frozenset())

        ear = FileEar(self.path, tell)
        try:
            yield ear
        finally:
            ear.close()

    def begin_immediate(self) -> None:
        """Take the file's write lock, however many processes want it; in the writer's thread."""
        patiently(partial(self.writer.raw.execute, "BEGIN IMMEDIATE"), self.deadline)

    def run(self, raw: sqlite3.Connection, step: Step) -> Rows:
        """Run one step in the thread that owns `raw`; every row is read, since an open cursor blocks COMMIT."""
        with translated():
            if isinstance(step, Batch):
                for sql, rows in self.bind_batch(step):
                    raw.executemany(sql, rows)
                return ()
            return raw.execute(*self.bind(step)).fetchall()

    def bind(self, step: Step) -> tuple[str, tuple[Any, ...]]:
        """Write a step as SQLite takes it: `?` for single values, lists spelled out."""
        assert not isinstance(step, Begin | Batch)  # noqa: S101 - they have ways of their own
        if isinstance(step, Query):
            statement = self.statements.compile("query", step.sql)
        else:
            statement = self.statements[step.name]
        arguments: list[Any] = []
        parts = [statement.pieces[0]]
        for name, after in zip(statement.names, statement.pieces[1:], strict=True):
            value = self._now() if name == "now" and name not in step.params else step.params[name]
            parts += (_place(value, arguments), after)
        sql = "".join(parts)
        _sql.debug("%s", sql)
        return sql, tuple(arguments)

    def bind_batch(self, step: Batch) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
        """Write a batch for `executemany`: row by row, or many at once for a statement that takes `:rows`."""
        statement = self.statements[step.name]
        _sql.debug("%s × %d", ":".join(statement.pieces), len(step.rows))
        columns = [_plain_column(values) for values in zip(*step.rows, strict=True)]
        if "rows" not in statement.names:
            places = [step.fields.index(name) for name in statement.names if name in step.fields]
            rows = list(zip(*(columns[place] for place in places), strict=True))
            yield self._text(statement, dict.fromkeys(step.fields, "?")), rows
            return
        rows, row = list(zip(*columns, strict=True)), f"({', '.join('?' * len(columns))})"
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            sql = self._text(statement, {"rows": ", ".join([row] * len(some))})
            yield sql, [tuple(chain.from_iterable(some))]

    def _text(self, statement: Statement, places: dict[str, str]) -> str:
        parts = [statement.pieces[0]]
        for name, after in zip(statement.names, statement.pieces[1:], strict=True):
            parts += (places[name] if name in places else str(_plain(self._now())), after)
        return "".join(parts)

    def _commit(self, operations: list[Operation[Any]]) -> list[tuple[Any, BaseException | None]]:
        """Run operations in one transaction; one that fails is undone alone. In the writer's thread."""
        raw = self.writer.raw
        self.begin_immediate()
        try:
            answers = [self._apart(raw, operation) for operation in operations]
            with translated():
                raw.execute("COMMIT")
        except BaseException:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raise
        return answers

    def _apart(self, raw: sqlite3.Connection, operation: Operation[Any]) -> tuple[Any, BaseException | None]:
        raw.execute("SAVEPOINT operation")
        try:
            answer = self._walk(raw, operation())
        except Exception as error:  # noqa: BLE001 - handed to whoever asked for the operation
            raw.execute("ROLLBACK TO operation")
            raw.execute("RELEASE operation")
            return None, error
        raw.execute("RELEASE operation")
        return answer, None

    def _look(self, operation: Operation[T]) -> T:
        """Run an operation that only reads, on one snapshot. In the reader's thread."""
        raw = self._reader.raw
        raw.execute("BEGIN")
        try:
            return self._walk(raw, operation())
        finally:
            raw.execute("COMMIT")

    def _walk(self, raw: sqlite3.Connection, unit: Unit[T]) -> T:
        try:
            step = next(unit)
            while True:
                step = unit.send(() if isinstance(step, Begin) else self.run(raw, step))
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _connect(self, *, write: bool) -> sqlite3.Connection:
        """Open the file as we want it; in the thread that will use it."""
        if not self.shared_memory and not Path(self.path).absolute().parent.is_dir():
            raise DatabaseUnavailableError(
                f"SQLite cannot open {self.path}: the folder {Path(self.path).absolute().parent} does not exist."
            )
        with translated():
            raw = sqlite3.connect(self.path, isolation_level=None, check_same_thread=not self.shared_memory, timeout=0)
            try:
                patiently(partial(_prepare, raw, write=write), self.deadline)
            except BaseException:
                raw.close()
                raise
        return raw

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[aiosqlite.Connection]:
        if self._memory is not None:
            yield self._memory
            return
        with translated():
            connection = await aiosqlite.connect(self.path, isolation_level=None, timeout=_BUSY_SLICE_MS / 1000)
        try:
            await connection.execute("PRAGMA foreign_keys = ON")
            yield connection
        finally:
            await connection.close()

    async def _begin(self, connection: aiosqlite.Connection) -> None:
        until = time.monotonic() + self.deadline
        while True:
            try:
                with translated():
                    await connection.execute("BEGIN IMMEDIATE")
            except Conflict as conflict:
                if time.monotonic() > until:
                    raise DatabaseUnavailableError(str(conflict)) from conflict
            else:
                return

    def _now(self) -> datetime:
        assert self.clock is not None  # noqa: S101 - without one, :now is SQLite's
        return self.clock()


def _prepare(raw: sqlite3.Connection, *, write: bool) -> None:
    raw.execute(f"PRAGMA busy_timeout = {_BUSY_SLICE_MS}")
    raw.execute("PRAGMA foreign_keys = ON")
    raw.execute("PRAGMA temp_store = MEMORY")
    raw.execute("PRAGMA cache_size = -16000")
    if write:
        # FULL: what was acknowledged survives a power cut; batches make it cost next to nothing.
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute("PRAGMA journal_size_limit = 67108864")
    else:
        raw.execute("PRAGMA query_only = ON")


def _place(value: Any, arguments: list[Any]) -> str:
    if isinstance(value, list | tuple | set | frozenset):
        if value and all(isinstance(one, UUID) for one in value):
            return "(" + ", ".join(f"x'{one.hex}'" for one in value) + ")"
        arguments += (_plain(one) for one in value)
        return "(" + ", ".join("?" * len(value)) + ")"
    arguments.append(_plain(value))
    return "?"


def _plain_column(values: Sequence[Any]) -> Sequence[Any]:
    # Most columns hold what SQLite takes as it is: looking at types is a quarter of looking at values.
    return values if _NATIVE.issuperset(map(type, values)) else [_plain(value) for value in values]


def _plain(value: Any) -> Any:
    """Give a value as SQLite stores it: ids are blobs, instants are microseconds."""
    if isinstance(value, UUID):
        return value.bytes
    if isinstance(value, datetime):
        return (value - _EPOCH) // timedelta(microseconds=1)
    return value
