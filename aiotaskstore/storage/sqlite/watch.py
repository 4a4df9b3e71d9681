"""Sees, by SQLite's own counter, that another connection has committed."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable

from aiotaskstore.storage.database import Ear

_AWAKE, _DROWSY, _DROWSY_AFTER = 0.005, 0.05, 5.0
"""Seconds between looks at data_version (2.6 µs each): while things happen, and after a quiet time."""


class FileEar(Ear):
    """A thread that sees, by SQLite's own counter, that another connection has committed."""

    def __init__(self, path: str, hint: Callable[[], None]) -> None:
        self._path, self._hint = path, hint
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="aiotaskstore-watch", daemon=True)
        self._thread.start()

    async def lost(self) -> None:
        await asyncio.Event().wait()

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()

    def _watch(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        try:
            connection.execute("PRAGMA query_only = 1")
            seen, changed = None, time.monotonic()
            while True:
                version = connection.execute("PRAGMA data_version").fetchone()[0]
                if version != seen:
                    seen, changed = version, time.monotonic()
                    self._hint()
                awake = time.monotonic() - changed < _DROWSY_AFTER
                if self._stop.wait(_AWAKE if awake else _DROWSY):
                    return
        finally:
            connection.close()
