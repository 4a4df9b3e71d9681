"""A session on the caller's psycopg connection. Imported only when the application passes one."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import psycopg
from psycopg.adapt import Loader
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types import bool as booleans
from psycopg.types import datetime as datetimes
from psycopg.types import numeric, string, uuid

from aiotaskstore.errors import NotInTransactionError, TaskStoreError
from aiotaskstore.storage.faults import connection_closed, connection_lost, timed_out
from aiotaskstore.storage.operation import Begin, Rows, Step
from aiotaskstore.storage.postgresql.binding import PostgresBinder
from aiotaskstore.storage.postgresql.error_translation import translate
from aiotaskstore.storage.session import Session

_sql = logging.getLogger("aiotaskstore.sql")

_LOADERS: dict[str, type[Loader]] = {
    "json": string.TextBinaryLoader,
    "uuid": uuid.UUIDBinaryLoader,
    "timestamptz": datetimes.TimestamptzBinaryLoader,
    "text": string.TextBinaryLoader,
    "varchar": string.TextBinaryLoader,
    "bool": booleans.BoolBinaryLoader,
    "int2": numeric.Int2BinaryLoader,
    "int4": numeric.Int4BinaryLoader,
    "int8": numeric.Int8BinaryLoader,
    "float8": numeric.Float8BinaryLoader,
}
"""How the values of our statements are read, whatever the application has registered on its connection."""


class PsycopgSession(Session):
    """A session on a psycopg connection, with a savepoint in place of a transaction.

    Its cursor is its own, so nothing is changed on the connection: no row factory, no adapter, no prepared statement.
    """

    def __init__(self, binder: PostgresBinder, connection: psycopg.AsyncConnection[Any]) -> None:
        self._binder, self._connection = binder, connection
        self._cursor = psycopg.AsyncRawCursor(connection, row_factory=tuple_row)
        adapters = self._cursor.adapters
        adapters.register_dumper(str, string.StrDumperUnknown)
        for name, loader in _LOADERS.items():
            adapters.register_loader(name, loader)

    def abort(self) -> None:
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self._connection.pgconn.socket)) as link:
            link.shutdown(socket.SHUT_RDWR)  # whoever waits for the server then learns that it is gone

    async def after_cancellation(self) -> None:
        """Do nothing: psycopg has waited until the server had ended the statement that it cancelled."""

    async def begin(self, _lock_wait: float | None = None) -> None:
        await self._execute(f"SAVEPOINT {self.savepoint}")

    async def commit(self) -> None:
        await self._execute(f"RELEASE SAVEPOINT {self.savepoint}")

    async def rollback(self) -> None:
        if self._connection.closed:
            return
        try:
            await self._execute(f"ROLLBACK TO SAVEPOINT {self.savepoint}")
        except TaskStoreError as error:
            _sql.debug("the rollback failed: %s", error)

    async def run(self, step: Step) -> Rows:
        assert not isinstance(step, Begin)  # noqa: S101 - run_operation() takes it
        compiled, arguments = self._binder.bind(step)
        return await self._execute(compiled.sql, [_text(argument) for argument in arguments])

    async def script(self, sql: str) -> None:
        await self._execute(sql)

    async def _execute(self, sql: str, arguments: Sequence[str | None] | None = None) -> Rows:
        _sql.debug("%s", sql)
        cursor = self._cursor
        try:
            with _translated(self._connection):
                async with asyncio.timeout(self.statement_limit):
                    await cursor.execute(sql, arguments, prepare=False, binary=True)
                    return await cursor.fetchall() if cursor.description else ()
        except TimeoutError as error:
            raise timed_out(
                f"A statement in your transaction was not answered within {self.statement_limit:g} s and was "
                "cancelled; another open transaction may hold what it needs."
            ) from error


def borrow(binder: PostgresBinder, connection: psycopg.AsyncConnection[Any]) -> PsycopgSession:
    """Make a session of a connection. Raises `NotInTransactionError` for one that commits every statement by itself."""
    if connection.closed:
        raise connection_closed("psycopg")
    if connection.autocommit and connection.info.transaction_status is TransactionStatus.IDLE:
        raise NotInTransactionError("psycopg", "async with connection.transaction():")
    return PsycopgSession(binder, connection)


@contextmanager
def _translated(connection: psycopg.AsyncConnection[Any]) -> Iterator[None]:
    """Turn psycopg's errors into our own."""
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate is not None:
            raise translate(error) from error
        if connection.closed or isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            raise connection_lost("The connection to PostgreSQL was lost, or another task is using it.") from error
        raise TaskStoreError(f"The driver psycopg cannot take what it was given: {error}") from error


def _text(value: Any) -> str | None:
    """Write a value as PostgreSQL reads it, without a type: the server finds the type that the statement needs."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.isoformat()
        case list() | tuple() | set() | frozenset():
            return "{" + ",".join(_element(one) for one in value) + "}"
        case _:
            return str(value)


def _element(value: Any) -> str:
    text = _text(value)
    if text is None:
        return "NULL"
    if not isinstance(value, str):
        return f'"{text}"'
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
