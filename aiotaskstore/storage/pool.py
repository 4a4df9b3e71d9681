"""A pool of our own connections, which are opened when needed and used again."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

from aiotaskstore.errors import DatabaseUnavailableError, TaskStoreError
from aiotaskstore.storage.faults import nothing_done
from aiotaskstore.storage.watchdog import CLEANUP

C = TypeVar("C")

_IDLE = 300.0
"""Seconds after which an unused connection is closed: a firewall or proxy in between may have dropped it."""


class Connector(ABC, Generic[C]):
    """Opens and closes a driver's connections for a pool. Raises our own errors, never the driver's."""

    @abstractmethod
    async def connect(self) -> C:
        """Open a connection; a failure or a cancellation leaves nothing open, and does not wait."""

    @abstractmethod
    async def quit(self, connection: C) -> None:
        """Close a connection by the protocol; `abort` may end that early."""

    @abstractmethod
    def abort(self, connection: C) -> None:
        """Close a connection by force, without waiting; every pending call on it fails at once. Safe to repeat."""

    @abstractmethod
    def usable(self, connection: C) -> bool:
        """Return whether a connection is open and in no transaction."""


async def take_place(places: asyncio.Semaphore, deadline: float, take: Callable[[], Awaitable[C]], pool_name: str) -> C:
    """Wait for a place, then take a connection, all within `deadline` seconds.

    The caller releases the place. Raises a `DatabaseUnavailableError` with `nothing_done` if no connection came.
    """
    try:
        async with asyncio.timeout(deadline) as limit:
            await places.acquire()
            try:
                return await take()
            except BaseException:
                places.release()
                raise
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise nothing_done(f"{pool_name} gave us no connection within {deadline:g} s.") from error
    except DatabaseUnavailableError as error:
        raise nothing_done(str(error)) from error


class Pool(Generic[C]):
    """At most `size` connections. The connection used last is lent first, to the operation that has waited longest.

    When a connection is returned unusable, the idle ones may be dead too, so all of them are closed: after an outage
    one operation fails, not one operation for each connection.
    """

    def __init__(self, connector: Connector[C], size: int) -> None:
        self._connector = connector
        self._places = asyncio.Semaphore(size)
        self._idle: deque[tuple[C, float]] = deque()
        self._used: set[C] = set()
        self._closed = False
        self._returned = asyncio.Event()

    async def acquire(self, deadline: float) -> C:
        """Lend a connection within `deadline` seconds. Raises `DatabaseUnavailableError` if none is free until then."""
        if self._closed:
            raise nothing_done("The store's connections are closed.")
        if not self._places.locked() and (connection := self._take_idle()) is not None:
            await self._places.acquire()  # at once: the usual case, which needs no timer
        else:
            connection = await take_place(self._places, deadline, self._take, "The database")
        self._used.add(connection)
        return connection

    def release(self, connection: C) -> None:
        """Take a connection back, without waiting."""
        self._used.discard(connection)
        if self._connector.usable(connection) and not self._closed:
            now = time.monotonic()
            self._idle.append((connection, now))
            while now - self._idle[0][1] > _IDLE:
                self._connector.abort(self._idle.popleft()[0])
        else:
            self._connector.abort(connection)
            self._abort_idle()
        self._places.release()
        self._returned.set()

    async def close(self) -> None:
        """Close every connection, those left after `CLEANUP` seconds or a cancellation by force."""
        self._closed = True
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLEANUP):
                    await self._quit_all()
        finally:
            for connection in self._used:
                self._connector.abort(connection)
            self._abort_idle()

    async def _quit_all(self) -> None:
        while self._used:
            self._returned.clear()
            await self._returned.wait()
        async with asyncio.TaskGroup() as group:
            for connection, _ in self._idle:
                group.create_task(self._quit(connection))

    async def _take(self) -> C:
        return self._take_idle() or await self._connector.connect()

    def _take_idle(self) -> C | None:
        while self._idle:
            connection, since = self._idle.pop()
            if time.monotonic() - since <= _IDLE and self._connector.usable(connection):
                return connection
            self._connector.abort(connection)
        return None

    def _abort_idle(self) -> None:
        while self._idle:
            self._connector.abort(self._idle.pop()[0])

    async def _quit(self, connection: C) -> None:
        with suppress(TaskStoreError):
            await self._connector.quit(connection)
