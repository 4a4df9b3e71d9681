"""SQLite's errors as ours, and patience with its one write lock."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiotaskstore.errors import DatabaseUnavailableError, SchemaOutdatedError, TaskStoreError
from aiotaskstore.storage.database import Conflict
from aiotaskstore.storage.migrations import LATEST


def patiently(work: Callable[[], object], deadline: float) -> None:
    """Try until the lock is free; other processes on the file hold it for milliseconds."""
    until = time.monotonic() + deadline
    while True:
        try:
            with translated():
                work()
        except Conflict as conflict:
            if time.monotonic() > until:
                raise DatabaseUnavailableError(
                    f"Another process has held the file's lock for {deadline:g} s."
                ) from conflict
        else:
            return


@contextmanager
def translated() -> Iterator[None]:
    """Turn what sqlite3 raises into what we raise."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error) from error


def translate(error: sqlite3.Error) -> TaskStoreError:
    """Choose our error for one of SQLite's."""
    text = str(error)
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Conflict(f"The SQLite file is locked: {text}")
    if "no such table" in text or "no such column" in text:
        return SchemaOutdatedError(None, LATEST)
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_FULL", "SQLITE_IOERR")):
        return DatabaseUnavailableError(f"SQLite cannot use the file: {text}")
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return DatabaseUnavailableError(f"The file is not a healthy SQLite database: {text}")
    return TaskStoreError(f"SQLite refused a statement ({name or type(error).__name__}): {text}")
