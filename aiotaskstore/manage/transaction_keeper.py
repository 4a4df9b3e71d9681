"""Keeps the transaction of one run open until the run ends, or until it has taken too long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from aiotaskstore.errors import ConfigurationError, DatabaseUnavailableError, NotInTransactionError, TaskStoreError
from aiotaskstore.manage.ambient_transaction import AmbientTransaction
from aiotaskstore.run_transaction import CommitReply, locked_too_long, not_begun, too_long

if TYPE_CHECKING:
    from aiotaskstore.storage.operation import Operation, T
    from aiotaskstore.storage.session import Session

_ENDED_BY_HAND = (
    "The transaction of context.transaction() was ended inside the handler: by a commit or a rollback of its own, or "
    "by DDL, which MySQL commits at once. Leave them out: it is committed with the task's success when the handler "
    "returns, and rolled back if the handler raises."
)


class Spawn(Protocol):
    """Starts a background task."""

    def __call__(self, coroutine: Coroutine[Any, Any, None], *, name: str | None = None) -> asyncio.Task[None]:
        """Start it."""


class TransactionLender(Protocol):
    """A database, as far as the transaction of a run needs one."""

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Open a transaction and lend its connection; commit it unless the block raises."""

    def close_lent(self, connection: Any) -> None:
        """Close a lent connection by force."""

    def borrow(self, connection: Any) -> Session:
        """Raise if the connection is in no transaction, or closed."""

    async def run_on(self, connection: Any, operation: Operation[T]) -> T:
        """Run an operation in the transaction."""


class TransactionKeeper:
    """A transaction that a background task begins and ends.

    So a cancellation of the run disturbs neither the commit nor the rollback, and a handler that ignores its
    cancellation keeps the transaction no longer than `limit` seconds, which count from its opening. Then `expired` is
    called, and the connection is closed: what the handler still sends on it must not run in another transaction.
    The same once it was open for `open_for` seconds, without the wait for its beginning.
    `join` has the calls of the asyncio task that opens it take part; `committed` is called after the commit.
    """

    def __init__(
        self,
        database: TransactionLender,
        *,
        limit: float,
        open_for: float,
        spawn: Spawn,
        join: Callable[[Any], AmbientTransaction],
        committed: Callable[[AmbientTransaction], None],
        expired: Callable[[], None],
    ) -> None:
        self._database, self._spawn = database, spawn
        self._limit, self._open_for = limit, open_for
        self._overtime = too_long(limit)
        self._join, self._on_commit, self._on_expiry = join, committed, expired
        self._joined: AmbientTransaction | None = None
        self._keeper: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[Any] = loop.create_future()
        self._operations: asyncio.Future[tuple[Operation[Any], ...] | None] = loop.create_future()
        """What to run before the commit; `None` if it is to be rolled back."""
        self._ended: asyncio.Future[CommitReply] = loop.create_future()
        self._wanted: Callable[[Any], bool] = lambda _: True
        self._in_use = True
        """Whether the handler may still send something on the connection."""
        self.expired: bool = False
        """Whether it was rolled back because it took too long."""

    @asynccontextmanager
    async def block(self) -> AsyncIterator[Any]:
        """Open it, and lend the driver's connection; a block that raises rolls it back."""
        connection = await self._open()
        try:
            yield connection
        except BaseException:
            await self.roll_back()
            raise
        if not self._ended.done():
            self._check_open(connection)

    async def commit(self, *operations: Operation[Any], wanted: Callable[[Any], bool] = lambda _: True) -> CommitReply:
        """Run operations in it and commit, unless what the last one returned is not `wanted`."""
        self._in_use = False
        if not self._operations.done():
            self._wanted = wanted
            self._operations.set_result(operations)
        return await asyncio.shield(self._ended)

    async def roll_back(self) -> CommitReply:
        """Roll back, unless a commit is under way already; return once it has ended."""
        self.give_up()
        return await asyncio.shield(self._ended)

    def give_up(self) -> None:
        """Roll back without waiting for it; the handler no longer uses the connection."""
        self._in_use = False
        self.take_away()

    def take_away(self) -> None:
        """Roll back without waiting for it, and close the connection, since the handler may go on."""
        if not self._operations.done():
            self._operations.set_result(None)
        if not self._opened.done() and self._keeper is not None:
            self._keeper.cancel()  # it waits for a connection or for SQLite's lock

    async def _open(self) -> Any:
        timer = asyncio.get_running_loop().call_later(self._limit, self._expire)
        self._ended.add_done_callback(lambda _: timer.cancel())
        self._keeper = self._spawn(self._keep(), name="aiotaskstore transaction of a run")
        self._keeper.add_done_callback(lambda _: self._end(CommitReply(error=_cut_short())))  # cancelled at its start
        try:
            connection = await asyncio.shield(self._opened)
        except asyncio.CancelledError:
            self.give_up()
            raise
        if self._open_for < self._limit:
            open_timer = asyncio.get_running_loop().call_later(self._open_for, self._expire_open)
            self._ended.add_done_callback(lambda _: open_timer.cancel())
        self._joined = self._join(connection)
        self._ended.add_done_callback(lambda _: self._leave())
        return connection

    def _leave(self) -> None:
        assert self._joined is not None  # noqa: S101 - set before this is called
        self._joined.over = True

    def overtime(self) -> TimeoutError:
        """Return the error for its having taken too long."""
        return self._overtime

    def _expire_open(self) -> None:
        if not self._operations.done():
            self._overtime = locked_too_long(self._open_for)
        self._expire()

    def _expire(self) -> None:
        if self._operations.done():
            return
        self.expired = True
        begun = self._opened.done()
        self.take_away()
        if begun:
            self._on_expiry()

    async def _keep(self) -> None:
        try:
            reply = await self._carry_out()
        except asyncio.CancelledError:  # the store is being closed, or nothing was begun yet
            committing = self._operations.done() and self._operations.result() is not None
            self._end(CommitReply(error=_cut_short(), maybe_committed=committing))
            raise
        self._end(reply)
        if reply.committed and self._joined is not None:
            self._on_commit(self._joined)

    def _end(self, reply: CommitReply) -> None:
        """Tell everybody who waits what became of it."""
        if not self._opened.done():
            self._opened.set_exception(not_begun(self._limit) if self.expired else reply.error or _cut_short())
            self._opened.exception()  # read here, in case nobody waits for it any more
        if not self._ended.done():
            self._ended.set_result(reply)

    async def _carry_out(self) -> CommitReply:
        committing = refused = False
        try:
            async with self._database.transaction() as connection:
                if not self._opened.done():
                    self._opened.set_result(connection)
                try:
                    operations, result = await self._operations, None
                finally:
                    if self._in_use:
                        self._database.close_lent(connection)
                for operation in operations or ():
                    result = await self._database.run_on(connection, operation)
                refused = operations is not None and not self._wanted(result)
                if operations is None or refused:
                    raise _RolledBack  # noqa: TRY301 - the transaction's own exit rolls back
                committing = True
        except _RolledBack:
            return CommitReply(refused=refused, error=self._overtime if self.expired else None)
        except Exception as error:  # noqa: BLE001 - a reply, for whoever decides about the run
            return CommitReply(error=error, maybe_committed=committing and _maybe_committed(error))
        return CommitReply(committed=True)

    def _check_open(self, connection: Any) -> None:
        """Raise `ConfigurationError` if the handler has ended the transaction itself."""
        try:
            self._database.borrow(connection)
        except (NotInTransactionError, DatabaseUnavailableError) as error:
            self.give_up()
            if isinstance(error, NotInTransactionError):
                raise ConfigurationError(_ENDED_BY_HAND) from error
            raise


def _cut_short() -> Exception:
    return TaskStoreError("The transaction was rolled back, since the store is being closed.")


def _maybe_committed(error: Exception) -> bool:
    """Return whether a COMMIT that ended so may have succeeded: its reply was lost, not a refusal."""
    if isinstance(error, DatabaseUnavailableError):
        return not error.nothing_done
    return not isinstance(error, TaskStoreError)


class _RolledBack(Exception):  # noqa: N818 - never leaves this file
    """The transaction is to be rolled back."""
