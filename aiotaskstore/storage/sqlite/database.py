"""SQLite: operations run whole in a writer thread, which commits all waiting operations in one transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import aiosqlite

from aiotaskstore.errors import ConfigurationError, DatabaseUnavailableError, NotInTransactionError
from aiotaskstore.mechanics.clock import Clock
from aiotaskstore.mechanics.hint import ANY_QUEUE
from aiotaskstore.mechanics.notifier import Subscriber
from aiotaskstore.storage.check import Check
from aiotaskstore.storage.database import Database, NotificationListener
from aiotaskstore.storage.faults import connection_closed
from aiotaskstore.storage.operation import Operation, T
from aiotaskstore.storage.session import Session
from aiotaskstore.storage.sqlite import diagnosis
from aiotaskstore.storage.sqlite.binding import SqliteBinder, read_instant
from aiotaskstore.storage.sqlite.data_version_watcher import DataVersionWatcher
from aiotaskstore.storage.sqlite.file import DatabaseFile
from aiotaskstore.storage.sqlite.reader import Reader
from aiotaskstore.storage.sqlite.session import CallerSession, WriterSession
from aiotaskstore.storage.sqlite.syntax import SYNTAX
from aiotaskstore.storage.sqlite.transactions import CLOSING, LentTransactions, within
from aiotaskstore.storage.sqlite.writer import Writer
from aiotaskstore.storage.statements import Syntax
from aiotaskstore.storage.table_names import TableNames
from aiotaskstore.storage.url import DatabaseURL

OLDEST = (3, 35, 0)
"""The first version with RETURNING."""


class SqliteDatabase(Database):
    """A SQLite file, or a database in the memory of this process."""

    kind: ClassVar[str] = "sqlite"
    driver: ClassVar[str] = "aiosqlite"
    syntax: ClassVar[Syntax] = SYNTAX
    joins: ClassVar[str] = "an aiosqlite connection"
    joins_too: ClassVar[str] = "SQLAlchemy's AsyncSession or AsyncConnection on one"
    waking: ClassVar[str] = "data_version"
    no_limit: ClassVar[str] = " LIMIT -1"
    locking: ClassVar[str] = ""

    def __init__(self, target: DatabaseURL, *, table_names: TableNames, clock: Clock | None, deadline: float) -> None:
        super().__init__(table_names=table_names, clock=clock, deadline=deadline)
        self._url = target
        self.path: str = target.path
        self.binder: SqliteBinder = SqliteBinder(self.statements, clock)
        self._file = DatabaseFile(self.path, deadline)
        self.shared_memory: bool = self._file.in_memory
        self.writer: Writer = Writer(self._file, self.binder, deadline)
        self._reader = None if self.shared_memory else Reader(self._file, self.binder, deadline)
        self._only_reads = False
        self._lent = LentTransactions(self._file, deadline)
        self._turns: WeakKeyDictionary[aiosqlite.Connection, asyncio.Lock] = WeakKeyDictionary()

    @classmethod
    def check(cls, table_names: TableNames) -> None:
        if table_names.schema:
            raise ConfigurationError("schema= is for PostgreSQL; a SQLite file is its own schema.")
        if sqlite3.sqlite_version_info < OLDEST:
            raise ConfigurationError(f"SQLite 3.35 or newer is needed, and this Python has {sqlite3.sqlite_version}.")

    async def open(self) -> None:
        thread = self.writer.thread
        await thread.open()
        try:
            if self._reader is not None:
                await self._reader.thread.open()
            else:
                self._lent.memory = await aiosqlite.Connection(lambda: thread.raw, iter_chunk_size=64)
        except BaseException:
            await thread.close(self.deadline)
            raise
        self._file.remember()
        self.writer.queue.open(thread)

    def missing(self) -> str:
        """Return a sentence that says that there is no file, where `open` would make one; else nothing."""
        file = Path(self.path)
        if self.shared_memory or file.exists() or not file.absolute().parent.is_dir():
            return ""
        return f"There is no SQLite file {file.absolute()}."

    async def open_for_reading(self) -> None:
        """Open no more than the connection that reads: the one that writes makes files, and switches to WAL."""
        if self._reader is None:
            await self.open()
            return
        await self._reader.thread.open()
        self._only_reads = True
        self._file.remember()

    def checks(self) -> list[Check]:
        return diagnosis.checks(self, self.path, in_memory=self.shared_memory)

    async def close(self) -> None:
        if self._only_reads and self._reader is not None:
            await self._reader.thread.close(self.deadline)
            return
        queue = self.writer.queue
        queue.close()
        with suppress(TimeoutError, DatabaseUnavailableError):
            async with asyncio.timeout(CLOSING), queue.alone():
                pass
        queue.give_up()
        if self._lent.memory is not None:
            await within(CLOSING, self._lent.memory.close())
        elif self._reader is not None:
            await self._reader.thread.close(self.deadline)
        await self.writer.thread.close(self.deadline)

    def abandon(self) -> None:
        if self._lent.memory is not None:
            self._lent.memory.stop()
        elif self._reader is not None:
            self._reader.thread.abandon()
        self.writer.thread.abandon()

    async def version(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    @asynccontextmanager
    async def session(self, limit: float | None = None) -> AsyncIterator[Session]:  # noqa: ARG002 - no network
        async with self.writer.queue.alone():
            yield WriterSession(self.writer)

    async def read(self, operation: Operation[T], *, limit: float | None = None) -> T:  # noqa: ARG002 - the same
        return await (self.write(operation) if self._reader is None else self._reader.run(operation))

    async def write(
        self,
        operation: Operation[T],
        *,
        retry_held: bool = True,  # noqa: ARG002 - nothing locks rows here
        limit: float | None = None,  # noqa: ARG002 - nothing is far away
    ) -> T:
        """Queue the operation for the writer, which runs all waiting operations in its next transaction."""
        return await self.writer.queue.run(operation)

    async def write_heartbeat(self, operation: Operation[T]) -> T:
        return await self.writer.queue.run(operation, heartbeat=True)

    async def _run_joined(self, connection: Any, operation: Operation[T], limit: float) -> T:
        """Run one operation at a time: savepoints nest, so rolling one back would undo the others too."""
        if not isinstance(connection, aiosqlite.Connection):
            return await super()._run_joined(connection, operation, limit)
        async with self._turns.setdefault(connection, asyncio.Lock()):
            return await super()._run_joined(connection, operation, limit)

    def borrow(self, connection: Any) -> CallerSession:
        if not isinstance(connection, aiosqlite.Connection):
            raise self.no_connection_here("SQLite", connection)
        self._lent.refuse_undone(connection)
        try:
            open_or_opens_one = connection.in_transaction or connection.isolation_level is not None
        except ValueError as error:
            raise connection_closed("aiosqlite") from error
        if not open_or_opens_one:
            raise NotInTransactionError("aiosqlite", 'await connection.execute("BEGIN IMMEDIATE")')
        return CallerSession(self.binder, connection, self._lent.undone)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        async with self.writer.queue.alone(), self._lent.transaction() as connection:
            yield connection

    def close_lent(self, connection: Any) -> None:
        """Do nothing: the connection to a file is closed as the rollback, and that to memory is shared by all."""

    async def migrate_on(self, work: Any) -> None:
        """Migrate in one transaction; a second process then finds no migration left to apply."""
        async with self.session() as session:
            await session.begin()
            try:
                await work(session)
            except BaseException:
                await session.rollback()
                raise
            await session.commit()

    def instant(self, value: Any) -> datetime:
        return read_instant(value)

    def unopened_copy(self) -> SqliteDatabase | None:
        if self.shared_memory:
            return None
        return SqliteDatabase(self._url, table_names=self.table_names, clock=self.clock, deadline=self.deadline)

    @asynccontextmanager
    async def listen(self, receive: Subscriber) -> AsyncIterator[NotificationListener | None]:
        if self.shared_memory:
            yield None
            return
        loop = asyncio.get_running_loop()

        def changed() -> None:
            with suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(receive, ANY_QUEUE)

        watcher = DataVersionWatcher(self.path, changed)
        try:
            yield watcher
        finally:
            watcher.close()
