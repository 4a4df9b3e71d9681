"""The SQLite file: opens connections to it, and checks that its path still names it."""

from __future__ import annotations

import os
import sqlite3
from functools import partial
from pathlib import Path

from aiotaskstore.errors import DatabaseUnavailableError
from aiotaskstore.storage.faults import nothing_done
from aiotaskstore.storage.sqlite.error_translation import translated
from aiotaskstore.storage.sqlite.lock_wait import LockWait, lock_wait_of, retry_while_locked

BUSY_SLICE = 0.25
"""Seconds that SQLite itself waits for a lock, but not for the write lock, for which we wait ourselves."""


class DatabaseFile:
    """A SQLite file, or the memory of this process."""

    def __init__(self, path: str, deadline: float) -> None:
        self.path: str = path
        self._deadline = deadline
        self.in_memory: bool = path == ":memory:"
        self._identity: tuple[int, int] | None = None
        self.lock_wait: LockWait = LockWait()
        """How to wait for its write lock."""

    def connect(self, *, write: bool) -> sqlite3.Connection:
        """Open a connection; called in the thread that will use it."""
        if not self.in_memory and not Path(self.path).absolute().parent.is_dir():
            raise DatabaseUnavailableError(
                f"SQLite cannot open {self.path}: the folder {Path(self.path).absolute().parent} does not exist. "
                "Make it first."
            )
        if not self.in_memory and Path(self.path).is_dir():
            raise DatabaseUnavailableError(f"SQLite cannot open {self.path}: it is a folder. Name a file in it.")
        with translated(self.path):
            # A statement with a list of ids seldom has the same text again: 128 of them in the cache would fill 10 MB.
            raw = sqlite3.connect(
                self.path,
                isolation_level=None,
                check_same_thread=not self.in_memory,
                timeout=0 if write else BUSY_SLICE,
                cached_statements=32,
            )
            try:
                retry_while_locked(partial(_prepare, raw, write=write), self._deadline, self.path)
            except BaseException:
                raw.close()
                raise
        return raw

    def remember(self) -> None:
        """Record which file the path names now."""
        if not self.in_memory:
            self._identity = _identity(self.path)
            self.lock_wait = lock_wait_of(self._identity)

    def check(self) -> None:
        """Raise if the path no longer names the open file, since nobody would find what we write to it."""
        if self._identity is None:
            return
        try:
            found = _identity(self.path)
        except OSError:
            found = None
        if found != self._identity:
            raise nothing_done(
                f"The SQLite file {self.path} was deleted or replaced while the store was open. Close the store and "
                "open it again."
            )


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)  # noqa: PTH116 - once a batch, and a Path costs as much again
    return found.st_dev, found.st_ino


def _prepare(raw: sqlite3.Connection, *, write: bool) -> None:
    raw.execute("PRAGMA foreign_keys = ON")
    raw.execute("PRAGMA temp_store = MEMORY")
    raw.execute("PRAGMA cache_size = -16000")
    if write:
        # FULL: what was acknowledged survives a power cut; batches make it cost next to nothing.
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute("PRAGMA journal_size_limit = 67108864")
    else:
        raw.execute("PRAGMA query_only = ON")
