"""Picks the dialect for a URL or a pool; only then is its driver imported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiotaskstore.errors import ConfigurationError
from aiotaskstore.storage.database import Database, TestClock
from aiotaskstore.storage.statements import Naming
from aiotaskstore.storage.storage import Storage
from aiotaskstore.storage.url import DatabaseURL, parse_url

DEADLINE = 30.0
"""Seconds one call to the database may take before it counts as unavailable."""


def connect(
    target: str | Any,
    *,
    naming: Naming | None = None,
    clock: TestClock | None = None,
    deadline: float = DEADLINE,
    pool_size: int = 10,
    listen_url: str | None = None,
) -> Storage:
    """Make an unopened Storage for a URL, or for a pool that the application owns.

    Raises `ConfigurationError` for a URL or pool that is not one of ours, or whose driver is not installed.
    """
    naming = naming or Naming()
    url = parse_url(target) if isinstance(target, str) else None
    dialect = url.dialect if url else _dialect_of(target)
    common: dict[str, Any] = {"naming": naming, "clock": clock, "deadline": deadline}
    database: Database
    if dialect == "postgresql":
        with _driver("PostgreSQL", "asyncpg", "postgres"):
            from aiotaskstore.storage.postgresql.database import PostgresDatabase  # noqa: PLC0415
            from aiotaskstore.storage.postgresql.tasks import PostgresTasks  # noqa: PLC0415

        database = PostgresDatabase(url or target, pool_size=pool_size, listen_url=_listen(listen_url), **common)
        return Storage(database, PostgresTasks(database))
    if dialect == "mysql":
        with _driver("MySQL or MariaDB", "aiomysql", "mysql"):
            from aiotaskstore.storage.mysql.database import MySQLDatabase  # noqa: PLC0415
            from aiotaskstore.storage.mysql.tasks import MySQLTasks  # noqa: PLC0415

        database = MySQLDatabase(url or target, pool_size=pool_size, **common)
        return Storage(database, MySQLTasks(database))
    from aiotaskstore.storage.sqlite.database import SqliteDatabase  # noqa: PLC0415
    from aiotaskstore.storage.sqlite.tasks import SqliteTasks  # noqa: PLC0415

    assert isinstance(url, DatabaseURL)  # noqa: S101 - nothing but a URL names a SQLite file
    database = SqliteDatabase(url, **common)
    return Storage(database, SqliteTasks(database))


@contextmanager
def _driver(database: str, driver: str, extra: str) -> Iterator[None]:
    """Say what to install where a driver is missing."""
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(
            f"{database} needs the driver {driver}, which is not installed. Run: pip install 'aiotaskstore[{extra}]'"
        ) from error


def _listen(url: str | None) -> str | None:
    return None if url is None else parse_url(url).text


def _dialect_of(pool: Any) -> str:
    module = type(pool).__module__.partition(".")[0]
    if module == "asyncpg" and hasattr(pool, "acquire"):
        return "postgresql"
    if module == "aiomysql" and hasattr(pool, "acquire"):
        return "mysql"
    raise ConfigurationError(
        f"A store is opened on a URL, an asyncpg pool or an aiomysql pool, not on {type(pool).__name__}."
    )
