"""A thread with a SQLite connection of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from aiotaskstore.storage.faults import nothing_done
from aiotaskstore.storage.operation import T

CLOSED = "The store's SQLite file is closed."


class ConnectionThread:
    """One SQLite connection and the one thread that uses it."""

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"aiotaskstore-{name}")
        self._connect = connect
        self.raw: sqlite3.Connection

    async def open(self) -> None:
        """Connect, in the thread."""
        try:
            await self.run(self._open)
        except BaseException:
            self.abandon()  # after the work under way has ended
            raise

    async def close(self, limit: float) -> None:
        """Disconnect. Waits at most `limit` seconds; a busy thread disconnects when its work ends."""
        closing = self.run(self._close)
        self._executor.shutdown(wait=False)
        await asyncio.wait([closing], timeout=limit)

    def abandon(self) -> None:
        """Disconnect without waiting, and without using the event loop."""
        self._executor.submit(self._close)
        self._executor.shutdown(wait=False)

    def reopen(self) -> None:
        """Replace an unusable connection; called in the thread."""
        self._close()
        self._open()

    def _open(self) -> None:
        self.raw = self._connect()

    def _close(self) -> None:
        raw: sqlite3.Connection | None = getattr(self, "raw", None)
        if raw is not None:
            raw.close()

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run `work` in the thread."""
        try:
            return asyncio.get_running_loop().run_in_executor(self._executor, work)
        except RuntimeError as error:  # shut down
            raise nothing_done(CLOSED) from error
