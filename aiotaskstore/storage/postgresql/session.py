"""PostgreSQL's session, on a connection of our pool, of the application's pool, or on the caller's connection."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Any

from aiotaskstore.errors import DatabaseUnavailableError
from aiotaskstore.storage.faults import timed_out
from aiotaskstore.storage.operation import Begin, Rows, Step, T
from aiotaskstore.storage.postgresql.binding import PostgresBinder
from aiotaskstore.storage.postgresql.connection_cleanup import abort, is_closed, suppress_cleanup_errors
from aiotaskstore.storage.postgresql.connections import PLAN_ANEW_INSIDE
from aiotaskstore.storage.postgresql.error_translation import translated
from aiotaskstore.storage.session import Session

_sql = logging.getLogger("aiotaskstore.sql")


class PostgresSession(Session):
    """A session on an asyncpg connection, with a savepoint in place of a transaction inside the caller's one."""

    def __init__(self, binder: PostgresBinder, connection: Any, *, joined: bool, shared: bool = False) -> None:
        self._binder, self._connection, self._joined = binder, connection, joined
        self.needs_transaction: bool = shared
        """Whether the application uses the connection too; then each transaction makes the settings for our plans."""

    def abort(self) -> None:
        abort(self._connection)

    async def after_cancellation(self) -> None:
        """Wait until the server has ended the statement that asyncpg has cancelled."""
        if not self._joined:  # else the caller's next statement waits for it
            with suppress_cleanup_errors():
                await self._plain("SELECT 1")

    async def begin(self, lock_wait: float | None = None) -> None:
        begin = f"SAVEPOINT {self.savepoint}" if self._joined else "BEGIN ISOLATION LEVEL READ COMMITTED"
        if self.needs_transaction:
            begin += f"; {PLAN_ANEW_INSIDE}"
        if lock_wait is not None and not self._joined:
            begin += f"; SET LOCAL lock_timeout = {round(lock_wait * 1000)}"
        await self._plain(begin)

    async def commit(self) -> None:
        await self._plain(f"RELEASE SAVEPOINT {self.savepoint}" if self._joined else "COMMIT")

    async def rollback(self) -> None:
        if is_closed(self._connection):
            return
        with suppress_cleanup_errors():
            await self._plain(f"ROLLBACK TO SAVEPOINT {self.savepoint}" if self._joined else "ROLLBACK")

    async def run(self, step: Step) -> Rows:
        assert not isinstance(step, Begin)  # noqa: S101 - run_operation() takes it
        compiled, arguments = self._binder.bind(step)
        _sql.debug("%s", compiled.sql)
        return await self._bounded(self._connection.fetch(compiled.sql, *arguments, timeout=self.statement_limit))

    async def script(self, sql: str) -> None:
        await self._plain(sql)

    async def _plain(self, sql: str) -> None:
        _sql.debug("%s", sql)
        await self._bounded(self._connection.execute(sql, timeout=self.statement_limit))

    async def _bounded(self, call: Awaitable[T]) -> T:
        try:
            with translated():
                return await call
        except DatabaseUnavailableError as error:
            if self._joined and isinstance(error.__cause__, TimeoutError):
                raise timed_out(
                    f"A statement in your transaction was not answered within {self.statement_limit:g} s and was "
                    "cancelled; another open transaction may hold what it needs."
                ) from error
            if error.connection_lost and not self._joined:
                self.abort()  # in whatever state the driver believes the connection to be
            raise
