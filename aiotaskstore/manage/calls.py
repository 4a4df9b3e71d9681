"""Calls in progress: runs callers' operations on the database of an open store; refuses calls on a closing store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aiotaskstore.errors import ConfigurationError
from aiotaskstore.manage.ambient_transaction import AmbientTransaction, AmbientTransactions
from aiotaskstore.mechanics.hint import Hint

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database
    from aiotaskstore.storage.operation import Operation, Step, Steps, T

CLOSED = "The store is closed. Use `async with store:`, or `await store.open()` first."
ONE_TASK = (
    "Only the asyncio task that opened the transaction joins it: call it there, one after the other (or once with "
    "enqueue_many), or after the block."
)


class Calls:
    """Runs callers' operations: in the transaction that the caller has joined, else on a connection of the store.

    `check_loops` raises if a loop of the store has ended. `notify` passes hints to dispatchers.
    """

    def __init__(
        self,
        database: Database,
        transactions: AmbientTransactions,
        *,
        check_loops: Callable[[], None],
        notify: Callable[[Hint], None],
    ) -> None:
        self._database, self._transactions = database, transactions
        self._check_loops, self._notify = check_loops, notify
        self.closing: bool = False
        """Whether nothing new is accepted, since the store is about to be closed."""
        self.closed: bool = False
        """Whether the store has been closed since."""
        self._in_progress = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def check_open(self) -> None:
        """Raise if nothing new may begin: the store is closing, was closed, or a loop of it has ended."""
        if self.closing:
            raise ConfigurationError(CLOSED)
        self.check()

    def check(self) -> None:
        """Raise if nothing may go on: the store was closed, or a loop of it has ended."""
        if self.closed:
            raise ConfigurationError(CLOSED)
        self._check_loops()

    async def idle(self) -> None:
        """Wait until no call is in progress."""
        await self._idle.wait()

    def joined(self, connection: Any = None) -> AmbientTransaction | None:
        """Return the transaction to take part in: the connection given, else the one this task has joined."""
        return AmbientTransaction(connection, None) if connection is not None else self._transactions.current()

    async def read(
        self, operation: Operation[T], joined: AmbientTransaction | None, *, limit: float | None = None
    ) -> T:
        """Run an operation that writes nothing, in the caller's transaction if there is one.

        There each of its statements may take `limit` seconds; on a connection of ours all of it may.
        """
        joined = joined or self._transactions.confined
        if joined is None and self._database.shared_memory:
            self.refuse_own_lock(ONE_TASK)
        with self._call():
            if joined is None:
                return await self._database.read(operation, limit=limit)
            return await self._database.run_on(joined.connection, operation, limit=limit)

    async def write(
        self,
        operation: Operation[T],
        joined: AmbientTransaction | None,
        *,
        then: Step | None = None,
        limit: float | None = None,
        retry_held: bool = True,
    ) -> T:
        """Run an operation; in a caller's transaction with `then` as its last step, such as a NOTIFY.

        There each of its statements may take `limit` seconds; on a connection of ours all of it may, and it is tried
        again where it meets another transaction's lock, unless `retry_held` is false: then it raises `LockHeld`.
        """

        def within() -> Steps[T]:
            result = yield from operation()
            if then is not None:
                yield then
            return result

        joined = joined or self._transactions.confined
        self.refuse_own_lock(ONE_TASK, joined)
        with self._call():
            if joined is None:
                return await self._database.write(operation, retry_held=retry_held, limit=limit)
            return await self._database.run_on(joined.connection, within, limit=limit)

    async def notify_after_commit(self, joined: AmbientTransaction, hint: Hint) -> None:
        """Pass a hint on once the caller's transaction has committed, if we can know when that is."""
        joined.hint |= hint
        await self._database.notify_after_commit(joined.connection, hint, self._notify)

    def refuse_own_lock(self, hint: str, joined: AmbientTransaction | None = None) -> None:
        """Raise `ConfigurationError` if the caller is about to wait for the end of its own `store.transaction()`.

        On SQLite that holds the one write lock, so what waits inside it for the lock waits for ever.
        """
        lock = self._transactions.locking()
        if lock is not None and (joined is None or joined.connection is not lock.connection):
            raise ConfigurationError(
                "On SQLite nobody else can write while store.transaction() is open, and this is called inside one, so "
                f"it would wait for itself. {hint}"
            )

    def refuse_inside(self) -> None:
        """Raise `ConfigurationError` if the store is about to be closed inside its own `store.transaction()`."""
        if self._transactions.inside():
            raise ConfigurationError(
                "The store is to be closed inside its own store.transaction(), whose connection would be closed with "
                "it, before it could commit. Close the store after the block."
            )

    def own_lock(self) -> Any:
        """Return the connection of this asyncio task's open `store.transaction()` if it keeps all others waiting.

        Raises `ConfigurationError` in a task that was started inside one, which could only wait for it.
        """
        lock = self._transactions.locking()
        if lock is None:
            return None
        if lock.task is not asyncio.current_task():
            self.refuse_own_lock(ONE_TASK)
        return lock.connection

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Count a call; say that the store was closed, whatever a database that was closed meanwhile says."""
        self.check()
        self._in_progress += 1
        self._idle.clear()
        try:
            yield
        except Exception as error:
            if self.closed:
                raise ConfigurationError(CLOSED) from error
            raise
        finally:
            self._in_progress -= 1
            if not self._in_progress:
                self._idle.set()
