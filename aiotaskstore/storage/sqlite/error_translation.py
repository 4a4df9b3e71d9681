"""Translates SQLite's errors into ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from aiotaskstore.errors import SchemaOutdatedError, TaskStoreError
from aiotaskstore.storage.faults import AlreadyStored, Conflict, nothing_done
from aiotaskstore.storage.migrations import LATEST


@contextmanager
def translated(path: str = "the file") -> Iterator[None]:
    """Turn sqlite3's errors, which name no file, into our own."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path) from error
    except MemoryError as error:
        raise nothing_done("SQLite ran out of memory.") from error
    except OverflowError as error:
        raise TaskStoreError(f"SQLite stores whole numbers of 64 bits: {error}") from error


def translate(error: sqlite3.Error, path: str = "the file") -> TaskStoreError:
    """Return our error for one of SQLite's."""
    text = str(error)
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Conflict(f"The SQLite file is locked: {text}")
    if name in {"SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_UNIQUE"}:
        return AlreadyStored(f"SQLite refused a row: {text}")
    if "no such table" in text or "no such column" in text:
        return SchemaOutdatedError(None, LATEST, f"SQLite says: {text}.")
    if name == "SQLITE_FULL":
        return nothing_done(f"There is no room for {path} to grow: {text}")
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_IOERR")):
        return nothing_done(
            f"SQLite cannot use {path}: {text}. This process must be able to read and write the file, and to make "
            "others in its folder."
        )
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return nothing_done(f"SQLite finds no healthy database in {path}: {text}")
    return TaskStoreError(f"SQLite refused a statement ({name or type(error).__name__}): {text}")
