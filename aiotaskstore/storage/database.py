"""What a dialect must provide, and how operations are driven on it."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from aiotaskstore.errors import DatabaseUnavailableError, TaskStoreError
from aiotaskstore.storage.statements import Naming, Statements
from aiotaskstore.storage.steps import Begin, Operation, Row, Rows, Step, T, Unit

TestClock = Callable[[], datetime]
Hint = Callable[[frozenset[str]], None]
"""Hears which queues may have work; an empty set means any of them, `CANCEL` that somebody asked for a cancel."""
CANCEL = frozenset({"\0cancel"})
"""A hint that no queue's name can be."""

_TRIES = 8


class Conflict(TaskStoreError):  # noqa: N818 - an answer, met by starting the operation again
    """The database asked to start again: a deadlock, a serialization failure, a lock held too long."""


class Ear(ABC):
    """A way by which hints from other processes arrive."""

    @abstractmethod
    async def lost(self) -> None:
        """Wait until hints no longer arrive."""


class Session(ABC):
    """One connection, for the length of one operation."""

    @abstractmethod
    async def begin(self) -> None:
        """Open a transaction, or a savepoint inside a caller's."""

    @abstractmethod
    async def commit(self) -> None:
        """Keep what was done since `begin`."""

    @abstractmethod
    async def rollback(self) -> None:
        """Undo what was done since `begin`."""

    @abstractmethod
    async def run(self, step: Step) -> Rows:
        """Run one step; the driver's exceptions come out as ours."""

    @abstractmethod
    async def script(self, sql: str) -> None:
        """Run one statement of a migration."""


async def drive(unit: Unit[T], session: Session, stepped: Callable[[], None] = lambda: None) -> T:
    """Carry an operation through its steps; whatever stops it, also a cancellation, rolls it back.

    `stepped` is called after each step.
    """
    begun = False
    try:
        step = next(unit)
        while True:
            if isinstance(step, Begin):
                begun = True
                await session.begin()
                step = unit.send(())
            else:
                step = unit.send(await session.run(step))
            stepped()
    except StopIteration as stop:
        result: T = stop.value
    except BaseException:
        unit.close()
        if begun:
            await session.rollback()
        raise
    if begun:
        await session.commit()
    return result


class Database(ABC):
    """One database, open for one event loop."""

    deadline: float
    clock: TestClock | None
    naming: Naming
    kind: ClassVar[str]
    """The dialect's name, as its .sql file has it."""
    joins: ClassVar[str]
    """Which connections `using()` takes here, in words."""
    wakes_sleepers: ClassVar[bool] = False
    """Whether inserters look for a sleeping dispatcher before they tell anybody."""
    waking: ClassVar[str] = "poll"
    """How hints arrive from other processes, where they do."""
    no_limit: ClassVar[str] = ""
    """What stands before OFFSET where there is no LIMIT."""
    shared_memory: bool = False
    """Whether the database lives in this process alone."""

    def __init__(self, *, naming: Naming, clock: TestClock | None, deadline: float) -> None:
        self.naming, self.clock, self.deadline = naming, clock, deadline
        self.statements: Statements = self.load()

    @abstractmethod
    def load(self) -> Statements:
        """Read this dialect's statements."""

    @abstractmethod
    async def open(self) -> None:
        """Connect. Raises `DatabaseUnavailableError` or `ConfigurationError`, and then leaves nothing open."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect; a pool that the application gave stays open."""

    @abstractmethod
    async def version(self) -> str:
        """Name the server and its version, for people."""

    @abstractmethod
    def session(self) -> AbstractAsyncContextManager[Session]:
        """Lend a connection of ours for one operation."""

    @abstractmethod
    def borrow(self, connection: Any) -> Session:
        """Make a session of the caller's connection.

        Raises `ConfigurationError` for a connection of another kind and `NotInTransactionError` for one that
        would commit every statement by itself.
        """

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Open a transaction and lend the driver's own connection; commits unless the block raises."""

    @abstractmethod
    def instant(self, value: Any) -> datetime:
        """Read a stored instant."""

    @abstractmethod
    def twin(self) -> Database | None:
        """Make an unopened database of the same kind for another thread's loop; `None` where it must share."""

    async def probe(self) -> None:
        """Find out by behaviour, before the first claim, what this server really does."""
        return

    async def read(self, operation: Operation[T]) -> T:
        """Run an operation that writes nothing."""
        return await self.write(operation)

    async def write(self, operation: Operation[T]) -> T:
        """Run an operation on a connection of ours, again from its beginning where the database asks so."""
        for attempt in range(1, _TRIES + 1):
            try:
                return await self._once(operation)
            except Conflict as conflict:
                if attempt == _TRIES:
                    raise DatabaseUnavailableError(
                        f"The database refused the same transaction {_TRIES} times: {conflict}"
                    ) from conflict
            await asyncio.sleep(random.uniform(0.2, 1) * min(0.005 * 2**attempt, 0.5))  # noqa: S311 - jitter
        raise AssertionError("unreachable")

    async def run_on(self, connection: Any, operation: Operation[T]) -> T:
        """Run an operation inside the caller's transaction; it is never started again."""
        return await drive(operation(), self.borrow(connection))

    @abstractmethod
    async def migrate_on(self, work: Callable[[Session], Awaitable[None]]) -> None:
        """Run migrations under whatever lock keeps two processes from migrating at once."""

    def listen(self, _hint: Hint) -> AbstractAsyncContextManager[Ear | None]:
        """Hear hints from other processes while the block lasts; `None` where they do not arrive."""
        return _deaf()

    async def notify(self, _queues: frozenset[str]) -> None:
        """Tell sleeping dispatchers in other processes that these queues have work (`CANCEL`: tell all)."""
        return

    def notify_within(self, _queues: frozenset[str]) -> Step | None:
        """Give the step that tells the same when the caller's transaction commits, where there is one."""
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

    async def _once(self, operation: Operation[T]) -> T:
        try:
            async with asyncio.timeout(self.deadline) as limit, self.session() as session:
                loop = asyncio.get_running_loop()
                return await drive(operation(), session, lambda: limit.reschedule(loop.time() + self.deadline))
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise DatabaseUnavailableError(f"The database did not answer within {self.deadline:g} s.") from error


@asynccontextmanager
async def _deaf() -> AsyncIterator[None]:
    yield None


def fields_of(row: type[tuple[Any, ...]]) -> tuple[str, ...]:
    """Name a NamedTuple's fields, for a `Batch` of such rows."""
    fields: tuple[str, ...] = row._fields  # type: ignore[attr-defined]
    return fields


def first(rows: Rows) -> Row | None:
    """Give the only row, or nothing."""
    return rows[0] if rows else None
