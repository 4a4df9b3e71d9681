"""The caller's asyncmy connection, as our session uses aiomysql's. Imported only when the application passes one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asyncmy.cursors import Cursor


class AsyncmyConnection:
    """An asyncmy connection with the names that aiomysql's has; nothing is kept here."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.get_autocommit: Callable[[], bool] = connection.get_autocommit
        self.get_transaction_status: Callable[[], bool] = connection.get_transaction_status
        self.thread_id: Callable[[], int] = connection.thread_id
        self.escape_string: Callable[[str], str] = connection.escape_string

    @property
    def closed(self) -> bool:
        """Whether the connection is closed."""
        return not self.connection.connected

    @property
    def charset(self) -> str:
        """The character set of the session."""
        name: str = self.connection.character_set_name()
        return name

    @property
    def client_flag(self) -> int:
        """The capabilities that the client asked for."""
        flags: int = self.connection._client_flag  # noqa: SLF001 - the driver has no other name for it
        return flags

    async def cursor(self, _kind: Any) -> Cursor:
        """Return a cursor that reads rows as tuples, whatever kind the application has chosen."""
        cursor: Cursor = self.connection.cursor(Cursor)
        return cursor

    def abort(self) -> None:
        """Close the connection by force, without waiting: every pending call on it fails at once."""
        transport = self.connection._transport  # noqa: SLF001 - close() would wait for what is not sent yet
        if transport is not None:
            transport.abort()
        self.connection.close()
