"""A store on an aiomysql pool of the application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from aiotaskstore.errors import DatabaseUnavailableError, TaskStoreError
from aiotaskstore.storage.mysql.connections import abort, check_charset, is_closed
from aiotaskstore.storage.mysql.error_translation import translated
from aiotaskstore.storage.pool import take_place
from aiotaskstore.storage.server import bounded
from aiotaskstore.storage.watchdog import CLEANUP


class AiomysqlApplicationPool:
    """The aiomysql pool of the application, which we never close."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.size: int = getattr(pool, "maxsize", None) or 2**31  # 0 means no limit there
        # The driver's pool wakes nobody when a closed connection is returned, so we never wait inside it.
        self._places = asyncio.Semaphore(self.size)
        self._waking: set[asyncio.Task[None]] = set()

    def options(self) -> dict[str, Any]:
        """Return the arguments with which the pool opens connections."""
        return dict(getattr(self._pool, "_conn_kwargs", {}))

    @asynccontextmanager
    async def lend(self, deadline: float) -> AsyncIterator[Any]:
        """Lend a connection within `deadline` seconds; it is returned unchanged, or closed."""
        connection = await self._acquire(deadline)
        try:
            check_charset(connection)
            autocommit = connection.get_autocommit()
            if not autocommit:
                await _switch_autocommit(connection, deadline, on=True)
            try:
                yield connection
            finally:
                if not autocommit and not is_closed(connection):
                    with suppress(TaskStoreError):
                        await _switch_autocommit(connection, CLEANUP, on=False)
        except DatabaseUnavailableError:
            abort(connection)
            raise
        finally:
            self._release(connection)

    @asynccontextmanager
    async def lend_to_application(self, deadline: float) -> AsyncIterator[Any]:
        """Lend a connection, and close it before it is returned: the driver's pool resets nothing."""
        async with self.lend(deadline) as connection:
            try:
                yield connection
            finally:
                abort(connection)

    async def _acquire(self, deadline: float) -> Any:
        return await take_place(self._places, deadline, self._take, "The pool")

    async def _take(self) -> Any:
        with translated():
            return await self._pool.acquire()

    def _release(self, connection: Any) -> None:
        """Return a connection to the pool; a connection in a transaction is closed."""
        if not is_closed(connection) and connection.get_transaction_status():
            abort(connection)
        lost = connection.closed
        self._pool.release(connection)
        if lost:  # the driver then wakes nobody, and the application may be waiting for this place
            self._waking.add(task := self._pool._loop.create_task(self._pool._wakeup()))  # noqa: SLF001
            task.add_done_callback(self._waking.discard)
        self._places.release()


async def _switch_autocommit(connection: Any, limit: float, *, on: bool) -> None:
    await bounded(
        partial(connection.autocommit, on), abort=partial(abort, connection), translated=translated, deadline=limit
    )
