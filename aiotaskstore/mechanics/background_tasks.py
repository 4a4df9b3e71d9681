"""Background tasks: the only file that makes asyncio tasks which outlive the call that made them.

A store or a dispatcher may be opened by one task and closed by another (pytest-asyncio's fixtures do), and the caller
may be cancelled. So background tasks belong to the store or the dispatcher itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

from aiotaskstore.errors import TaskStoreError

_log = logging.getLogger("aiotaskstore")

T = TypeVar("T")

_alive: set[asyncio.Task[Any]] = set()
"""The running loops; the event loop holds tasks only weakly, so they might be garbage-collected."""


class BackgroundTasks:
    """The background tasks of one store or dispatcher. An unexpected end of one is recorded and reported to `failed`.

    `name` names their owner in messages, such as "the store" or "dispatcher web-1:4711".
    """

    def __init__(self, name: str, failed: Callable[[str, BaseException], None] = lambda _loop, _error: None) -> None:
        self._name, self._failed = name, failed
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self.may_return: bool = False
        """Whether a loop may return now."""
        self.failure: TaskStoreError | None = None
        """The error that ended everything, if one did."""

    def spawn(
        self, coroutine: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        """Start a task that ends by itself; an error that it raises is a failure.

        It has a context of its own, so that it sees neither its caller's transaction nor its running task.
        """
        task = asyncio.create_task(coroutine, name=name, context=context or Context())  # noqa: TID251 - the one place
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def keep(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start a loop. Its end is a failure, whether it returns, raises or is cancelled."""
        task = self.spawn(coroutine, name=f"aiotaskstore {name}")
        _alive.add(task)
        task.add_done_callback(_alive.discard)
        task.add_done_callback(lambda done: self._loop_ended(name, done))
        return task

    def check(self) -> None:
        """Raise the error that ended everything, if one did."""
        if self.failure is not None:
            raise type(self.failure)(*self.failure.args) from self.failure.__cause__

    def fail(self, loop: str, error: BaseException) -> None:
        """Record that a loop has ended; only the first end counts."""
        if self.failure is not None or self._stopping:
            return
        self.failure = TaskStoreError(
            f"{self._name} has ended, since its {loop} did: {type(error).__name__}: {error}. "
            "Nothing runs in the background any more; close it, and open or start it again."
        )
        self.failure.__cause__ = error
        self._failed(loop, error)

    async def within(self, coroutine: Coroutine[Any, Any, object], limit: float) -> bool:
        """Run `coroutine` for at most `limit` seconds; return whether it ended in time.

        If not, it is cancelled, and its end is not awaited: a call that gets no reply may not react to a cancellation
        either.
        """
        task = _keep_alive(coroutine)
        try:
            await asyncio.wait([task], timeout=limit)
        finally:
            if not task.done():
                task.cancel()
                task.add_done_callback(_discard)
        if not task.done() or task.cancelled():
            return False
        task.result()
        return True

    async def stop(self, limit: float) -> bool:
        """Cancel the running tasks, twice if need be; return whether all ended within `limit` seconds."""
        for _ in range(2):
            left = self.cancel()
            if left and limit > 0:
                await asyncio.wait(left, timeout=limit / 2)
        left = {task for task in self._tasks if task is not asyncio.current_task()}
        for task in left:
            _log.warning("%s: %s ignores its cancellation; it is left behind", self._name, task.get_name())
        return not left

    def cancel(self) -> set[asyncio.Task[Any]]:
        """Cancel the running tasks and return them."""
        self._stopping = True
        left = {task for task in self._tasks if task is not asyncio.current_task()}
        for task in left:
            task.cancel()
        return left

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(task.get_name().removeprefix("aiotaskstore "), error)

    def _loop_ended(self, name: str, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self.fail(name, asyncio.CancelledError("its task was cancelled"))
        elif task.exception() is None and not self.may_return:
            self.fail(name, RuntimeError("it returned"))


async def run_to_completion(work: Coroutine[Any, Any, T], undo: Callable[[T], Coroutine[Any, Any, None]]) -> T:
    """Run `work` to its end even if the caller is cancelled; `undo` then gets its result, and nobody waits for either.

    For drivers that lose a connection when they are cancelled while they open it.
    """
    task = _keep_alive(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(partial(_undo, undo))
        raise


def _undo(undo: Callable[[T], Coroutine[Any, Any, None]], task: asyncio.Task[T]) -> None:
    if not task.cancelled() and task.exception() is None:
        _keep_alive(undo(task.result())).add_done_callback(_discard)


def _keep_alive(coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    task = asyncio.create_task(coroutine, context=Context())  # noqa: TID251 - the one place
    _alive.add(task)
    task.add_done_callback(_alive.discard)
    return task


def _discard(task: asyncio.Task[Any]) -> None:
    """Read the error of a task that is no longer awaited, so that asyncio does not warn of it."""
    if not task.cancelled():
        task.exception()
