"""MySQL's errors as ours."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymysql import err

from aiotaskstore.errors import DatabaseUnavailableError, SchemaOutdatedError, TaskStoreError
from aiotaskstore.storage.database import Conflict
from aiotaskstore.storage.migrations import LATEST

_RETRY_CODES = {1213, 1205, 1020, 3572}
"""Deadlock, lock wait, record changed (MariaDB's snapshot isolation), NOWAIT."""
_REFUSED_CODES = {1044, 1045, 1698}
_MISSING_CODES = {1146, 1054}
_NO_DATABASE = 1049
_GONE_CODES = {0, 1040, 1053, 1077, 1152, 1158, 1159, 1160, 1161, 1184, 1290, 1792, 1836, 1927}
_CLIENT_CODES = range(2000, 2100)


@contextmanager
def translated() -> Iterator[None]:
    """Turn what aiomysql raises into what we raise."""
    try:
        yield
    except err.MySQLError as error:
        raise translate(error) from error
    except (OSError, EOFError) as error:
        raise DatabaseUnavailableError(f"MySQL cannot be reached: {error or type(error).__name__}") from error
    except (RuntimeError, AttributeError, struct.error) as error:
        # aiomysql uses a connection that another call has just closed: no reader, no writer.
        raise DatabaseUnavailableError(f"The MySQL connection was closed: {error}") from error


def translate(error: Any) -> TaskStoreError:
    """Choose our error for one of MySQL's, by its number."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    text = error.args[-1] if error.args else type(error).__name__
    if code in _RETRY_CODES:
        return Conflict(f"{code}: {text}")
    if code in _MISSING_CODES:
        return SchemaOutdatedError(None, LATEST)
    if code in _REFUSED_CODES:
        return DatabaseUnavailableError(f"MySQL refused the user or password: {text}")
    if code == _NO_DATABASE:
        return DatabaseUnavailableError(f"MySQL has no such database: {text}. Create it first.")
    if code in _GONE_CODES or code in _CLIENT_CODES:
        return DatabaseUnavailableError(f"MySQL is not available: {text}")
    return TaskStoreError(f"MySQL refused a statement ({code}): {text}")
