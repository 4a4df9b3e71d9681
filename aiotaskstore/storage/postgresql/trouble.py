"""PostgreSQL's errors as ours."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg

from aiotaskstore.errors import DatabaseUnavailableError, SchemaOutdatedError, TaskStoreError
from aiotaskstore.storage.database import Conflict
from aiotaskstore.storage.migrations import LATEST

_sql = logging.getLogger("aiotaskstore.sql")

_RETRY_STATES = {"40001", "40P01", "55P03"}
_GONE_STATES = {"57P01", "57P02", "57P03", "53300", "25006", "53100", "53200"}
_MISSING_STATES = {"42P01", "42703"}


@contextmanager
def translated() -> Iterator[None]:
    """Turn what asyncpg raises into what we raise."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise translate(error) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        if isinstance(error, ValueError):  # not where the server is, but what we gave the driver
            raise TaskStoreError(f"The driver asyncpg cannot take what it was given: {error}") from error
        raise DatabaseUnavailableError(f"PostgreSQL cannot be reached: {error or type(error).__name__}") from error


def translate(error: Any) -> TaskStoreError:
    """Choose our error for one of PostgreSQL's, by its SQLSTATE."""
    code = error.sqlstate or ""
    if code in _RETRY_STATES:
        return Conflict(f"{type(error).__name__}: {error}")
    if code in _MISSING_STATES:
        return SchemaOutdatedError(None, LATEST)
    if code.startswith("28"):
        return DatabaseUnavailableError(f"PostgreSQL refused the user or password: {error}")
    if code == "3D000":
        return DatabaseUnavailableError(f"PostgreSQL has no such database: {error}. Create it first.")
    if code in _GONE_STATES or code.startswith("08"):
        return DatabaseUnavailableError(f"PostgreSQL is not available: {error}")
    return TaskStoreError(f"PostgreSQL refused a statement ({type(error).__name__} {code}): {error}")


@contextmanager
def forgiving() -> Iterator[None]:
    """Let a connection that is gone already be gone: the error that matters is on its way."""
    try:
        yield
    except (
        asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TaskStoreError,
    ) as error:  # fmt: skip
        _sql.debug("while giving a connection back: %s", error)


def gone(connection: Any) -> bool:
    """Tell whether a connection is closed; a pool's refuses even this question once its link is lost."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True
