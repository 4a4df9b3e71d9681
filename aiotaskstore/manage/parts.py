"""What an open store consists of."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiotaskstore.bell import Bell
from aiotaskstore.hooks import Hooks
from aiotaskstore.queue import Queue
from aiotaskstore.registry import Registry
from aiotaskstore.retention import Retention
from aiotaskstore.roots import RootTask
from aiotaskstore.storage.steps import Operation, Step, T, Unit
from aiotaskstore.storage.storage import Storage

if TYPE_CHECKING:
    from aiotaskstore.manage.enqueuing import Enqueuing
    from aiotaskstore.manage.waiting import Waiting
    from aiotaskstore.manage.waking import Waking


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """What a store was made with, normalised; durations in seconds."""

    queues: dict[str, Queue]
    retention: Retention
    payload_limit: int
    wait_interval: float
    enqueue_timeout: float


@dataclass(slots=True)
class Joined:
    """A transaction that the calls of one asyncio task take part in."""

    connection: Any
    task: asyncio.Task[Any] | None
    queues: set[str] = field(default_factory=set)
    """Queues that have work once it has committed."""
    scheduled: bool = False
    cancels: bool = False


class Joining:
    """Which transaction, if any, the present asyncio task has joined. Inner ones shadow outer ones."""

    def __init__(self) -> None:
        self._joined: ContextVar[Joined | None] = ContextVar("aiotaskstore_joined", default=None)

    def current(self) -> Joined | None:
        """Give it; tasks started inside inherit the context, but not the transaction."""
        joined = self._joined.get()
        return joined if joined is not None and joined.task is asyncio.current_task() else None

    @contextmanager
    def join(self, connection: Any) -> Iterator[Joined]:
        """Have this task's calls take part in the connection's transaction."""
        joined = Joined(connection, asyncio.current_task())
        token = self._joined.set(joined)
        try:
            yield joined
        finally:
            self._joined.reset(token)


@dataclass(slots=True, kw_only=True)
class Parts:
    """An open store, wired."""

    settings: StoreSettings
    storage: Storage
    registry: Registry
    hooks: Hooks
    bell: Bell
    joining: Joining
    root: RootTask
    enqueuing: Enqueuing = field(init=False)
    waiting: Waiting = field(init=False)
    waking: Waking = field(init=False)

    def joined(self, connection: Any = None) -> Joined | None:
        """Give the transaction to take part in: the connection given, else the one this task has joined."""
        return Joined(connection, None) if connection is not None else self.joining.current()

    async def read(self, operation: Operation[T], joined: Joined | None) -> T:
        """Run an operation that writes nothing, in the caller's transaction if there is one."""
        self.root.check()
        database = self.storage.database
        if joined is None:
            return await database.read(operation)
        return await database.run_on(joined.connection, operation)

    async def write(self, operation: Operation[T], joined: Joined | None, *, then: Step | None = None) -> T:
        """Run an operation; `then` is a last step for a caller's transaction, such as a NOTIFY."""
        self.root.check()
        database = self.storage.database
        if joined is None:
            return await database.write(operation)

        def within() -> Unit[T]:
            answer = yield from operation()
            if then is not None:
                yield then
            return answer

        return await database.run_on(joined.connection, within)
