"""MySQL and MariaDB: aiomysql's pool and sessions."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit
from weakref import WeakSet

import aiomysql

from aiotaskstore.errors import (
    ConfigurationError,
    DatabaseUnavailableError,
    NotInTransactionError,
    TaskStoreError,
)
from aiotaskstore.roots import uncut
from aiotaskstore.storage.database import Database, Session, TestClock
from aiotaskstore.storage.mysql.literals import document, literal
from aiotaskstore.storage.mysql.trouble import translated
from aiotaskstore.storage.statements import Naming, Spelling, Statement, Statements
from aiotaskstore.storage.steps import Batch, Begin, Call, Query, Rows, Step
from aiotaskstore.storage.url import DatabaseURL

_sql = logging.getLogger("aiotaskstore.sql")


_READ_COMMITTED = "TRANSACTION ISOLATION LEVEL READ COMMITTED"
"""Leaves out most gap locks."""
_PREPARE = (
    f"SET SESSION {_READ_COMMITTED}",
    # Notes would come back as Python warnings, a round trip each.
    "SET SESSION sql_notes = 0, innodb_lock_wait_timeout = 5",
)


class MySQLSession(Session):
    """One aiomysql connection; inside a caller's transaction a savepoint stands for ours."""

    def __init__(self, database: MySQLDatabase, connection: Any, *, joined: bool) -> None:
        self._database, self._connection, self._joined = database, connection, joined

    async def begin(self) -> None:
        if self._joined:
            await self.query("SAVEPOINT aiotaskstore")
            return
        if not self._database.owns_pool:
            await self.query(f"SET {_READ_COMMITTED}")
        await self.query("START TRANSACTION")

    async def commit(self) -> None:
        await self.query("RELEASE SAVEPOINT aiotaskstore" if self._joined else "COMMIT")

    async def rollback(self) -> None:
        if self._connection.closed:
            return
        try:
            await self.query("ROLLBACK TO SAVEPOINT aiotaskstore" if self._joined else "ROLLBACK")
        except TaskStoreError as error:
            _sql.debug("the rollback did not arrive: %s", error)
            if not self._joined:
                self._connection.close()

    async def run(self, step: Step) -> Rows:
        return await self.query(self._database.render(step, self._connection))

    async def script(self, sql: str) -> None:
        """Run one statement of a migration."""
        await self.query(sql)

    async def query(self, sql: str) -> Rows:
        """Run one text whose values are already in it."""
        _sql.debug("%s", sql)
        with translated():
            cursor = await self._connection.cursor(aiomysql.Cursor)
            try:
                await cursor.execute(sql)
                rows: Rows = await cursor.fetchall()
            finally:
                await cursor.close()
        return rows


class MySQLDatabase(Database):
    """A pool of aiomysql connections: ours, or the application's."""

    kind: ClassVar[str] = "mysql"
    joins: ClassVar[str] = "an aiomysql connection"
    no_limit: ClassVar[str] = " LIMIT 18446744073709551615"

    def __init__(
        self,
        target: DatabaseURL | Any,
        *,
        naming: Naming,
        clock: TestClock | None,
        deadline: float,
        pool_size: int,
    ) -> None:
        super().__init__(naming=naming, clock=clock, deadline=deadline)
        self._url = target if isinstance(target, DatabaseURL) else None
        self._given = None if self._url else target
        self.owns_pool: bool = self._given is None
        self.skips_locked: bool = True
        """Whether claims may rest on SKIP LOCKED; `probe` finds out."""
        self._pool: Any = self._given
        self._pool_size = pool_size
        self._prepared: WeakSet[Any] = WeakSet()
        # aiomysql's pool wakes nobody when a closed connection comes back, so nobody may wait in it.
        self._places = asyncio.Semaphore(getattr(target, "maxsize", pool_size))
        if naming.schema:
            raise ConfigurationError("schema= is for PostgreSQL; on MySQL name the database in the URL.")

    def load(self) -> Statements:
        return Statements(
            self.kind,
            self.naming,
            Spelling(
                now=None if self.clock else "UTC_TIMESTAMP(6)",
                later=lambda x: f"(:now + INTERVAL ROUND(({x}) * 1000000) MICROSECOND)",
            ),
        )

    async def open(self) -> None:
        if self._url is None:
            return
        options = connect_options(self._url)

        async def connect() -> Any:
            # aiomysql's own limit ends with the TCP connection: a server that says nothing then is waited for.
            async with asyncio.timeout(options["connect_timeout"]):
                return await aiomysql.create_pool(minsize=1, maxsize=self._pool_size, pool_recycle=300, **options)

        try:
            with translated():
                self._pool = await uncut(connect(), undo=_discard)
        except TaskStoreError as error:
            raise type(error)(f"{error} ({self._url})") from error

    async def close(self) -> None:
        if self._given is None and self._pool is not None:
            pool, self._pool = self._pool, None
            await _discard(pool)

    async def version(self) -> str:
        async with self.session() as session:
            rows = await session.run(Query("SELECT version()", {}))
        text = str(rows[0][0])
        name = "MariaDB" if "mariadb" in text.lower() else "MySQL"
        return f"{name} {text.partition('-')[0]}"

    @asynccontextmanager
    async def session(self) -> AsyncIterator[MySQLSession]:
        async with self._lent() as connection:
            yield MySQLSession(self, connection, joined=False)

    def borrow(self, connection: Any) -> MySQLSession:
        if not (hasattr(connection, "get_transaction_status") and hasattr(connection, "get_autocommit")):
            raise ConfigurationError(
                f"This store is on MySQL: .using() takes {self.joins}, not {type(connection).__name__}."
            )
        if connection.closed:
            raise DatabaseUnavailableError("The aiomysql connection given to .using() is closed.")
        if connection.get_autocommit() and not connection.get_transaction_status():
            raise NotInTransactionError("aiomysql", "await connection.begin()")
        return MySQLSession(self, connection, joined=True)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with self._lent() as connection:
            with translated():
                await connection.begin()
            try:
                yield connection
            except BaseException:
                await MySQLSession(self, connection, joined=False).rollback()
                raise
            with translated():
                await connection.commit()

    def instant(self, value: Any) -> datetime:
        instant = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return instant.replace(tzinfo=UTC)

    def twin(self) -> MySQLDatabase | None:
        if self._url is None:
            return None
        return MySQLDatabase(self._url, naming=self.naming, clock=self.clock, deadline=self.deadline, pool_size=1)

    async def probe(self) -> None:
        """Look whether SKIP LOCKED skips what another connection has locked.

        A server may take the words and lock nothing (TiDB reports itself as MySQL 8 and does); then claims compete
        by guarded updates instead.
        """
        async with self.session() as holder, self._beside() as asker:
            await holder.begin()
            try:
                await holder.run(Call("probe_lock"))
                try:
                    self.skips_locked = not await asker.run(Call("probe_skip"))
                except DatabaseUnavailableError:
                    raise
                except TaskStoreError as error:
                    _sql.info("SKIP LOCKED is not to be had here: %s", error)
                    self.skips_locked = False
            finally:
                await holder.rollback()

    @asynccontextmanager
    async def _beside(self) -> AsyncIterator[MySQLSession]:
        """Lend a second connection, also where the pool has but one."""
        if self._url is None:
            async with self.session() as session:
                yield session
            return
        with translated():
            connection = await aiomysql.connect(**connect_options(self._url))
        try:
            yield MySQLSession(self, connection, joined=False)
        finally:
            connection.close()

    async def migrate_on(self, work: Any) -> None:
        """Every statement commits by itself here, so they are all repeatable, and a named lock keeps order."""
        async with self.session() as session:
            key = self.naming.key.encode().hex()[:64]
            rows = await session.query(f"SELECT GET_LOCK('{key}', 60)")
            if rows[0][0] != 1:
                raise DatabaseUnavailableError("Another process has been migrating for a minute; try again.")
            try:
                await work(session)
            finally:
                await session.query(f"SELECT RELEASE_LOCK('{key}')")

    def render(self, step: Step, connection: Any) -> str:
        """Write a step's values into its text: aiomysql has no server-side parameters to use instead."""
        assert not isinstance(step, Begin)  # noqa: S101 - drive() takes it
        if isinstance(step, Query):
            statement = self.statements.compile("query", step.sql)
        else:
            statement = self.statements[step.name]
        if isinstance(step, Batch):
            return self._fill(statement, {"rows": document(step.rows)}, connection)
        if "rows" in statement.names:
            ids = document([(id_,) for id_ in step.params["ids"]])
            return self._fill(statement, {**step.params, "rows": ids}, connection)
        return self._fill(statement, step.params, connection)

    def _fill(self, statement: Statement, params: Any, connection: Any) -> str:
        parts = [statement.pieces[0]]
        for name, after in zip(statement.names, statement.pieces[1:], strict=True):
            value = self._now() if name == "now" and name not in params else params[name]
            parts += (literal(value, connection), after)
        return "".join(parts)

    def _now(self) -> datetime:
        assert self.clock is not None  # noqa: S101 - without one, :now is the server's
        return self.clock()

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[Any]:
        """Lend a connection; one that was left in the middle of something is closed, never given back."""
        async with self._places, self._acquired() as connection:
            autocommit = connection.get_autocommit()
            if not autocommit:
                with translated():
                    await connection.autocommit(True)  # noqa: FBT003 - the driver's signature
            elif self.owns_pool and connection not in self._prepared:
                for sql in _PREPARE:
                    await MySQLSession(self, connection, joined=False).query(sql)
                self._prepared.add(connection)
            try:
                yield connection
            except DatabaseUnavailableError:
                raise
            except Exception:
                await _restore(connection, autocommit=autocommit)
                raise
            await _restore(connection, autocommit=autocommit)

    @asynccontextmanager
    async def _acquired(self) -> AsyncIterator[Any]:
        with translated():
            connection = await self._pool.acquire()
        try:
            yield connection
        except BaseException as error:
            if isinstance(error, DatabaseUnavailableError) or not isinstance(error, Exception):
                connection.close()
            raise
        finally:
            self._pool.release(connection)


async def _restore(connection: Any, *, autocommit: bool) -> None:
    """Leave a connection of the application's pool as it was lent."""
    if not autocommit:
        with translated():
            await connection.autocommit(False)  # noqa: FBT003


async def _discard(pool: Any) -> None:
    pool.terminate()
    with suppress(TaskStoreError, TimeoutError), translated():
        async with asyncio.timeout(5):
            await pool.wait_closed()


def connect_options(url: DatabaseURL) -> dict[str, Any]:
    """Read what aiomysql wants from a URL: address, credentials, TLS (`ssl=true|verify|/path/ca.pem`)."""
    parts = urlsplit(url.text)
    query = url.query
    options: dict[str, Any] = {
        "host": parts.hostname or "127.0.0.1",
        "port": parts.port or 3306,
        "user": unquote(parts.username or "root"),
        "password": unquote(parts.password or ""),
        "db": unquote(parts.path.removeprefix("/")),
        "charset": "utf8mb4",
        "autocommit": True,
        "connect_timeout": 10,
    }
    if "unix_socket" in query:
        options["unix_socket"] = query["unix_socket"]
    wanted = query.get("ssl", "false").lower()
    if wanted not in {"false", "0", ""}:
        try:
            context = ssl.create_default_context(cafile=query["ssl"] if "/" in wanted else None)
        except OSError as error:
            raise ConfigurationError(
                f"The certificate that {url} names cannot be read: {error}. Write ssl=true, verify or /path/ca.pem."
            ) from error
        if wanted in {"true", "1"}:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        options["ssl"] = context
    return options
