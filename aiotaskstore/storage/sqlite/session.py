"""SQLite's sessions: on the caller's aiosqlite connection, and on our own writer."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakSet

import aiosqlite

from aiotaskstore.errors import TaskStoreError
from aiotaskstore.storage.operation import Batch, Rows, Step
from aiotaskstore.storage.session import Session
from aiotaskstore.storage.sqlite.binding import SqliteBinder
from aiotaskstore.storage.sqlite.error_translation import translated
from aiotaskstore.storage.sqlite.writer import Writer

_sql = logging.getLogger("aiotaskstore.sql")


class CallerSession(Session):
    """A session on the caller's aiosqlite connection, with a savepoint in place of a transaction of ours."""

    def __init__(
        self, binder: SqliteBinder, connection: aiosqlite.Connection, undone: WeakSet[aiosqlite.Connection]
    ) -> None:
        self._binder, self._connection, self._undone = binder, connection, undone

    def abort(self) -> None:
        """Interrupt the statement under way."""
        with suppress(ValueError):  # closed
            self._connection._conn.interrupt()  # noqa: SLF001 - aiosqlite's own interrupt() is a coroutine

    async def begin(self, _lock_wait: float | None = None) -> None:
        if not self._connection.in_transaction:
            # The connection opens its transactions by itself; without one, RELEASE would commit.
            await self._plain("BEGIN IMMEDIATE")
        await self._plain(f"SAVEPOINT {self.savepoint}")

    async def commit(self) -> None:
        await self._plain(f"RELEASE {self.savepoint}")

    async def rollback(self) -> None:
        if not self._connection.in_transaction:
            self._undone.add(self._connection)  # or what follows would commit by itself
            return
        with suppress(TaskStoreError):
            await self._plain(f"ROLLBACK TO {self.savepoint}")
            await self._plain(f"RELEASE {self.savepoint}")

    async def run(self, step: Step) -> Rows:
        if isinstance(step, Batch):
            with translated():
                for sql, rows in self._binder.bind_batch(step):
                    await self._connection.executemany(sql, rows)
            return ()
        return await self._plain(*self._binder.bind(step))

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


class WriterSession(Session):
    """A session on our own writer, outside any group of operations, for migrations."""

    def __init__(self, writer: Writer) -> None:
        self._writer, self._thread = writer, writer.thread

    def abort(self) -> None:
        """Do nothing: there is no network to wait for, and the wait for the lock is bounded."""

    async def begin(self, _lock_wait: float | None = None) -> None:
        await self._thread.run(self._writer.begin)

    async def commit(self) -> None:
        await self.script("COMMIT")

    async def rollback(self) -> None:
        await self.script("ROLLBACK")

    async def run(self, step: Step) -> Rows:
        return await self._thread.run(partial(self._writer.run_step, step))

    async def script(self, sql: str) -> None:
        _sql.debug("%s", sql)

        def work() -> None:
            with translated():
                self._thread.raw.execute(sql)

        await self._thread.run(work)
