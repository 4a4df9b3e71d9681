"""The connection of the heartbeat. Every wait on it has a limit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

from aiotaskstore.errors import DatabaseUnavailableError, TaskStoreError
from aiotaskstore.mechanics.background_tasks import BackgroundTasks
from aiotaskstore.storage.storage import Storage

_log = logging.getLogger("aiotaskstore")

T = TypeVar("T")
Reply = TypeVar("Reply")

_CONNECTING = 5.0
"""Seconds that connecting may take."""
CLOSING = 2.0
"""Seconds that closing the connection may take."""


class HeartbeatConnection(Generic[Reply]):
    """Sends heartbeats. A connection that hangs is closed in the background, and the next heartbeat connects anew."""

    def __init__(self, send: Callable[[Storage], Coroutine[Any, Any, Reply]], storage: Storage) -> None:
        self._send, self._storage, self._is_open = send, storage, False
        self._tasks = BackgroundTasks("The heartbeat")
        self._call: asyncio.Task[Any] | None = None
        self._closing: list[asyncio.Task[None]] = []

    async def send(self, limit: float) -> Reply:
        """Send one heartbeat. Raises `DatabaseUnavailableError` without a reply within `limit` seconds.

        Connecting has a limit of its own.
        """
        if not self._is_open:
            await self._within(_CONNECTING, self._storage.database.open)
            self._is_open = True
        return await self._within(limit, partial(self._send, self._storage))

    async def _within(self, limit: float, work: Callable[[], Awaitable[T]]) -> T:
        self._call = call = self._tasks.spawn(_returning_error(work))
        await asyncio.wait([call], timeout=limit)
        if not call.done() or call.cancelled():
            call.cancel()
            # In a background task, since the next heartbeat must not wait for the close.
            self._closing.append(self._tasks.spawn(self._close_in_time(self._storage, call)))
            self._storage, self._is_open = self._storage.unopened_copy() or self._storage, False
            self._closing = [task for task in self._closing if not task.done()]
            raise DatabaseUnavailableError(f"The database did not answer a heartbeat within {limit:g} s.")
        reply = call.result()
        if isinstance(reply, TaskStoreError):
            raise reply
        return reply

    def interrupt(self) -> None:
        """End the wait for a reply."""
        if self._call is not None:
            self._call.cancel()

    async def close(self) -> None:
        """Close the connection, or abandon it if closing takes too long."""
        if self._is_open or self._call is not None:
            await self._close_in_time(self._storage, self._call)
            self._is_open = False
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSING)

    async def _close_in_time(self, storage: Storage, call: asyncio.Task[Any] | None) -> None:
        """Close a connection, even if a call still waits on it; a cancellation ends the wait, and closes it too."""
        await self._tasks.within(self._disconnect(storage), CLOSING)
        if call is not None and not call.done():
            await asyncio.wait([call], timeout=CLOSING)

    async def _disconnect(self, storage: Storage) -> None:
        try:
            await storage.database.close()
        except TaskStoreError as error:
            _log.debug("the heartbeat's connection could not be closed: %s", error)


async def _returning_error(work: Callable[[], Awaitable[T]]) -> T | TaskStoreError:
    """Return an error of ours instead of raising it, so that the background task does not count as failed."""
    try:
        return await work()
    except TaskStoreError as error:
        return error
