"""A store on an asyncpg pool of the application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiotaskstore.errors import DatabaseUnavailableError
from aiotaskstore.storage.faults import nothing_done
from aiotaskstore.storage.postgresql.connection_cleanup import is_closed, suppress_cleanup_errors
from aiotaskstore.storage.postgresql.error_translation import translated
from aiotaskstore.storage.watchdog import CLEANUP


class AsyncpgApplicationPool:
    """The asyncpg pool of the application, which we never close; asyncpg resets a connection that is returned to it."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    @property
    def size(self) -> int:
        """How many connections the pool may open."""
        size: int = self._pool.get_max_size()
        return size

    @asynccontextmanager
    async def lend(self, deadline: float) -> AsyncIterator[Any]:
        """Lend a connection within `deadline` seconds; a connection that asyncpg cannot reset afterwards is closed."""
        connection = await self._acquire(deadline)
        try:
            yield connection
        finally:
            await self._release(connection)

    lend_to_application = lend

    async def _acquire(self, deadline: float) -> Any:
        if self._pool.is_closing():
            raise nothing_done("The asyncpg pool that was given to the store is closed.")
        try:
            with translated():
                return await self._pool.acquire(timeout=deadline)
        except DatabaseUnavailableError as error:
            if isinstance(error.__cause__, TimeoutError):
                raise nothing_done(f"The pool gave us no connection within {deadline:g} s.") from error
            raise nothing_done(str(error)) from error

    async def _release(self, connection: Any) -> None:
        """Return a connection to the pool within `CLEANUP` seconds."""
        with suppress_cleanup_errors():
            if not is_closed(connection) and connection.is_in_transaction():
                connection.terminate()  # or asyncpg would complain, and wait for a rollback
            await self._pool.release(connection, timeout=CLEANUP)
