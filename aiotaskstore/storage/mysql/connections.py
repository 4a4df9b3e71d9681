"""Opens, cleans and closes aiomysql connections of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from typing import Any

import aiomysql
from pymysql import err
from pymysql.charset import charset_by_name

from aiotaskstore.errors import ConfigurationError, TaskStoreError
from aiotaskstore.storage.dialer import Dialer
from aiotaskstore.storage.faults import connection_lost
from aiotaskstore.storage.mysql.error_translation import translated
from aiotaskstore.storage.server import ServerConnector
from aiotaskstore.storage.watchdog import CLEANUP, Watchdog

CONNECT = 10.0
"""Seconds that connecting may take. aiomysql's own limit ends with the TCP connection."""
READ_COMMITTED = "TRANSACTION ISOLATION LEVEL READ COMMITTED"
"""The isolation level that avoids most gap locks."""
_CHARSET = "utf8mb4"
_PREPARE = (
    f"SET SESSION {READ_COMMITTED}",
    # The driver would read notes as Python warnings, with a round trip for each.
    "SET SESSION sql_notes = 0, innodb_lock_wait_timeout = 5",
    # A server may be set to ignore what a client requests as it connects (character-set-client-handshake).
    f"SET NAMES {_CHARSET} COLLATE {charset_by_name(_CHARSET).collation}",
)
_RESET_CONNECTION = 0x1F
"""The protocol command that resets a session, except for its database and character set."""


class _Connection(aiomysql.Connection):  # type: ignore[misc] # the driver has no types
    """A connection whose host name we look up ourselves; TLS verifies the name all the same."""

    async def dial(self, dialer: Dialer) -> None:
        """Connect; the driver's own connect() would leave the connection open when cancelled."""
        self._name = self._host
        if self.unix_socket:
            await dialer.dial(self.unix_socket, self._connect_once)
        else:
            await dialer.dial_host(self._name, self._port, self._connect_to)

    async def _connect_to(self, address: str) -> None:
        self._host = address
        await self._connect_once()

    async def _connect_once(self) -> None:
        try:
            await self._connect()
        except err.OperationalError as error:
            if isinstance(error.__cause__, OSError):  # the cause says more than the driver's error
                raise error.__cause__ from None
            raise

    async def _get_server_information(self) -> None:
        self._host = self._name
        await super()._get_server_information()


class MySQLConnector(ServerConnector):
    """Opens connections for a pool of ours."""

    def __init__(self, options: Callable[[], dict[str, Any]]) -> None:
        self._options = cache(options)  # called at the first use, since it reads a certificate's file

    async def connect(self) -> Any:
        connection, dialer = _Connection(**self._options() | {"charset": _CHARSET}), Dialer()
        try:
            with translated():
                try:
                    async with asyncio.timeout(CONNECT):
                        await connection.dial(dialer)
                        await _prepare(connection)
                except OSError as error:
                    raise connection_lost(f"MySQL cannot be reached: {dialer.explain(error)}") from error
        except BaseException:
            abort(connection)
            raise
        return connection

    async def quit(self, connection: Any) -> None:
        writer = connection._writer  # noqa: SLF001 - ensure_closed() forgets it
        with translated():
            await connection.ensure_closed()
        if writer is not None and writer.get_extra_info("ssl_object") is not None:
            writer.transport.abort()  # TLS would wait for the server's farewell, perhaps longer than the loop lives

    def abort(self, connection: Any) -> None:
        abort(connection)

    def usable(self, connection: Any) -> bool:
        return not is_closed(connection) and not connection.get_transaction_status()

    async def clean(self, connection: Any) -> None:
        if not self.usable(connection) or connection.charset != _CHARSET:
            abort(connection)
            return
        try:
            with translated(), Watchdog(lambda: abort(connection), CLEANUP):
                await connection._execute_command(_RESET_CONNECTION, "")  # noqa: SLF001 - the driver has no method for it
                await connection._read_ok_packet()  # noqa: SLF001
                await connection.select_db(connection.db)
                await connection.autocommit(True)  # noqa: FBT003 - the driver's signature
                await _prepare(connection)
        except TaskStoreError:
            abort(connection)
        except BaseException:
            abort(connection)
            raise


def check_charset(connection: Any, driver: str = "aiomysql") -> None:
    """Raise `ConfigurationError` for a connection of the application whose character set cannot carry every text."""
    if connection.charset != _CHARSET:
        raise ConfigurationError(
            f"The {driver} connection has charset={connection.charset!r}, which cannot carry every text. Connect with "
            f'charset="{_CHARSET}", the driver\'s default; it suits tables of any character set.'
        )


def is_closed(connection: Any) -> bool:
    """Return whether a connection is closed, by us or by the server."""
    if connection.closed:
        return True
    reader = connection._reader  # noqa: SLF001 - as the driver's own pool does
    return bool(reader.at_eof() or reader.exception() or reader.eof_received)


def abort(connection: Any) -> None:
    """Close a connection by force, without waiting: every pending call on it fails at once."""
    writer = connection._writer  # noqa: SLF001 - close() would wait for what is not sent yet
    if writer is not None:
        writer.transport.abort()
    connection.close()


async def query(connection: Any, sql: str) -> Any:
    """Run one statement and return its rows."""
    cursor = await connection.cursor(aiomysql.Cursor)
    try:
        await cursor.execute(sql)
        return await cursor.fetchall()
    finally:
        await cursor.close()


async def _prepare(connection: Any) -> None:
    for sql in _PREPARE:
        await query(connection, sql)
