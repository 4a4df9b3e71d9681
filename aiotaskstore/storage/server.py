"""What PostgreSQL and MySQL have in common: connections from a pool of ours, or from a pool of the application."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Any, ClassVar, Protocol

from aiotaskstore.errors import DatabaseUnavailableError, TaskStoreError
from aiotaskstore.mechanics.clock import Clock
from aiotaskstore.storage.database import Database
from aiotaskstore.storage.faults import explain_callers_conflict, timed_out
from aiotaskstore.storage.operation import T
from aiotaskstore.storage.pool import Connector, Pool
from aiotaskstore.storage.session import Session
from aiotaskstore.storage.table_names import TableNames
from aiotaskstore.storage.transaction_limiter import TransactionLimiter
from aiotaskstore.storage.url import DatabaseURL
from aiotaskstore.storage.watchdog import CLEANUP, Watchdog

_A_DISPATCHERS_OWN = 2
"""Connections of a dispatcher beside the store's: for its heartbeat, and to listen."""


class ServerConnector(Connector[Any]):
    """A connector that can also reset the session of a connection."""

    @abstractmethod
    async def clean(self, connection: Any) -> None:
        """Undo every change that the application may have made to a session; close the connection if that fails."""


class ApplicationPool(Protocol):
    """A driver's pool that belongs to the application; the store never closes it."""

    @property
    def size(self) -> int:
        """How many connections the pool may open."""

    def lend(self, deadline: float) -> AbstractAsyncContextManager[Any]:
        """Lend a connection within `deadline` seconds; it is returned unchanged or closed."""

    def lend_to_application(self, deadline: float) -> AbstractAsyncContextManager[Any]:
        """Lend a connection to the application, which may change its session in any way."""


class LentTransaction(Protocol):
    """The driver's transaction, lent to the application."""

    async def commit(self) -> None:
        """Commit the transaction."""

    async def rollback(self) -> None:
        """Roll the transaction back."""


class ServerDatabase(Database):
    """A database behind a pool of connections: a pool of ours, or the application's."""

    too_small: ClassVar[str]
    """An explanation for people: why the application's pool has no connection for `transaction()`, and what to do."""

    def __init__(
        self,
        url: DatabaseURL | None,
        application_pool: ApplicationPool | None,
        connector: ServerConnector,
        *,
        table_names: TableNames,
        clock: Clock | None,
        deadline: float,
        pool_size: int,
    ) -> None:
        super().__init__(table_names=table_names, clock=clock, deadline=deadline)
        self._url, self._application_pool, self._connector = url, application_pool, connector
        self._pool: Pool[Any] = Pool(connector, pool_size)
        self.most_connections: int = 2 * pool_size + _A_DISPATCHERS_OWN
        """How many connections the store of one dispatcher may open."""
        self._lent: Pool[Any] = Pool(connector, pool_size)
        """Only for the application's transactions: our statements never run in a session that it has changed."""
        self._transactions = TransactionLimiter(
            application_pool.size - 1 if application_pool else pool_size, self.too_small
        )

    @staticmethod
    @abstractmethod
    def translated() -> AbstractContextManager[None]:
        """Turn the driver's errors into our own."""

    @abstractmethod
    async def session_on(self, connection: Any, limit: float) -> Session:
        """Make a session of a connection of ours; a query that it needs first takes at most `limit` seconds."""

    @abstractmethod
    async def begin_lent(self, connection: Any) -> LentTransaction:
        """Begin a transaction for the application."""

    async def before_commit(self, connection: Any) -> None:
        """Run the last statement of the application's transaction, where the dialect needs one."""

    async def close(self) -> None:
        try:
            await self._pool.close()
        finally:
            await self._lent.close()

    @asynccontextmanager
    async def session(self, limit: float | None = None) -> AsyncIterator[Any]:
        limit = self.deadline if limit is None else limit
        if self._application_pool is not None:
            async with self._application_pool.lend(limit) as connection:
                yield await self.session_on(connection, limit)
            return
        connection = await self._pool.acquire(limit)
        try:
            yield await self.session_on(connection, limit)
        finally:
            self._pool.release(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with self._transactions.place(), self._for_the_application() as connection:
            transaction = await self.bounded(connection, partial(self.begin_lent, connection))
            try:
                yield connection
            except BaseException:
                abort = partial(self._connector.abort, connection)
                with suppress(TaskStoreError), self.translated(), Watchdog(abort, CLEANUP):
                    await transaction.rollback()
                raise
            with explain_callers_conflict():
                await self.bounded(connection, partial(self.before_commit, connection))
                await self.bounded(connection, transaction.commit)

    def close_lent(self, connection: Any) -> None:
        self._connector.abort(connection)

    async def bounded(self, connection: Any, call: Callable[[], Awaitable[T]], limit: float | None = None) -> T:
        """Call the driver; close the connection after `limit` seconds (else `deadline`) or a cancellation."""
        abort, limit = partial(self._connector.abort, connection), self.deadline if limit is None else limit
        return await bounded(call, abort=abort, translated=self.translated, deadline=limit)

    @asynccontextmanager
    async def _for_the_application(self) -> AsyncIterator[Any]:
        """Lend a connection to the application; it is reset or closed before its next use."""
        if self._application_pool is not None:
            async with self._application_pool.lend_to_application(self.deadline) as connection:
                yield connection
            return
        connection = await self._lent.acquire(self.deadline)
        try:
            yield connection
            await self._connector.clean(connection)
        except BaseException:
            await self._connector.clean(connection)
            raise
        finally:
            self._lent.release(connection)


async def bounded(
    call: Callable[[], Awaitable[T]],
    *,
    abort: Callable[[], None],
    translated: Callable[[], AbstractContextManager[None]],
    deadline: float,
) -> T:
    """Call a driver; `abort` closes the connection after `deadline` seconds or a cancellation.

    `call` is called in here, since a lost connection may raise at the call itself, before there is an awaitable.
    """
    with Watchdog(abort, deadline) as watchdog:
        try:
            with translated():
                return await call()
        except DatabaseUnavailableError as error:
            if not watchdog.expired:
                raise
            raise timed_out(f"The database did not answer within {deadline:g} s.") from error
        except asyncio.CancelledError:  # a call still under way would disturb the next use of the connection
            abort()
            raise
