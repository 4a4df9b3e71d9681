"""PostgreSQL: asyncpg's pool, sessions, and LISTEN/NOTIFY."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, ClassVar

import asyncpg

from aiotaskstore.errors import (
    ConfigurationError,
    DatabaseUnavailableError,
    NotInTransactionError,
    TaskStoreError,
)
from aiotaskstore.storage.database import CANCEL, Database, Ear, Hint, Session, TestClock
from aiotaskstore.storage.postgresql.ear import PostgresEar
from aiotaskstore.storage.postgresql.trouble import forgiving, gone, translated
from aiotaskstore.storage.statements import Naming, Spelling, Statement, Statements
from aiotaskstore.storage.steps import Batch, Begin, Call, Query, Rows, Step, Unit
from aiotaskstore.storage.url import DatabaseURL

_log = logging.getLogger("aiotaskstore")
_sql = logging.getLogger("aiotaskstore.sql")

_CANCEL = "cancel"
"""The payload that asks for a look at cancel requests; the others are JSON lists of queues."""
_PAYLOAD_LIMIT = 7_500
"""NOTIFY takes fewer than 8,000 bytes."""
_SELF_TEST = 2.0
"""Seconds a notification of our own may take before we say that they do not arrive."""


class Compiled:
    """One statement as asyncpg takes it: `$1 …`, and which parameter goes where."""

    __slots__ = ("order", "sql")

    def __init__(self, statement: Statement) -> None:
        numbers: dict[str, int] = {}
        sql = statement.pieces[0]
        for name, after in zip(statement.names, statement.pieces[1:], strict=True):
            number = numbers.setdefault(name, len(numbers) + 1)
            if sql.endswith(" IN "):
                sql = f"{sql[:-3]}= ANY(${number}){after}"
            else:
                sql = f"{sql}${number}{after}"
        self.sql: str = sql
        self.order: tuple[str, ...] = tuple(numbers)


class PostgresSession(Session):
    """One asyncpg connection; inside a caller's transaction a savepoint stands for ours."""

    def __init__(self, database: PostgresDatabase, connection: Any, *, joined: bool) -> None:
        self._database, self._connection, self._joined = database, connection, joined

    async def begin(self) -> None:
        await self._plain("SAVEPOINT aiotaskstore" if self._joined else "BEGIN ISOLATION LEVEL READ COMMITTED")

    async def commit(self) -> None:
        await self._plain("RELEASE SAVEPOINT aiotaskstore" if self._joined else "COMMIT")

    async def rollback(self) -> None:
        if gone(self._connection):
            return
        with forgiving():
            await self._plain("ROLLBACK TO SAVEPOINT aiotaskstore" if self._joined else "ROLLBACK")

    async def run(self, step: Step) -> Rows:
        assert not isinstance(step, Begin)  # noqa: S101 - drive() takes it
        compiled, arguments = self._database.bind(step)
        _sql.debug("%s", compiled.sql)
        with translated():
            rows: Rows = await self._connection.fetch(compiled.sql, *arguments)
        return rows

    async def script(self, sql: str) -> None:
        """Run one statement of a migration."""
        await self._plain(sql)

    async def _plain(self, sql: str) -> None:
        _sql.debug("%s", sql)
        with translated():
            await self._connection.execute(sql)


class PostgresDatabase(Database):
    """A pool of asyncpg connections: ours, or the application's."""

    kind: ClassVar[str] = "postgresql"
    joins: ClassVar[str] = "an asyncpg connection"
    wakes_sleepers: ClassVar[bool] = True
    waking: ClassVar[str] = "notify"

    def __init__(
        self,
        target: DatabaseURL | Any,
        *,
        naming: Naming,
        clock: TestClock | None,
        deadline: float,
        pool_size: int,
        listen_url: str | None,
    ) -> None:
        super().__init__(naming=naming, clock=clock, deadline=deadline)
        self._url = target if isinstance(target, DatabaseURL) else None
        self._given = None if self._url else target
        self._pool: Any = self._given
        self._pool_size = pool_size
        self._listen_url = listen_url or (self._url.text if self._url else None)
        self._compiled: dict[str, Compiled] = {}
        self.channel: str = f"aiotaskstore:{naming.key}"

    def load(self) -> Statements:
        return Statements(
            self.kind,
            self.naming,
            Spelling(
                now=None if self.clock else "statement_timestamp()",
                later=lambda x: f"(:now + ({x})::float8 * interval '1 second')",
                instant="::timestamptz",
            ),
        )

    async def open(self) -> None:
        if self._url is None:
            return
        try:
            with translated():
                self._pool = await self._connect(self._url.text)
                if await self._is_pooled():
                    # The server behind may change with each transaction, and with it what is prepared.
                    _log.info("a pooler stands before PostgreSQL: prepared statements are off")
                    await self._pool.close()
                    self._pool = await self._connect(self._url.text, statement_cache_size=0)
        except BaseException as error:
            if self._pool is not None:
                self._pool.terminate()
                self._pool = None
            if isinstance(error, DatabaseUnavailableError):
                raise DatabaseUnavailableError(f"{error} ({self._url})") from error
            if isinstance(error, ValueError | TaskStoreError):
                raise ConfigurationError(f"The PostgreSQL URL {self._url} cannot be used: {error}") from error
            raise

    async def _connect(self, dsn: str, **options: Any) -> Any:
        pool = asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=self._pool_size,
            max_inactive_connection_lifetime=300,
            init=_plan_anew,
            reset=_keep_session,
            server_settings={"application_name": "aiotaskstore"},
            timeout=10,
            **options,
        )
        try:
            return await pool
        except BaseException:
            pool.terminate()
            raise

    async def _is_pooled(self) -> bool:
        """Tell whether a pooler answers for the server: it makes up the process id that a client is told."""
        async with self._pool.acquire() as connection, connection.transaction():
            served_by: int = await connection.fetchval("SELECT pg_backend_pid()")
            told: int = connection.get_server_pid()
        return served_by != told

    async def close(self) -> None:
        if self._given is None and self._pool is not None:
            pool, self._pool = self._pool, None
            try:
                async with asyncio.timeout(5):
                    await pool.close()
            except TimeoutError:
                pool.terminate()

    async def version(self) -> str:
        async with self.session() as session:
            rows = await session.run(Query("SELECT current_setting('server_version')", {}))
        return f"PostgreSQL {str(rows[0][0]).split()[0]}"

    @asynccontextmanager
    async def session(self) -> AsyncIterator[PostgresSession]:
        with translated():
            connection = await self._pool.acquire()
        try:
            yield PostgresSession(self, connection, joined=False)
        finally:
            with forgiving():
                await self._pool.release(connection)

    def borrow(self, connection: Any) -> PostgresSession:
        if not (hasattr(connection, "is_in_transaction") and hasattr(connection, "fetch")):
            raise ConfigurationError(
                f"This store is on PostgreSQL: .using() takes {self.joins}, not {type(connection).__name__}."
            )
        if gone(connection):
            raise DatabaseUnavailableError("The asyncpg connection given to .using() is closed.")
        if not connection.is_in_transaction():
            raise NotInTransactionError("asyncpg", "async with connection.transaction():")
        return PostgresSession(self, connection, joined=True)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        with translated():
            connection = await self._pool.acquire()
        try:
            transaction = connection.transaction()
            with translated():
                await transaction.start()
            try:
                yield connection
            except BaseException:
                if not gone(connection):
                    with forgiving():
                        await transaction.rollback()
                raise
            with translated():
                await transaction.commit()
        finally:
            with forgiving():
                await self._pool.release(connection)

    def instant(self, value: Any) -> datetime:
        assert isinstance(value, datetime)  # noqa: S101
        return value.astimezone(UTC)

    def twin(self) -> PostgresDatabase | None:
        if self._url is None:
            return None
        return PostgresDatabase(
            self._url,
            naming=self.naming,
            clock=self.clock,
            deadline=self.deadline,
            pool_size=1,
            listen_url=None,
        )

    async def migrate_on(self, work: Any) -> None:
        """One transaction under an advisory lock: whoever comes second finds the work done."""
        async with self.session() as session:
            await session.begin()
            try:
                if self.naming.schema:
                    await session.script(f"CREATE SCHEMA IF NOT EXISTS {self.naming.schema}")
                await session.run(
                    Query("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))", {"key": self.channel})
                )
                await work(session)
            except BaseException:
                await session.rollback()
                raise
            await session.commit()

    @asynccontextmanager
    async def listen(self, hint: Hint) -> AsyncIterator[Ear | None]:
        """Listen on a connection of our own, outside the pool, and prove it by hearing ourselves once."""
        if self._listen_url is None:
            yield None
            return
        with translated():
            connection = await asyncpg.connect(self._listen_url, timeout=10, command_timeout=10)
        heard = asyncio.Event()

        def on_notification(_connection: Any, _pid: int, _channel: str, payload: object) -> None:
            heard.set()
            hint(CANCEL if payload == _CANCEL else frozenset(json.loads(str(payload))))

        try:
            with translated():
                await connection.add_listener(self.channel, on_notification)
                await self._pool.execute("SELECT pg_notify($1, '[]')", self.channel)
            with suppress(TimeoutError):
                async with asyncio.timeout(_SELF_TEST):
                    await heard.wait()
            yield PostgresEar(connection) if heard.is_set() else None
        finally:
            connection.terminate()

    async def notify(self, queues: frozenset[str]) -> None:
        step = self._notice("notify_always" if queues == CANCEL else "notify_sleepers", queues)

        def tell() -> Unit[None]:
            yield step

        await self.write(tell)

    def notify_within(self, queues: frozenset[str]) -> Step | None:
        return self._notice("notify_always", queues)

    def _notice(self, statement: str, queues: frozenset[str]) -> Call:
        payload = _CANCEL if queues == CANCEL else json.dumps(sorted(queues))
        if len(payload.encode()) > _PAYLOAD_LIMIT:
            payload = "[]"
        return Call(statement, {"channel": self.channel, "payload": payload})

    def bind(self, step: Step) -> tuple[Compiled, list[Any]]:
        """Put a step's values in the order its statement wants them."""
        if isinstance(step, Query):
            compiled = Compiled(self.statements.compile("query", step.sql))
            return compiled, [self._value(step.params, name) for name in compiled.order]
        assert not isinstance(step, Begin)  # noqa: S101 - drive() takes it
        compiled = self._compiled.get(step.name) or self._compile(step.name)
        if isinstance(step, Batch):
            columns = list(zip(*step.rows, strict=True))
            at = {name: index for index, name in enumerate(step.fields)}
            return compiled, [columns[at[name]] if name in at else self._now() for name in compiled.order]
        return compiled, [self._value(step.params, name) for name in compiled.order]

    def _compile(self, name: str) -> Compiled:
        compiled = self._compiled[name] = Compiled(self.statements[name])
        return compiled

    def _value(self, params: Any, name: str) -> Any:
        return self._now() if name == "now" and name not in params else params[name]

    def _now(self) -> datetime:
        assert self.clock is not None  # noqa: S101 - without one, :now is the server's
        return self.clock()


async def _plan_anew(connection: Any) -> None:
    """Have every execution planned for the table as it is now, unless a pooler stands in between.

    PostgreSQL keeps a plan from the sixth execution on, and a growing table does not end it: a finish planned while
    the queue was empty read all of 200,000 rows from then on (970 ms a thousand, not 8), until the next ANALYZE.
    Nor may it gather all that is due in a bitmap, because it believes that to be one row, and sort it.
    """
    await connection.execute(
        "SELECT set_config('plan_cache_mode', 'force_custom_plan', false), "
        "set_config('enable_bitmapscan', 'off', false) "
        f"WHERE pg_backend_pid() = {int(connection.get_server_pid())}"
    )


async def _keep_session(_connection: Any) -> None:
    """Our sessions change no setting back, so giving one back needs no round trip (60-100 µs saved each)."""
