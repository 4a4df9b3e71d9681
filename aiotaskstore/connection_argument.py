"""Checks the connection that a caller passes to `using()` or `joined()`."""

from __future__ import annotations

from aiotaskstore.errors import ConfigurationError
from aiotaskstore.mechanics.loaded_types import described, is_instance

_BLOCKING: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("sqlalchemy.orm", ("Session", "scoped_session")),
    ("sqlalchemy.engine", ("Connection",)),
    ("psycopg", ("Connection",)),
    ("psycopg2.extensions", ("connection",)),
    ("pymysql.connections", ("Connection",)),
    ("MySQLdb.connections", ("Connection",)),
    ("sqlite3", ("Connection",)),
)
"""Connections whose calls block the event loop."""
_MAKERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("sqlalchemy.engine", ("Engine",)),
    ("sqlalchemy.orm", ("sessionmaker",)),
    ("sqlalchemy.ext.asyncio", ("AsyncEngine", "async_sessionmaker")),
    ("psycopg_pool", ("AsyncConnectionPool", "ConnectionPool")),
)
"""What connections come from; it has no transaction itself."""


def check_connection(connection: object) -> None:
    """Raise `ConfigurationError` for what cannot be a connection with the caller's transaction.

    With `None` a task would be stored outside the transaction. Whether a connection suits the store's database is
    checked where it is used.
    """
    if connection is None:
        raise ConfigurationError(
            "A connection with an open transaction is expected, such as asyncpg's, but None was given, which would "
            "enqueue outside any transaction. Leave using() or joined() out if that is meant."
        )
    if any(is_instance(connection, module, *names) for module, names in _BLOCKING):
        raise ConfigurationError(
            f"using() and joined() take asyncio connections, and {described(connection)} would block the event loop. "
            "Use the driver's asyncio connection; with SQLAlchemy, an AsyncSession or AsyncConnection of "
            "create_async_engine()."
        )
    if any(is_instance(connection, module, *names) for module, names in _MAKERS):
        raise ConfigurationError(
            f"using() and joined() take a connection or a session in whose transaction the task is stored, and "
            f"{described(connection)} only makes them. Begin a transaction on one of its connections, and pass that."
        )
