"""What an open store consists of."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiotaskstore.bell import Bell
from aiotaskstore.errors import ConfigurationError
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


CLOSED = "The store is closed. Use `async with store:`, or `await store.open()` first."
_LAST_CALLS = 5.0
"""Seconds that a closing store waits for calls under way."""


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


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

    closed: bool = False
    """Whether the store has been closed since."""
    _calls: int = 0
    _idle: asyncio.Event = field(default_factory=_set_event)

    def check(self) -> None:
        """Raise what stands against going on: the store was closed, or its root task died."""
        if self.closed:
            raise ConfigurationError(CLOSED)
        self.root.check()

    async def close(self) -> None:
        """Let what is being enqueued be stored, tell whoever waits for a task, and end every loop."""
        await self.enqueuing.drain()
        self.closed = True
        self.waiting.give_up()
        try:
            await self.root.stop()
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_CALLS):
                    await self._idle.wait()

    def joined(self, connection: Any = None) -> Joined | None:
        """Give the transaction to take part in: the connection given, else the one this task has joined."""
        return Joined(connection, None) if connection is not None else self.joining.current()

    async def read(self, operation: Operation[T], joined: Joined | None) -> T:
        """Run an operation that writes nothing, in the caller's transaction if there is one."""
        database = self.storage.database
        with self._going_on():
            if joined is None:
                return await database.read(operation)
            return await database.run_on(joined.connection, operation)

    async def write(self, operation: Operation[T], joined: Joined | None, *, then: Step | None = None) -> T:
        """Run an operation; `then` is a last step for a caller's transaction, such as a NOTIFY."""
        database = self.storage.database

        def within() -> Unit[T]:
            answer = yield from operation()
            if then is not None:
                yield then
            return answer

        with self._going_on():
            if joined is None:
                return await database.write(operation)
            return await database.run_on(joined.connection, within)

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """Say that the store was closed, whatever a database that was closed meanwhile says."""
        self.check()
        self._calls += 1
        self._idle.clear()
        try:
            yield
        except Exception as error:
            if self.closed:
                raise ConfigurationError(CLOSED) from error
            raise
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()
