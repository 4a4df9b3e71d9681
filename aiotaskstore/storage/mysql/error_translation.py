"""Translates MySQL's errors into ours."""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymysql import err

from aiotaskstore.errors import (
    ConfigurationError,
    DatabaseUnavailableError,
    PayloadError,
    SchemaOutdatedError,
    TaskStoreError,
)
from aiotaskstore.storage.faults import AlreadyStored, Conflict, LockHeld, connection_lost
from aiotaskstore.storage.migrations import LATEST

_HELD_KEY = re.compile(r"for key '(?:\w+\.)?held'$")
"""The index that lets one task hold a serialization key: two grants have chosen different tasks."""
_RETRY_CODES = {1213, 1020}
"""Deadlock, record changed (MariaDB's snapshot isolation)."""
_HELD_CODES = {1205, 3572}
"""A lock timeout (on MariaDB also NOWAIT), NOWAIT."""
_UNIQUE_CODES = {1062, 1586}
_REFUSED_CODES = {1044, 1045, 1698}
_TOO_LARGE_CODES = {1153, 1301, 3150}
"""A packet, a function's result or a JSON value beyond max_allowed_packet."""
_MISSING_CODES = {1146, 1054}
_NO_DATABASE = 1049
_LOST_CODES = {0, 1053, 1077, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2006, 2013, 2055}
"""An open connection was lost: a shutdown, a KILL, a broken link."""
_GONE_CODES = {1040, 1290, 1792, 1836}
_CLIENT_CODES = range(2000, 2100)


@contextmanager
def translated() -> Iterator[None]:
    """Turn the errors of aiomysql and asyncmy into our own."""
    try:
        yield
    except TaskStoreError:  # some of which are OSErrors
        raise
    except _drivers_errors() as error:
        raise translate(error) from error
    except (OSError, EOFError) as error:
        raise connection_lost(f"MySQL cannot be reached: {error or type(error).__name__}") from error
    except (RuntimeError, AttributeError, struct.error) as error:
        if "cryptography" in str(error):  # an optional dependency of PyMySQL, which MySQL 8's passwords need
            raise ConfigurationError(
                "This MySQL asks for the password in a way that needs another package: pip install aiotaskstore[mysql]"
            ) from error
        # aiomysql uses a connection that another call has just closed, so its reader and writer are None.
        raise connection_lost("The connection to MySQL was lost.") from error


def _drivers_errors() -> tuple[type[BaseException], ...]:
    """Return the base classes of the drivers' errors: aiomysql's, and asyncmy's if the application uses it."""
    asyncmy = sys.modules.get("asyncmy.errors")
    return (err.MySQLError,) if asyncmy is None else (err.MySQLError, asyncmy.MySQLError)


def translate(error: Any) -> TaskStoreError:  # noqa: C901 - a table of codes, one line each
    """Return our error for one of MySQL's, by its number."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    text = error.args[-1] if error.args else type(error).__name__
    if code in _HELD_CODES:
        return LockHeld(f"{code}: {text}")
    if code in _RETRY_CODES or (code in _UNIQUE_CODES and _HELD_KEY.search(str(text))):
        return Conflict(f"{code}: {text}")
    if code in _UNIQUE_CODES:
        return AlreadyStored(f"MySQL refused a row ({code}): {text}")
    if code in _TOO_LARGE_CODES:
        return PayloadError(
            f"MySQL takes no more in one statement (max_allowed_packet): {text}. Store less in one row, or raise "
            "max_allowed_packet on the server."
        )
    if code in _MISSING_CODES:
        return SchemaOutdatedError(None, LATEST, f"MySQL says: {text}.")
    if code in _REFUSED_CODES:
        return DatabaseUnavailableError(f"MySQL refused the user or password: {text}")
    if code == _NO_DATABASE:
        return DatabaseUnavailableError(f"MySQL has no such database: {text}. Create it first.")
    if code in _LOST_CODES:
        return connection_lost(f"The connection to MySQL was lost: {text}")
    if code in _GONE_CODES or code in _CLIENT_CODES:
        return DatabaseUnavailableError(f"MySQL is not available: {text}")
    return TaskStoreError(f"MySQL refused a statement ({code}): {text}")
