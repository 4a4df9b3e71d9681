"""Chooses the dialect for a URL or a pool, and imports only that dialect's driver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiotaskstore.errors import ConfigurationError
from aiotaskstore.mechanics.clock import Clock
from aiotaskstore.storage.storage import Storage
from aiotaskstore.storage.table_names import TableNames
from aiotaskstore.storage.url import parse_url

DEADLINE = 30.0
"""Seconds one call to the database may take before it counts as unavailable."""


def connect(
    target: str | Any,
    *,
    table_names: TableNames | None = None,
    clock: Clock | None = None,
    deadline: float = DEADLINE,
    pool_size: int = 10,
    listen_url: str | None = None,
) -> Storage:
    """Make an unopened Storage for a URL, or for a pool that the application owns.

    Raises `ConfigurationError` for an unknown kind of URL or pool, and for one whose driver is not installed.
    """
    table_names = table_names or TableNames()
    url = parse_url(target) if isinstance(target, str) else None
    dialect = url.dialect if url else _dialect_of(target)
    common: dict[str, Any] = {"table_names": table_names, "clock": clock, "deadline": deadline}
    if dialect == "postgresql":
        common |= {"pool_size": pool_size, "listen_url": _listen(listen_url)}
    elif dialect == "mysql":
        common["pool_size"] = pool_size
    database_class, tasks_class = _classes(dialect)
    database = database_class(url or target, **common)
    return Storage(database, tasks_class(database))


def check_target(target: str | Any, table_names: TableNames, listen_url: str | None) -> str:
    """Return the dialect of a URL or a pool without making a Storage. Raises the errors that `connect` raises."""
    dialect = parse_url(target).dialect if isinstance(target, str) else _dialect_of(target)
    _listen(listen_url)
    _classes(dialect)[0].check(table_names)
    return dialect


def _classes(dialect: str) -> tuple[type[Any], type[Any]]:
    if dialect == "postgresql":
        with _driver("PostgreSQL", "asyncpg", "postgres"):
            from aiotaskstore.storage.postgresql.database import PostgresDatabase  # noqa: PLC0415
            from aiotaskstore.storage.postgresql.tasks import PostgresTasks  # noqa: PLC0415

        return PostgresDatabase, PostgresTasks
    if dialect == "mysql":
        with _driver("MySQL or MariaDB", "aiomysql", "mysql"):
            from aiotaskstore.storage.mysql.database import MySQLDatabase  # noqa: PLC0415
            from aiotaskstore.storage.mysql.tasks import MySQLTasks  # noqa: PLC0415

        return MySQLDatabase, MySQLTasks
    from aiotaskstore.storage.sqlite.database import SqliteDatabase  # noqa: PLC0415
    from aiotaskstore.storage.sqlite.tasks import SqliteTasks  # noqa: PLC0415

    return SqliteDatabase, SqliteTasks


@contextmanager
def _driver(database: str, driver: str, extra: str) -> Iterator[None]:
    """Turn a missing driver into a `ConfigurationError` that names the package to install."""
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(
            f"{database} needs the driver {driver}, which is not installed. Run: pip install 'aiotaskstore[{extra}]'"
        ) from error


def _listen(url: str | None) -> str | None:
    if url is not None and not isinstance(url, str):
        raise ConfigurationError(f"listen_url is a URL, such as postgresql://user@host/name, not {url!r:.100}.")
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
