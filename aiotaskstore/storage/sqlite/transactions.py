"""Transactions lent to the application. Each holds the file's write lock, so our writer waits for its end."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any
from weakref import WeakSet

import aiosqlite

from aiotaskstore.mechanics.background_tasks import run_to_completion
from aiotaskstore.storage.faults import Conflict, connection_closed, explain_callers_conflict, nothing_done
from aiotaskstore.storage.sqlite.error_translation import translated
from aiotaskstore.storage.sqlite.file import BUSY_SLICE, DatabaseFile
from aiotaskstore.storage.sqlite.lock_wait import PAUSE

CLOSING = 5.0
"""Seconds that cleaning up waits for a call that is still under way."""
_MOMENTS = ((0.05, 0.003), (2.0, 0.11))
"""After how many seconds of transactions the next one waits, and for how many seconds, since whoever waits for the lock
elsewhere only tries again once in a while. The short moments are for our heartbeats and others in other processes, the
long ones for SQLite's own wait, which sleeps up to 100 ms at a time and, on most connections, ends after 5 s."""
_UNDONE = (
    "SQLite has undone this whole transaction after an error (no room, no memory or a failing disk), so nothing of it "
    "is stored. Leave it, and start again once the cause is gone."
)


class LentTransactions:
    """Opens transactions for the application; a database in memory has one connection, which everybody shares."""

    def __init__(self, file: DatabaseFile, deadline: float) -> None:
        self._file, self._deadline = file, deadline
        self.memory: aiosqlite.Connection | None = None
        """The connection to a database in memory, while it is open."""
        self._held = [0.0 for _ in _MOMENTS]
        """How long transactions have held the lock since each of these moments."""
        self._ended = 0.0
        """When the last one ended."""
        self.undone: WeakSet[aiosqlite.Connection] = WeakSet()
        """Connections of callers whose transaction SQLite has rolled back by itself."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """Yield a connection with an open transaction; commit it unless the block raises."""
        async with self._connection() as connection:
            await self._leave_a_moment()
            await self._begin(connection)
            begun = time.monotonic()
            try:
                # For the write lock we wait ourselves; SQLite does for that of a file which the application attaches.
                # Its row must be read, or the interrupt of _undo would hit the statement that follows, too.
                await connection.execute_fetchall(f"PRAGMA busy_timeout = {int(BUSY_SLICE * 1000)}")
                yield connection
                self.refuse_undone(connection)
                await self._commit(connection)
            except BaseException:
                await within(CLOSING, self._undo(connection))
                raise
            finally:
                self._ended = time.monotonic()
                self._held = [held + self._ended - begun for held in self._held]

    async def _leave_a_moment(self) -> None:
        if self.memory is not None:
            return
        until = 0.0
        for number, (most, moment) in enumerate(_MOMENTS):
            if self._held[number] > most:
                self._held[number] = 0.0
                until = self._ended + moment
        await asyncio.sleep(max(0.0, until - time.monotonic()))

    async def _undo(self, connection: aiosqlite.Connection) -> None:
        """Interrupt the statement that still runs on a lent connection, and roll back.

        A file's connection is rolled back by its closing, which comes next: after a rollback, whoever still has the
        connection could write on it without any transaction.
        """
        with suppress(ValueError, sqlite3.Error):  # closed already
            await connection.interrupt()
            if connection is self.memory and connection.in_transaction:
                await connection.rollback()

    async def _commit(self, connection: aiosqlite.Connection) -> None:
        try:
            with explain_callers_conflict(), translated(self._file.path):
                await connection.commit()
        except ValueError as error:  # the application has closed it
            raise connection_closed("aiosqlite") from error

    def refuse_undone(self, connection: aiosqlite.Connection) -> None:
        """Raise if SQLite has rolled back this transaction by itself: each later statement would commit by itself."""
        if connection in self.undone:
            raise nothing_done(_UNDONE)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[aiosqlite.Connection]:
        if self.memory is not None:
            yield self.memory
            return
        self._file.check()
        with translated(self._file.path):
            connection = await run_to_completion(self._open(), aiosqlite.Connection.close)
        try:
            with translated(self._file.path):
                await connection.execute("PRAGMA foreign_keys = ON")
            yield connection
        finally:
            await within(CLOSING, connection.close())

    async def _open(self) -> aiosqlite.Connection:
        return await aiosqlite.connect(self._file.path, isolation_level=None, timeout=0)

    async def _begin(self, connection: aiosqlite.Connection) -> None:
        until = time.monotonic() + self._deadline
        conflict = Conflict("The SQLite file is locked: this process's heartbeats wait for it too")
        while True:
            if not self._file.lock_wait.heartbeat_waits:
                try:
                    with translated(self._file.path):
                        await connection.execute("BEGIN IMMEDIATE")
                except Conflict as error:
                    conflict = error
                else:
                    return
            if time.monotonic() > until:
                raise nothing_done(str(conflict)) from conflict
            await asyncio.sleep(PAUSE)


async def within(limit: float, work: Coroutine[Any, Any, None]) -> None:
    """Wait at most `limit` seconds for cleaning up, which then continues in its own thread."""
    with suppress(TimeoutError, sqlite3.Error):
        async with asyncio.timeout(limit):
            await work
