"""PostgreSQL: its connections, its transactions, and LISTEN/NOTIFY."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar

from aiotaskstore.errors import (
    ConfigurationError,
    DatabaseUnavailableError,
    NotInTransactionError,
    TaskStoreError,
)
from aiotaskstore.mechanics.clock import Clock
from aiotaskstore.mechanics.hint import NOTHING, Hint
from aiotaskstore.mechanics.loaded_types import is_instance
from aiotaskstore.mechanics.notifier import Subscriber
from aiotaskstore.mechanics.timed_event import TimedEvent
from aiotaskstore.storage.check import Check
from aiotaskstore.storage.database import NotificationListener
from aiotaskstore.storage.faults import connection_closed
from aiotaskstore.storage.operation import Call, Query, Rows, Step, Steps
from aiotaskstore.storage.postgresql import diagnosis
from aiotaskstore.storage.postgresql.application_pool import AsyncpgApplicationPool
from aiotaskstore.storage.postgresql.binding import PostgresBinder
from aiotaskstore.storage.postgresql.connection_cleanup import is_closed
from aiotaskstore.storage.postgresql.connections import PostgresConnector, open_listener
from aiotaskstore.storage.postgresql.error_translation import translated
from aiotaskstore.storage.postgresql.listener import PostgresListener
from aiotaskstore.storage.postgresql.session import PostgresSession
from aiotaskstore.storage.postgresql.syntax import SYNTAX
from aiotaskstore.storage.server import LentTransaction, ServerDatabase
from aiotaskstore.storage.session import Session
from aiotaskstore.storage.statements import Syntax
from aiotaskstore.storage.table_names import TableNames
from aiotaskstore.storage.url import DatabaseURL
from aiotaskstore.storage.watchdog import Watchdog

_log = logging.getLogger("aiotaskstore")

_PAYLOAD_LIMIT = 7_500
"""NOTIFY takes fewer than 8,000 bytes."""
_SELF_TEST = 2.0
"""Seconds after which the notification that a listener sends to itself counts as lost."""

_MIGRATION_LOCK = int.from_bytes(b"aiotasks")
"""The advisory lock that one migration at a time holds in a database."""
_MIGRATION = 3600.0
"""Seconds that a migration may take, since creating an index on a large table is slow."""

_LENT = (
    "Listening needs a connection of its own, and the application's pool lends none for good. "
    'Give it one, which goes to the same database: TaskStore(pool, listen_url="postgresql://…").'
)
_POOLED = (
    "A notification that it sent to itself did not arrive, as behind a pooler in transaction mode. "
    "Give the store listen_url=, a URL that leads to the server directly."
)
"""Explanations for people: why notifications do not arrive, and what to do."""


class PostgresDatabase(ServerDatabase):
    """A pool of asyncpg connections: ours, or the application's."""

    kind: ClassVar[str] = "postgresql"
    driver: ClassVar[str] = "asyncpg"
    syntax: ClassVar[Syntax] = SYNTAX
    joins: ClassVar[str] = "an asyncpg connection"
    joins_too: ClassVar[str] = "psycopg's AsyncConnection, and SQLAlchemy's AsyncSession or AsyncConnection on either"
    notifies_idle_dispatchers: ClassVar[bool] = True
    waking: ClassVar[str] = "notify"
    translated: ClassVar[Callable[[], AbstractContextManager[None]]] = staticmethod(translated)
    too_small: ClassVar[str] = (
        "store.transaction() needs a connection beside the one that the store works with, and the pool given has "
        "max_size=1. Give one with max_size=2 or more, or use .using(connection) with a connection of yours."
    )

    def __init__(
        self,
        target: DatabaseURL | Any,
        *,
        table_names: TableNames,
        clock: Clock | None,
        deadline: float,
        pool_size: int,
        listen_url: str | None,
    ) -> None:
        url = target if isinstance(target, DatabaseURL) else None
        pool = None if url else AsyncpgApplicationPool(target)
        connector = PostgresConnector(url.text if url else "")
        super().__init__(
            url, pool, connector, table_names=table_names, clock=clock, deadline=deadline, pool_size=pool_size
        )
        self.binder: PostgresBinder = PostgresBinder(self.statements, clock)
        self._postgres_connector = connector
        self._listen_url = listen_url or (url.text if url else None)
        self.channel: str = table_names.channel
        self.no_notifications = _POOLED if self._listen_url else _LENT

    async def open(self) -> None:
        if self._url is None:
            return
        try:
            if await self._is_pooled():
                # Each transaction may run in another server session, where other statements are prepared.
                _log.info("a pooler stands before PostgreSQL: prepared statements are off")
                self._postgres_connector.pooled = True
        except DatabaseUnavailableError as error:
            raise DatabaseUnavailableError(f"{error} ({self._url})") from error
        except (ValueError, TaskStoreError) as error:
            raise ConfigurationError(f"The PostgreSQL URL {self._url} cannot be used: {error}") from error

    async def _is_pooled(self) -> bool:
        """Return whether a pooler stands before the server: a pooler invents the process id that a client receives."""
        connection = await self._pool.acquire(self.deadline)
        pooled = True
        try:
            served_by: int = await self.bounded(connection, partial(connection.fetchval, "SELECT pg_backend_pid()"))
            pooled = bool(served_by != connection.get_server_pid())
        finally:
            if pooled:  # asyncpg may have prepared a statement on it already
                self._connector.abort(connection)
            self._pool.release(connection)
        return pooled

    async def version(self) -> str:
        rows = await self._run_one(Query("SELECT current_setting('server_version')", {}))
        return f"PostgreSQL {str(rows[0][0]).split()[0]}"

    async def session_on(self, connection: Any, limit: float) -> PostgresSession:  # noqa: ARG002 - nothing is asked
        return PostgresSession(self.binder, connection, joined=False, shared=self._application_pool is not None)

    async def begin_lent(self, connection: Any) -> LentTransaction:
        transaction = connection.transaction()
        await transaction.start()
        lent: LentTransaction = transaction
        return lent

    async def before_commit(self, connection: Any) -> None:
        if self._postgres_connector.pooled:
            # After the COMMIT the pooler may assign this server session to another client.
            await self._postgres_connector.clean_inside(connection)

    def checks(self) -> list[Check]:
        return diagnosis.checks(self, pooled=self._postgres_connector.pooled)

    def borrow(self, connection: Any) -> Session:
        if is_instance(connection, "psycopg", "AsyncConnection"):
            from aiotaskstore.storage.postgresql import psycopg_session  # noqa: PLC0415 - an optional package

            return psycopg_session.borrow(self.binder, connection)
        if not (hasattr(connection, "is_in_transaction") and hasattr(connection, "fetch")):
            raise self.no_connection_here("PostgreSQL", connection)
        if is_closed(connection):
            raise connection_closed("asyncpg")
        if not connection.is_in_transaction():
            raise NotInTransactionError("asyncpg", "async with connection.transaction():")
        return PostgresSession(self.binder, connection, joined=True)

    def instant(self, value: Any) -> datetime:
        assert isinstance(value, datetime)  # noqa: S101
        return value.astimezone(UTC)

    def unopened_copy(self) -> PostgresDatabase | None:
        if self._url is None:
            return None
        return PostgresDatabase(
            self._url,
            table_names=self.table_names,
            clock=self.clock,
            deadline=self.deadline,
            pool_size=1,
            listen_url=None,
        )

    async def migrate_on(self, work: Any) -> None:
        """Migrate in one transaction, under an advisory lock; a second process finds no migration left to apply.

        The lock comes first and is one for the whole database: making a schema or a table IF NOT EXISTS is no defence
        against another process that is making it at that moment, also for another prefix.
        """
        async with self.session() as session:
            with Watchdog(session.abort, _MIGRATION) as watchdog:
                await session.begin()
                try:
                    await session.run(Query(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})", {}))
                    await self._make_schema(session)
                    await work(session)
                except BaseException:
                    watchdog.hurry()
                    await session.rollback()
                    raise
                await session.commit()

    async def _make_schema(self, session: PostgresSession) -> None:
        """Make the schema if it is missing; only making it needs the privilege to create schemas."""
        name = self.table_names.schema
        if name and not await session.run(Query("SELECT 1 FROM pg_namespace WHERE nspname = :name", {"name": name})):
            await session.script(f"CREATE SCHEMA {self.table_names.quoted_schema}")

    @asynccontextmanager
    async def listen(self, receive: Subscriber) -> AsyncIterator[NotificationListener | None]:
        """Listen on a connection of our own, outside the pool, and test it by a notification to ourselves."""
        if self._listen_url is None:
            yield None
            return
        connection = await open_listener(self._listen_url)
        arrived = TimedEvent()

        def on_notification(_connection: Any, _pid: int, _channel: str, payload: object) -> None:
            arrived.set()
            receive(Hint.decode(str(payload)))

        try:
            with translated():
                await connection.add_listener(self.channel, on_notification)
            await self._run_one(self._notification("notify_always", NOTHING))
            yield PostgresListener(connection) if await arrived.wait(_SELF_TEST) else None
        finally:
            connection.terminate()

    async def notify(self, hint: Hint) -> None:
        await self._run_one(self._notification("notify_always" if hint.urgent else "notify_sleepers", hint))

    def notify_within(self, hint: Hint) -> Step | None:
        return self._notification("notify_always", hint)

    async def _run_one(self, step: Step) -> Rows:
        def run() -> Steps[Rows]:
            return (yield step)

        return await self.write(run)

    def _notification(self, statement: str, hint: Hint) -> Call:
        return Call(statement, {"channel": self.channel, "payload": hint.encode(_PAYLOAD_LIMIT)})
