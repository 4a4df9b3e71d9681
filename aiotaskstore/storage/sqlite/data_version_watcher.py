"""Notices other processes' commits: a thread of its own reads `PRAGMA data_version`."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from aiotaskstore.storage.database import NotificationListener

_BUSY_INTERVAL, _IDLE_INTERVAL, _IDLE_AFTER = 0.005, 0.05, 5.0
"""Seconds between reads of data_version (2.6 µs each): after a change, and after `_IDLE_AFTER` without one."""


class DataVersionWatcher(NotificationListener):
    """A thread that emits a hint when SQLite's own counter shows that another connection has committed."""

    def __init__(self, path: str, changed: Callable[[], None]) -> None:
        self._path, self._changed = path, changed
        self._loop = asyncio.get_running_loop()
        self._lost = asyncio.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="aiotaskstore-watch", daemon=True)
        self._thread.start()

    async def lost(self) -> None:
        await self._lost.wait()

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()

    def _watch(self) -> None:
        try:
            connection = sqlite3.connect(self._path, isolation_level=None)
            try:
                self._poll(connection)
            finally:
                connection.close()
        except sqlite3.Error:  # the file cannot be read now: the dispatcher starts another watcher
            with suppress(RuntimeError):  # the loop has just been closed
                self._loop.call_soon_threadsafe(self._lost.set)

    def _poll(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA query_only = 1")
        seen, changed = None, time.monotonic()
        while True:
            version = connection.execute("PRAGMA data_version").fetchone()[0]
            if version != seen:
                seen, changed = version, time.monotonic()
                self._changed()
            busy = time.monotonic() - changed < _IDLE_AFTER
            if self._stop.wait(_BUSY_INTERVAL if busy else _IDLE_INTERVAL):
                return
