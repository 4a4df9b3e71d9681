"""MySQL and MariaDB: connections, transactions, and features that differ between servers."""

from __future__ import annotations

import asyncio
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
from aiotaskstore.mechanics.hint import Hint
from aiotaskstore.mechanics.loaded_types import is_instance, is_sqlalchemy
from aiotaskstore.mechanics.notifier import Subscriber
from aiotaskstore.storage.check import Check
from aiotaskstore.storage.faults import connection_closed, explain_callers_conflict, explain_conflict, timed_out
from aiotaskstore.storage.mysql import diagnosis
from aiotaskstore.storage.mysql.application_pool import AiomysqlApplicationPool
from aiotaskstore.storage.mysql.binding import MySQLBinder
from aiotaskstore.storage.mysql.connections import MySQLConnector, abort, check_charset, query
from aiotaskstore.storage.mysql.error_translation import translated
from aiotaskstore.storage.mysql.options import connect_options
from aiotaskstore.storage.mysql.packets import PacketLimit
from aiotaskstore.storage.mysql.session import MySQLSession
from aiotaskstore.storage.mysql.syntax import SYNTAX
from aiotaskstore.storage.operation import Operation, Query, Rows, Steps, T
from aiotaskstore.storage.probing import skip_locked_works
from aiotaskstore.storage.running import run_operation
from aiotaskstore.storage.server import LentTransaction, ServerDatabase
from aiotaskstore.storage.statements import Syntax
from aiotaskstore.storage.table_names import TableNames
from aiotaskstore.storage.url import DatabaseURL
from aiotaskstore.storage.watchdog import CLEANUP, Watchdog

_sql = logging.getLogger("aiotaskstore.sql")

_MIGRATION = 600.0
"""Seconds that migrations may take, including the wait for another process that migrates."""


class MySQLDatabase(ServerDatabase):
    """A pool of aiomysql connections: ours, or the application's."""

    kind: ClassVar[str] = "mysql"
    driver: ClassVar[str] = "aiomysql"
    syntax: ClassVar[Syntax] = SYNTAX
    joins: ClassVar[str] = "an aiomysql connection"
    joins_too: ClassVar[str] = "one of asyncmy, and SQLAlchemy's AsyncSession or AsyncConnection on either"
    no_limit: ClassVar[str] = " LIMIT 18446744073709551615"
    translated: ClassVar[Callable[[], AbstractContextManager[None]]] = staticmethod(translated)
    too_small: ClassVar[str] = (
        "store.transaction() needs a connection beside the one that the store works with, and the pool given has "
        "maxsize=1. Give one with maxsize=2 or more, or use .using(connection) with a connection of yours."
    )

    def __init__(
        self,
        target: DatabaseURL | Any,
        *,
        table_names: TableNames,
        clock: Clock | None,
        deadline: float,
        pool_size: int,
    ) -> None:
        url = target if isinstance(target, DatabaseURL) else None
        pool = None if url else AiomysqlApplicationPool(target)
        connector = MySQLConnector(partial(connect_options, url) if url else dict)
        super().__init__(
            url, pool, connector, table_names=table_names, clock=clock, deadline=deadline, pool_size=pool_size
        )
        self.binder: MySQLBinder = MySQLBinder(self.statements, clock)
        self.packets: PacketLimit = PacketLimit()
        self.owns_pool: bool = pool is None
        self.skips_locked: bool = True
        """Whether claims may use SKIP LOCKED; `probe` tests it."""
        self.has_another: bool = pool is None or pool.size > 1
        self._second_connector = MySQLConnector(pool.options) if pool else connector
        """Opens connections outside any pool."""

    @classmethod
    def check(cls, table_names: TableNames) -> None:
        if table_names.schema:
            raise ConfigurationError("schema= is for PostgreSQL; on MySQL name the database in the URL.")

    async def open(self) -> None:
        if self._url is None:
            return
        try:
            async with self.session():
                pass
        except TaskStoreError as error:
            raise type(error)(f"{error} ({self._url})") from error

    async def version(self) -> str:
        def select_version() -> Steps[Rows]:
            return (yield Query("SELECT version()", {}))

        rows = await self.read(select_version)
        text = str(rows[0][0])
        name = "MariaDB" if "mariadb" in text.lower() else "MySQL"
        return f"{name} {text.partition('-')[0]}"

    async def session_on(self, connection: Any, limit: float) -> MySQLSession:
        """Make a session; the first one reads the server's largest packet."""
        if not self.packets.known:
            rows = await self.bounded(connection, partial(query, connection, "SELECT @@max_allowed_packet"), limit)
            self.packets.set(int(rows[0][0]))
        return MySQLSession(self, connection, joined=False)

    async def begin_lent(self, connection: Any) -> LentTransaction:
        await connection.begin()
        transaction: LentTransaction = connection  # a connection has commit() and rollback() itself
        return transaction

    def borrow(self, connection: Any) -> MySQLSession:
        driver, close_by_force = "aiomysql", partial(abort, connection)
        if is_instance(connection, "asyncmy.connection", "Connection"):
            from aiotaskstore.storage.mysql.asyncmy_connection import AsyncmyConnection  # noqa: PLC0415 - optional

            connection = AsyncmyConnection(connection)
            driver, close_by_force = "asyncmy", connection.abort
        if not (hasattr(connection, "get_transaction_status") and hasattr(connection, "get_autocommit")):
            raise self.no_connection_here("MySQL", connection)
        if connection.closed:
            raise connection_closed(driver)
        if connection.get_autocommit() and not connection.get_transaction_status():
            raise NotInTransactionError(driver, "await connection.begin()")
        check_charset(connection, driver)
        return MySQLSession(self, connection, joined=True, close_by_force=close_by_force)

    async def notify_after_commit(self, connection: Any, hint: Hint, notify: Subscriber) -> None:
        if not (hint and is_sqlalchemy(connection)):
            return
        from aiotaskstore.storage.sqlalchemy import commit_hints  # noqa: PLC0415 - an optional package

        await commit_hints.notify_after_commit(connection, hint, notify)

    async def _run_joined(self, connection: Any, operation: Operation[T], limit: float) -> T:
        session = self.borrow(connection)
        session.statement_limit = limit
        failed: Exception | None = None
        async with asyncio.TaskGroup() as group:
            guard = group.create_task(self._guard(session))
            try:
                result = await run_operation(operation(), session, limit + CLEANUP)
            except Exception as error:  # noqa: BLE001 - raised again outside of the group, which would wrap it
                failed = error
            finally:
                if not session.cut_off:  # else wait for its KILL, which must not end the caller's next statement
                    guard.cancel()
        if failed is None:
            return result
        if session.cut_off and isinstance(failed, TaskStoreError):
            raise timed_out(
                f"A statement in your transaction was not answered within {limit:g} s and was ended; another open "
                "transaction may hold what it needs."
            ) from failed
        with explain_callers_conflict():
            raise failed

    async def _guard(self, session: MySQLSession) -> None:
        try:
            await session.cut_off_late()
        except (TaskStoreError, TimeoutError) as error:
            _sql.debug("a statement that takes too long was not ended: %s", error)

    def by_ids(self, table: str) -> tuple[str, tuple[str, ...]]:
        # As in mysql.sql: by `id IN (…)` a small table is scanned, and locked whole.
        document = "JSON_TABLE(:rows, '$[*]' COLUMNS (hex CHAR(32) PATH '$[0]'))"
        wrapped = f"(SELECT hex FROM {document} j LIMIT 1000000) d"  # noqa: S608 - all of it is above
        return f"{wrapped} STRAIGHT_JOIN {table} FORCE INDEX (PRIMARY) ON {table}.id = UNHEX(d.hex)", ()

    def instant(self, value: Any) -> datetime:
        instant = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return instant.replace(tzinfo=UTC)

    def unopened_copy(self) -> MySQLDatabase | None:
        if self._url is None:
            return None
        return MySQLDatabase(
            self._url, table_names=self.table_names, clock=self.clock, deadline=self.deadline, pool_size=1
        )

    async def probe(self) -> None:
        """Test whether SKIP LOCKED works; where it does not, claims compete by guarded updates instead."""
        async with self.session() as holder, self._second_session() as other:
            with (
                Watchdog(holder.abort, self.deadline),
                Watchdog(other.abort, self.deadline),
                explain_conflict(
                    "What this server does about locks could not be found out. Start again; the database says:"
                ),
            ):
                self.skips_locked = await skip_locked_works(holder, other)

    @asynccontextmanager
    async def _second_session(self) -> AsyncIterator[MySQLSession]:
        """Open a second connection, even if the pool may have only one."""
        connection = await self._second_connector.connect()
        try:
            yield MySQLSession(self, connection, joined=False)
        finally:
            abort(connection)

    def checks(self) -> list[Check]:
        return diagnosis.checks(self, self._skipping)

    async def _skipping(self) -> bool:
        await self.probe()
        return self.skips_locked

    async def migrate_on(self, work: Any) -> None:
        """Run migrations under a named lock. Each DDL statement commits by itself, so all of them may be repeated."""
        async with self.session() as session:
            with Watchdog(session.abort, _MIGRATION):
                key = self.table_names.key.encode().hex()[:64]
                rows = await session.query(f"SELECT GET_LOCK('{key}', 60)")
                if rows[0][0] != 1:
                    raise DatabaseUnavailableError("Another process has been migrating for a minute; try again.")
                try:
                    await work(session)
                finally:
                    await session.query(f"SELECT RELEASE_LOCK('{key}')")
