"""The writer queue: decides which operations the writer's thread runs next, and which of them together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import Context
from functools import partial
from typing import Any, NamedTuple

from aiotaskstore.errors import DatabaseUnavailableError
from aiotaskstore.storage.faults import nothing_done, timed_out
from aiotaskstore.storage.operation import Operation, T
from aiotaskstore.storage.sqlite.commit import CommitResult
from aiotaskstore.storage.sqlite.connection_thread import CLOSED, ConnectionThread

_CHECK_EVERY = 1.0
"""Seconds between checks for operations that have waited too long; all of them share one timer."""
_SLACK = 2.0
"""Seconds after the deadline in which the thread may still raise its own, more precise error."""


class _Waiting(NamedTuple):
    operation: Operation[Any] | None
    """`None` for a caller that needs exclusive use of the writer."""
    future: asyncio.Future[Any]
    since: float


class WriterQueue:
    """Runs waiting operations in groups, and lends the writer for exclusive use. Every wait is bounded."""

    def __init__(self, commit: Callable[[list[Operation[Any]]], list[CommitResult]], deadline: float) -> None:
        self._commit, self._deadline = commit, deadline
        self._waiting: list[_Waiting] = []
        self._in_flight: list[asyncio.Future[Any]] = []
        self._busy = self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._stepped = 0.0
        self._thread: ConnectionThread

    def open(self, thread: ConnectionThread) -> None:
        """Run operations in this thread from now on."""
        self._thread = thread

    async def run(self, operation: Operation[T]) -> T:
        """Run the operation in the next group; return once that is committed."""
        result: T = await self._enter(operation)
        return result

    def stepped(self) -> None:
        """Record that the thread makes progress, so that a long group is not mistaken for a thread that hangs."""
        self._stepped = time.monotonic()

    def close(self) -> None:
        """Refuse every operation from now on."""
        self._closed = True

    def give_up(self) -> None:
        """Raise an error for every operation that still waits."""
        for one in self._waiting:
            _fail(one.future, nothing_done(CLOSED))
        if self._timer is not None:
            self._timer.cancel()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Wait until the writer is free, and use it exclusively while the block lasts."""
        turn = self._enter(None)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.exception() is None:
                self._leave()
            raise
        try:
            yield
        finally:
            self._leave()

    def _enter(self, operation: Operation[Any] | None) -> asyncio.Future[Any]:
        if self._closed and operation is not None:
            raise nothing_done(CLOSED)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(_Waiting(operation, future, time.monotonic()))
        if self._timer is None:
            self._timer = loop.call_later(_CHECK_EVERY, self._check, context=Context())
        self._advance()
        return future

    def _advance(self) -> None:
        self._waiting = [one for one in self._waiting if not one.future.done()]
        if self._busy or not self._waiting:
            return
        self._busy = True
        if self._waiting[0].operation is None:
            self._waiting.pop(0).future.set_result(None)
            return
        group: list[Operation[Any]] = []
        self._in_flight = []
        while self._waiting and (operation := self._waiting[0].operation) is not None:
            group.append(operation)
            self._in_flight.append(self._waiting.pop(0).future)
        self.stepped()
        try:
            done = self._thread.run(partial(self._commit, group))
        except DatabaseUnavailableError as error:
            self._report([(None, error)] * len(group))
        else:
            done.add_done_callback(self._group_done)

    def _group_done(self, done: asyncio.Future[list[CommitResult]]) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        self._report(done.result() if error is None else [(None, error)] * len(self._in_flight))

    def _report(self, results: list[CommitResult]) -> None:
        futures, self._in_flight = self._in_flight, []
        for future, (result, failure) in zip(futures, results, strict=True):
            if failure is not None:
                _fail(future, failure)
            elif not future.done():
                future.set_result(result)
        self._leave()

    def _leave(self) -> None:
        self._busy = False
        self._advance()

    def _check(self) -> None:
        """Raise an error for operations that have waited too long, for a hanging thread or for their turn."""
        now = time.monotonic()
        if now - self._stepped > self._deadline + _SLACK:
            for future in self._in_flight:
                _fail(future, timed_out(f"The SQLite file did not answer within {self._deadline:g} s."))
        late = f"The SQLite file's write lock was not free within {self._deadline:g} s: a transaction has held it."
        for one in self._waiting:
            if now - one.since > self._deadline:
                _fail(one.future, nothing_done(late))
        self._waiting = [one for one in self._waiting if not one.future.done()]
        self._timer = None
        if self._waiting or self._in_flight:
            self._timer = asyncio.get_running_loop().call_later(_CHECK_EVERY, self._check, context=Context())


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
