"""The errors of an operation that decide whether it is run again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiotaskstore.errors import DatabaseUnavailableError, TaskStoreError


class Conflict(TaskStoreError):  # noqa: N818 - no failure: the operation is run again
    """The operation must run again, after a deadlock, a serialization failure or a lock held too long."""


class LockHeld(Conflict):
    """Another transaction holds a lock, and the operation did not wait for it, or waited too short a time."""


class AlreadyStored(TaskStoreError):  # noqa: N818 - whose row it is decides what it means
    """Another row has a value that must be unique: an id, or a key."""


def nothing_done(message: str) -> DatabaseUnavailableError:
    """Return the error for an unusable database, where nothing of the operation can be stored."""
    error = DatabaseUnavailableError(message)
    error.nothing_done = True
    return error


def connection_closed(driver: str) -> DatabaseUnavailableError:
    """Return the error for a transaction whose connection is closed."""
    return nothing_done(
        f"The {driver} connection of this transaction is closed: its link was lost, a statement took too long (see the "
        "errors before this one), or it was closed by hand. Nothing is stored by this call, and what the transaction "
        "had not committed is rolled back. Leave it, and begin another one on an open connection."
    )


@contextmanager
def explain_callers_conflict() -> Iterator[None]:
    """In the block, turn a `Conflict` in the caller's transaction into an error that asks the caller to run it again.

    Only the caller can: we do not know what else the transaction did.
    """
    with explain_conflict(
        "Your transaction met another one, and nothing is stored by this call. Roll your transaction back, and run all "
        "of it again; the database says:"
    ):
        yield


@contextmanager
def explain_conflict(message: str) -> Iterator[None]:
    """In the block, turn a `Conflict` into a `DatabaseUnavailableError` that begins with `message`.

    For operations that nobody runs again after a conflict.
    """
    try:
        yield
    except Conflict as conflict:
        raise nothing_done(f"{message} {conflict}") from conflict


def connection_lost(message: str) -> DatabaseUnavailableError:
    """Return the error for an open connection that broke; another connection may work at once."""
    error = DatabaseUnavailableError(message)
    error.connection_lost = True
    return error


def timed_out(message: str) -> DatabaseUnavailableError:
    """Return the error for a statement that took too long and was ended."""
    error = DatabaseUnavailableError(message)
    error.timed_out = True
    return error
