"""A database: what each dialect must provide, and how operations are run on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from itertools import count
from typing import Any, ClassVar
from uuid import UUID

from aiotaskstore.errors import ConfigurationError, NotInTransactionError
from aiotaskstore.mechanics.clock import Clock
from aiotaskstore.mechanics.hint import Hint
from aiotaskstore.mechanics.loaded_types import is_sqlalchemy
from aiotaskstore.mechanics.notifier import Subscriber
from aiotaskstore.storage.check import Check
from aiotaskstore.storage.faults import explain_callers_conflict
from aiotaskstore.storage.operation import Call, Operation, Rows, Step, Steps, T
from aiotaskstore.storage.retrying import RetryRule, run_retrying
from aiotaskstore.storage.running import run_operation
from aiotaskstore.storage.session import Session
from aiotaskstore.storage.statements import Statements, Syntax
from aiotaskstore.storage.table_names import TableNames
from aiotaskstore.storage.watchdog import CLEANUP

_numbers = count(1)
"""For the names of savepoints that others are set within."""


class NotificationListener(ABC):
    """Receives hints from other processes."""

    @abstractmethod
    async def lost(self) -> None:
        """Return when hints no longer arrive."""


class Database(ABC):
    """One database, open for one event loop."""

    deadline: float
    clock: Clock | None
    table_names: TableNames
    kind: ClassVar[str]
    """The dialect's name, as its .sql file has it."""
    driver: ClassVar[str]
    """The package that connects to it."""
    syntax: ClassVar[Syntax]
    """What this dialect writes for `:now` and `:later(x)`."""
    joins: ClassVar[str]
    """The connection that `using()` accepts on this dialect, for an error message."""
    joins_too: ClassVar[str]
    """What else it accepts."""
    notifies_idle_dispatchers: ClassVar[bool] = False
    """Whether hints are sent to other processes. A hint of work is sent only while a dispatcher sleeps."""
    waking: ClassVar[str] = "poll"
    """How hints from other processes arrive, where they arrive at all."""
    why_here: str = ""
    """For people whose connection is to another database: why the store is not where the application has it."""
    no_notifications: str = ""
    """An explanation for people, where this dialect could deliver hints and does not: the reason, and what to do."""
    no_limit: ClassVar[str] = ""
    """The LIMIT clause that must precede OFFSET where no limit is wanted."""
    locking: ClassVar[str] = " FOR UPDATE"
    """The clause with which a SELECT reads the newest committed rows, also in a transaction with an older snapshot."""
    shared_memory: bool = False
    """Whether the database exists only in the memory of this process."""

    def __init__(self, *, table_names: TableNames, clock: Clock | None, deadline: float) -> None:
        self.check(table_names)
        self.table_names, self.clock, self.deadline = table_names, clock, deadline
        syntax = self.syntax if clock is None else replace(self.syntax, now=None)
        self.statements: Statements = Statements(self.kind, table_names, syntax)

    @classmethod
    def check(cls, _table_names: TableNames) -> None:
        """Raise `ConfigurationError` if the dialect cannot be used here, or not with these table names."""
        return

    @abstractmethod
    async def open(self) -> None:
        """Connect. Raises `DatabaseUnavailableError` or `ConfigurationError`; after an error nothing is left open."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect; the application's own pool stays open."""

    async def open_for_reading(self) -> None:
        """Connect to find something out; nothing is made or changed by it. Otherwise the same as `open`."""
        await self.open()

    def missing(self) -> str:
        """Return a sentence that says that there is no such database, where `open` would make one; else nothing."""
        return ""

    def abandon(self) -> None:
        """Close the connections of an event loop that is closed itself, without waiting."""
        return

    @abstractmethod
    async def version(self) -> str:
        """Return the server's name and version, for people."""

    @abstractmethod
    def session(self, limit: float | None = None) -> AbstractAsyncContextManager[Session]:
        """Lend a connection of ours for one operation.

        Raises `DatabaseUnavailableError` if no connection is free within `limit` seconds (else `deadline`). Leaving the
        block takes at most `CLEANUP` seconds, also while a statement is still running on the connection.
        """

    @abstractmethod
    def borrow(self, connection: Any) -> Session:
        """Make a session of the caller's connection.

        Raises `ConfigurationError` for a connection of another driver, and `NotInTransactionError` for a connection
        that would commit every statement by itself. SQLAlchemy's must have become the driver's before.
        """

    def no_connection_here(self, name: str, connection: object) -> ConfigurationError:
        """Return the error for what is no connection to a database of this kind, called `name`."""
        return ConfigurationError(
            f"This store is on {name}: .using() takes {self.joins}, not {type(connection).__name__} (of "
            f"{type(connection).__module__.partition('.')[0]}). It also takes {self.joins_too}."
            f"{self.why_here and ' '}{self.why_here}"
        )

    def check_joinable(self, connection: Any) -> None:
        """Raise what `borrow` raises, as far as that is known without waiting for the caller's connection."""
        if not is_sqlalchemy(connection):
            self.borrow(connection)
            return
        from aiotaskstore.storage.sqlalchemy.connection import check_dialect  # noqa: PLC0415 - an optional package

        check_dialect(connection, self.kind, self.why_here)

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Open a transaction and yield the driver's connection; commit the transaction unless the block raises."""

    @abstractmethod
    def close_lent(self, connection: Any) -> None:
        """Close by force, without waiting, the connection of an open `transaction()`, which is rolled back by that.

        Whoever still has the connection can then send nothing more on it.
        """

    def by_ids(self, table: str) -> tuple[str, tuple[str, ...]]:
        """Return the FROM and WHERE parts of a SELECT that reads the rows of the parameter `ids`."""
        return table, ("id IN :ids",)

    @abstractmethod
    def instant(self, value: Any) -> datetime:
        """Read a stored instant."""

    @abstractmethod
    def unopened_copy(self) -> Database | None:
        """Return an unopened database of the same kind for another thread's loop; `None` where it must be shared."""

    async def probe(self) -> None:
        """Test, before the first claim, which features this server really has."""
        return

    @abstractmethod
    def checks(self) -> list[Check]:
        """Return what a diagnosis looks at that only this dialect has."""

    async def rows(self, name: str) -> Rows:
        """Run one named statement that writes nothing and has no parameters."""

        def run() -> Steps[Rows]:
            return (yield Call(name))

        return await self.read(run)

    async def read(self, operation: Operation[T], *, limit: float | None = None) -> T:
        """Run an operation that writes nothing; if its connection is lost, run it again on another connection.

        The whole call may take `limit` seconds where that is less than `deadline`, and each step half of `limit`: if
        one connection is dead, the other half is left for another one.
        """
        return await run_retrying(operation, self.session, RetryRule(self.deadline, limit, reads=True))

    async def write(self, operation: Operation[T], *, retry_held: bool = True, limit: float | None = None) -> T:
        """Run an operation on a connection of ours; after a `Conflict`, run it again from its beginning.

        It is also run again when its connection is lost in a transaction before the COMMIT. A
        `DatabaseUnavailableError` without `nothing_done` means that the operation may be stored all the same. Unless
        `retry_held`, a lock that another transaction holds raises `LockHeld` at once. For `limit`, see `read`; a write
        whose COMMIT got no reply is never run again here.
        """
        return await run_retrying(operation, self.session, RetryRule(self.deadline, limit, retry_held=retry_held))

    async def write_heartbeat(self, operation: Operation[T]) -> T:
        """Do the same as `write` for a heartbeat, before everybody else where writers have to wait for one another."""
        return await self.write(operation)

    async def run_on(self, connection: Any, operation: Operation[T], *, limit: float | None = None) -> T:
        """Run an operation inside the caller's transaction, once.

        A statement that takes longer than `limit` seconds (else `deadline`) raises a time-out; the caller's
        transaction stays usable where the dialect can do that. A connection that does not respond at all is closed.
        """
        limit = self.deadline if limit is None else limit
        return await self._run_joined(await self._drivers_own(connection, limit), operation, limit)

    @asynccontextmanager
    async def savepoint(self, connection: Any) -> AsyncIterator[Any]:
        """Set a savepoint in the caller's transaction and lend the driver's connection; a block that raises undoes it.

        It takes the place of `transaction()` where that of the caller must have everything.
        """
        driver = await self._drivers_own(connection, self.deadline)
        session = self.borrow(driver)
        session.savepoint = f"aiotaskstore_{next(_numbers)}"
        await session.begin()
        try:
            yield driver
        except BaseException:
            await session.rollback()
            raise
        await session.commit()

    async def _run_joined(self, connection: Any, operation: Operation[T], limit: float) -> T:
        """Run an operation on the driver's connection, inside the caller's transaction."""
        session = self.borrow(connection)
        session.statement_limit = limit
        with explain_callers_conflict():
            return await run_operation(operation(), session, limit + CLEANUP)

    async def _drivers_own(self, connection: Any, limit: float) -> Any:
        """Return the driver's connection beneath SQLAlchemy's, whose transaction is begun; any other one as it is."""
        if not is_sqlalchemy(connection):
            return connection
        from aiotaskstore.storage.sqlalchemy.connection import begun_connection  # noqa: PLC0415 - an optional package

        driver = await begun_connection(connection, self.kind, limit, self.why_here)
        try:
            self.borrow(driver)
        except NotInTransactionError as error:
            raise NotInTransactionError("SQLAlchemy", 'without isolation_level="AUTOCOMMIT"') from error
        return driver

    @abstractmethod
    async def migrate_on(self, work: Callable[[Session], Awaitable[None]]) -> None:
        """Run migrations under a lock, so that only one process migrates at a time."""

    def listen(self, _receive: Subscriber) -> AbstractAsyncContextManager[NotificationListener | None]:
        """Receive hints from other processes while the block lasts; yields `None` where no hints can arrive."""
        return _no_listener()

    async def notify(self, _hint: Hint) -> None:
        """Send a hint to other processes: one of work only while a dispatcher sleeps, an urgent one always."""
        return

    async def notify_after_commit(self, _connection: Any, _hint: Hint, _notify: Subscriber) -> None:
        """Pass a hint to `notify` once the caller's transaction has committed, where its connection tells that.

        Nothing is to be done where the commit itself wakes dispatchers.
        """
        return

    def notify_within(self, _hint: Hint) -> Step | None:
        """Return the step that sends a hint when the caller's transaction commits, where there is one."""
        return None

    def uid(self, value: Any) -> UUID:
        """Read a stored id."""
        return value if isinstance(value, UUID) else UUID(bytes=bytes(value))

    def maybe_uid(self, value: Any) -> UUID | None:
        """Read a stored id that may be absent."""
        return None if value is None else self.uid(value)

    def maybe_instant(self, value: Any) -> datetime | None:
        """Read a stored instant that may be absent."""
        return None if value is None else self.instant(value)


@asynccontextmanager
async def _no_listener() -> AsyncIterator[None]:
    yield None


def fields_of(row: type[tuple[Any, ...]]) -> tuple[str, ...]:
    """Return the field names of a NamedTuple, for a `Batch` of such rows."""
    fields: tuple[str, ...] = row._fields  # type: ignore[attr-defined]
    return fields
