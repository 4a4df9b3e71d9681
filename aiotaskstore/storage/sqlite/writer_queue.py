"""The writer queue: decides which operations the writer's thread runs next, and which of them together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context
from functools import partial
from typing import Any, NamedTuple, Protocol

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
    heartbeat: bool
    future: asyncio.Future[Any]
    since: float


class Commit(Protocol):
    """Commits a group of operations; called in the writer's thread."""

    def __call__(self, operations: list[Operation[Any]], *, heartbeat: bool) -> list[CommitResult]:
        """Return the results of all operations, or of the first ones. `heartbeat` says that one of them is one."""


class WriterQueue:
    """Runs waiting operations in groups, and lends the writer for exclusive use. Every wait is bounded.

    Who comes first is served first, with two exceptions. After each exclusive use, all operations that wait are run:
    they take milliseconds, and else would wait for every transaction that a run or the application wants to open. And
    a heartbeat is next, whoever waits.
    """

    def __init__(self, commit: Commit, deadline: float) -> None:
        self._commit, self._deadline = commit, deadline
        self._waiting: list[_Waiting] = []
        self._in_flight: list[_Waiting] = []
        self._busy = self._closed = self._lent_last = False
        self._timer: asyncio.TimerHandle | None = None
        self._stepped = 0.0
        self._thread: ConnectionThread

    def open(self, thread: ConnectionThread) -> None:
        """Run operations in this thread from now on."""
        self._thread = thread

    async def run(self, operation: Operation[T], *, heartbeat: bool = False) -> T:
        """Run the operation in the next group; return once that is committed."""
        result: T = await self._enter(operation, heartbeat=heartbeat)
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

    def _enter(self, operation: Operation[Any] | None, *, heartbeat: bool = False) -> asyncio.Future[Any]:
        if self._closed and operation is not None:
            raise nothing_done(CLOSED)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        one = _Waiting(operation, heartbeat, future, time.monotonic())
        self._waiting.insert(0 if heartbeat else len(self._waiting), one)
        if self._timer is None:
            self._timer = loop.call_later(_CHECK_EVERY, self._check, context=Context())
        self._advance()
        return future

    def _advance(self) -> None:
        self._waiting = [one for one in self._waiting if not one.future.done()]
        if self._busy or not self._waiting:
            return
        self._busy = True
        operations = [one for one in self._waiting if one.operation is not None]
        if self._waiting[0].operation is None and not (self._lent_last and operations):
            self._lent_last = True
            self._waiting.pop(0).future.set_result(None)
            return
        self._lent_last = False
        self._waiting = [one for one in self._waiting if one.operation is None]
        self._run_group(operations)

    def _run_group(self, group: list[_Waiting]) -> None:
        self._in_flight = group
        operations = [one.operation for one in group if one.operation is not None]
        self.stepped()
        try:
            done = self._thread.run(partial(self._commit, operations, heartbeat=any(one.heartbeat for one in group)))
        except DatabaseUnavailableError as error:
            self._report([(None, error)] * len(group))
        else:
            done.add_done_callback(self._group_done)

    def _group_done(self, done: asyncio.Future[list[CommitResult]]) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        self._report(done.result() if error is None else [(None, error)] * len(self._in_flight))

    def _report(self, results: list[CommitResult]) -> None:
        group, self._in_flight = self._in_flight, []
        # What was left out of the group has its old place: of what came later, some may have been in the group too.
        self._waiting = sorted([*group[len(results) :], *self._waiting], key=lambda one: (not one.heartbeat, one.since))
        for one, (result, failure) in zip(group, results, strict=False):
            if failure is not None:
                _fail(one.future, failure)
            elif not one.future.done():
                one.future.set_result(result)
        self._leave()

    def _leave(self) -> None:
        self._busy = False
        self._advance()

    def _check(self) -> None:
        """Raise an error for operations that have waited too long, for a hanging thread or for their turn."""
        now = time.monotonic()
        if now - self._stepped > self._deadline + _SLACK:
            for one in self._in_flight:
                _fail(one.future, timed_out(f"The SQLite file did not answer within {self._deadline:g} s."))
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
