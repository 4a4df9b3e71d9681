"""Translates PostgreSQL's errors into ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg

from aiotaskstore.errors import DatabaseUnavailableError, SchemaOutdatedError, TaskStoreError
from aiotaskstore.storage.faults import AlreadyStored, Conflict, LockHeld, connection_lost
from aiotaskstore.storage.migrations import LATEST

_RETRY_STATES = {"40001", "40P01"}
_HELD_KEY = "tasks_held"
"""The index that lets one task hold a serialization key: two grants have chosen different tasks."""
_HELD_STATE = "55P03"
_UNIQUE_STATE = "23505"
_LOST_STATES = {"57P01", "57P02", "57P05", "25P03"}
"""The server ended this session: a shutdown, a crash, a session or a transaction that was idle for too long."""
_GONE_STATES = {"57P03", "53300", "25006", "53100", "53200"}
_MISSING_STATES = {"42P01", "42703"}


@contextmanager
def translated() -> Iterator[None]:
    """Turn asyncpg's errors into our own."""
    try:
        yield
    except TaskStoreError:  # some of which are OSErrors
        raise
    except asyncpg.PostgresError as error:
        raise translate(error) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if isinstance(error, ValueError):  # the driver refuses an argument
            raise TaskStoreError(f"The driver asyncpg cannot take what it was given: {error}") from error
        # The driver's messages describe its own state ("cannot switch to state 12"), which helps nobody.
        raise connection_lost("The connection to PostgreSQL was lost, or another task is using it.") from error
    except TimeoutError as error:
        raise connection_lost("PostgreSQL cannot be reached: it does not answer.") from error
    except OSError as error:
        raise connection_lost(f"PostgreSQL cannot be reached: {error or type(error).__name__}") from error


def translate(error: Any) -> TaskStoreError:  # noqa: C901 - a table of codes, one line each
    """Return our error for one of PostgreSQL's, by its SQLSTATE."""
    code = error.sqlstate or ""
    if code == _HELD_STATE:
        return LockHeld(f"{type(error).__name__}: {error}")
    if code in _RETRY_STATES or (code == _UNIQUE_STATE and str(error.constraint_name).endswith(_HELD_KEY)):
        return Conflict(f"{type(error).__name__}: {error}")
    if code == _UNIQUE_STATE:
        return AlreadyStored(f"PostgreSQL refused a row: {error}")
    if code in _MISSING_STATES:
        return SchemaOutdatedError(None, LATEST, f"PostgreSQL says: {error}.")
    if code.startswith("28"):
        return DatabaseUnavailableError(f"PostgreSQL refused the user or password: {error}")
    if code == "3D000":
        return DatabaseUnavailableError(f"PostgreSQL has no such database: {error}. Create it first.")
    if code.startswith("08"):
        return connection_lost("The connection to PostgreSQL was lost.")
    if code in _LOST_STATES:
        return connection_lost(f"PostgreSQL ended the connection: {error}")
    if code in _GONE_STATES:
        return DatabaseUnavailableError(f"PostgreSQL is not available: {error}")
    return TaskStoreError(f"PostgreSQL refused a statement ({type(error).__name__} {code}): {error}")
