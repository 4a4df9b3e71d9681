"""The driver's connection beneath a SQLAlchemy session or connection, once SQLAlchemy has begun its transaction.

SQLAlchemy begins a transaction at its own first statement. Whatever went to the driver before that, asyncpg would
commit at once, so SQLAlchemy's statement comes first; then our statements are part of its transaction, and its commit
or rollback decides about them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session

from aiotaskstore.errors import ConfigurationError, NotInTransactionError, TaskStoreError
from aiotaskstore.mechanics.text import printable
from aiotaskstore.storage.faults import connection_closed, nothing_done

SqlalchemyTarget = AsyncConnection | AsyncSession | async_scoped_session[Any]
"""What the application may pass."""

_KINDS = {"postgresql": "postgresql", "mysql": "mysql", "mariadb": "mysql", "sqlite": "sqlite"}
"""The dialects of SQLAlchemy whose database we know by name, and how we call it."""
_SHOWN = 300
"""Characters of SQLAlchemy's message that ours repeats."""


def check_dialect(target: SqlalchemyTarget, kind: str, why_here: str) -> None:
    """Raise `ConfigurationError` if SQLAlchemy connects to another kind of database than the store.

    `why_here` says why the store is not where the application has it, if it is not.
    """
    found = _dialect(target)
    if _KINDS.get(found, kind) != kind:
        raise ConfigurationError(
            f"The store is on {kind}, and SQLAlchemy's {type(target).__name__} is on {found}: a task cannot be part of "
            "its transaction. " + (why_here or "Pass a session or connection to the store's own database.")
        )


async def begun_connection(target: SqlalchemyTarget, kind: str, limit: float, why_here: str) -> Any:
    """Return the driver's connection, in SQLAlchemy's transaction, which is begun if need be.

    In autocommit none is begun. Connecting and beginning may take `limit` seconds.
    """
    check_dialect(target, kind, why_here)
    try:
        with _translated(target):
            async with asyncio.timeout(limit):
                connection = await connection_of(target)
                driver = (await connection.get_raw_connection()).driver_connection
                if not _begun(connection, driver):
                    await connection.exec_driver_sql("SELECT 1")
    except TimeoutError as error:
        raise nothing_done(f"SQLAlchemy gave us no connection within {limit:g} s.") from error
    return driver


async def connection_of(target: SqlalchemyTarget) -> AsyncConnection:
    """Return the connection that a session works on, or the connection itself."""
    return target if isinstance(target, AsyncConnection) else await target.connection()


def _begun(connection: AsyncConnection, driver: Any) -> bool:
    """Return whether SQLAlchemy has begun its transaction, at the driver too where the driver does not do so itself."""
    in_transaction = getattr(driver, "is_in_transaction", None)  # asyncpg's
    return connection.in_transaction() and (in_transaction is None or bool(in_transaction()))


def _dialect(target: SqlalchemyTarget) -> str:
    """Return the name of SQLAlchemy's dialect; an empty text where only the session's own choice will tell."""
    if isinstance(target, AsyncConnection):
        return target.dialect.name
    try:
        return target.get_bind().dialect.name
    except exc.SQLAlchemyError:
        return ""


@contextmanager
def _translated(target: SqlalchemyTarget) -> Iterator[None]:
    """Turn SQLAlchemy's errors into our own."""
    try:
        yield
    except (exc.DBAPIError, exc.TimeoutError, exc.DisconnectionError) as error:
        reason = getattr(error, "orig", None) or error
        raise nothing_done(f"SQLAlchemy has no usable connection: {printable(reason, limit=_SHOWN)}") from error
    except exc.SQLAlchemyError as error:
        raise _refused(target, error) from error
    except TimeoutError:
        raise
    except OSError as error:
        raise nothing_done(f"SQLAlchemy cannot reach the database: {error or type(error).__name__}") from error


def _refused(target: SqlalchemyTarget, error: exc.SQLAlchemyError) -> TaskStoreError:
    name = type(target).__name__
    if isinstance(error, exc.UnboundExecutionError):
        return ConfigurationError(
            f"This {name} is bound to no one engine, so it cannot tell which connection is meant. Pass the connection "
            "itself: using(await session.connection(bind_arguments={…}))."
        )
    if isinstance(error, exc.ResourceClosedError):
        return connection_closed("SQLAlchemy")
    session = target() if isinstance(target, async_scoped_session) else target
    if isinstance(session, AsyncSession) and not session.in_transaction():  # it has autobegin=False
        return NotInTransactionError("SQLAlchemy", "async with session.begin():")
    return TaskStoreError(
        f"SQLAlchemy does not let this {name} be used now, and nothing is stored by this call. Roll it back, and run "
        f"your transaction again. It says: {printable(error, limit=_SHOWN)}"
    )
