"""MySQL's session, on a connection of ours or on the caller's connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Protocol

import aiomysql
from pymysql.constants import CLIENT

from aiotaskstore.errors import TaskStoreError
from aiotaskstore.storage.mysql.binding import MySQLBinder
from aiotaskstore.storage.mysql.connections import READ_COMMITTED, abort
from aiotaskstore.storage.mysql.error_translation import translated
from aiotaskstore.storage.mysql.packets import PacketLimit
from aiotaskstore.storage.operation import Batch, Call, Rows, Step
from aiotaskstore.storage.session import Session
from aiotaskstore.storage.watchdog import CLEANUP, Watchdog

_sql = logging.getLogger("aiotaskstore.sql")


class Server(Protocol):
    """What a session needs of its database."""

    binder: MySQLBinder
    packets: PacketLimit
    deadline: float
    owns_pool: bool
    has_another: bool
    """Whether another connection may be opened beside the caller's."""

    def session(self) -> AbstractAsyncContextManager[MySQLSession]:
        """Lend another connection."""


class MySQLSession(Session):
    """A session on an aiomysql connection, with a savepoint in place of a transaction inside the caller's one."""

    def __init__(
        self, server: Server, connection: Any, *, joined: bool, close_by_force: Callable[[], None] | None = None
    ) -> None:
        self._server, self._connection, self._joined = server, connection, joined
        self._close_by_force = close_by_force or partial(abort, connection)
        self.most_characters: int = server.packets.most_characters
        self._sent_at: float | None = None
        self.cut_off: bool = False
        """Whether a KILL was sent for a statement that took too long."""

    def abort(self) -> None:
        self._close_by_force()

    async def begin(self, _lock_wait: float | None = None) -> None:
        if self._joined:
            await self.query(f"SAVEPOINT {self.savepoint}")
            return
        if not self._server.owns_pool:
            await self.query(f"SET {READ_COMMITTED}")
        await self.query("START TRANSACTION")

    async def commit(self) -> None:
        await self.query(f"RELEASE SAVEPOINT {self.savepoint}" if self._joined else "COMMIT")

    async def rollback(self) -> None:
        if self._connection.closed:
            return
        try:
            await self.query(f"ROLLBACK TO SAVEPOINT {self.savepoint}" if self._joined else "ROLLBACK")
        except TaskStoreError as error:
            _sql.debug("the rollback failed: %s", error)
            if not self._joined:
                self.abort()

    async def run(self, step: Step) -> Rows:
        if self._joined and isinstance(step, Call) and step.apart and self._server.has_another:
            async with self._server.session() as other:
                with Watchdog(other.abort, self._server.deadline):
                    return await other.run(step)
        rows = await self.query(self._server.binder.render(step, self._connection))
        if rows or not isinstance(step, Batch):
            return rows
        # Such a client, as SQLAlchemy's are, counts rows that were only found, so nothing is known about those written.
        return ((0 if self._connection.client_flag & CLIENT.FOUND_ROWS else self._written,),)

    async def script(self, sql: str) -> None:
        """Run one statement of a migration."""
        await self.query(sql)

    async def query(self, sql: str) -> Rows:
        """Run a text that contains its values."""
        self._server.packets.check(sql)
        _sql.debug("%s", sql)
        self._sent_at = asyncio.get_running_loop().time()
        with translated():
            cursor = await self._connection.cursor(aiomysql.Cursor)
            try:
                self._written: int = await cursor.execute(sql)
                rows: Rows = await cursor.fetchall()
            finally:
                self._sent_at = None
                await cursor.close()
        return rows

    async def cut_off_late(self) -> None:
        """Wait for a statement that takes longer than `statement_limit`, and make the server end it with an error.

        Cancelling the driver's wait instead would close the caller's connection.
        """
        loop, limit = asyncio.get_running_loop(), self.statement_limit or 0
        while True:
            sent_at = self._sent_at
            await asyncio.sleep(limit if sent_at is None else max(sent_at + limit - loop.time(), 0.01))
            if sent_at is not None and sent_at == self._sent_at and loop.time() >= sent_at + limit:
                break
        async with asyncio.timeout(CLEANUP), self._server.session() as other:
            if sent_at == self._sent_at:
                self.cut_off = True
                with Watchdog(other.abort, CLEANUP):
                    await other.query(f"KILL QUERY {int(self._connection.thread_id())}")
