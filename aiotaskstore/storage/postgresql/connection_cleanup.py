"""Cleans up asyncpg connections, whatever their state: is it closed, close it by force, ignore late errors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg

from aiotaskstore.errors import TaskStoreError

_sql = logging.getLogger("aiotaskstore.sql")


@contextmanager
def suppress_cleanup_errors() -> Iterator[None]:
    """Log errors of cleaning up and continue: the error that matters has been raised already."""
    try:
        yield
    except (
        asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TaskStoreError,
    ) as error:  # fmt: skip
        _sql.debug("while cleaning up a connection: %s", error)


def is_closed(connection: Any) -> bool:
    """Return whether a connection is closed; a pool's connection raises even here once its link is lost."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True


def abort(connection: Any) -> None:
    """Close a connection by force, without waiting: every pending call on it fails at once."""
    try:
        connection.terminate()
    except asyncpg.InterfaceError as error:  # a pool's connection that is closed and returned already
        _sql.debug("while closing a connection: %s", error)
