"""Root tasks: the only file that makes a task outside a group.

A group must be entered and left by one task, but a store or a dispatcher may be opened by one and closed by
another (pytest-asyncio's fixtures do). So one root task owns the group; everybody else only talks to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


class RootTask:
    """A task that holds a TaskGroup open until told to stop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._ready = asyncio.Event()
        self._stop = asyncio.Event()
        self._group: asyncio.TaskGroup
        self._react: Callable[[], None] | None = None
        # A context of its own: it must not see the opener's transaction or running task.
        self._task = asyncio.create_task(self._main(), name=name, context=Context())  # noqa: TID251 - the one place

    async def ready(self) -> None:
        """Wait until the group is open."""
        try:
            await self._ready.wait()
        except BaseException:
            self.abandon()  # nobody would stop it
            raise

    def spawn(
        self, coroutine: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        """Start a task in the group; raises what the root task died of."""
        self.check()
        return self._group.create_task(coroutine, name=name, context=context or Context())

    def check(self) -> None:
        """Raise what the root task died of, if it did."""
        if self._task.done() and not self._task.cancelled():
            error = self._task.exception()
            if error is not None:
                raise error

    async def stop(self) -> None:
        """Cancel what is left in the group, wait for it, and raise what the root task died of."""
        self._stop.set()
        await asyncio.wait([self._task])
        self.check()

    def abandon(self) -> None:
        """Cancel what is left and wait for nobody: something in the group will not end."""
        self._stop.set()

    def on_cancel(self, react: Callable[[], None]) -> None:
        """Have `react` called before the group cancels its tasks because the root itself was cancelled."""
        self._react = react

    async def _main(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._ready.set()
                try:
                    await self._stop.wait()
                except asyncio.CancelledError:
                    if self._react is not None:
                        self._react()
                    raise
                raise _Stop  # noqa: TRY301 - leaving by an exception is how a group cancels what is left in it
        except* _Stop:
            pass


async def uncut(work: Coroutine[Any, Any, T], undo: Callable[[T], Awaitable[None]]) -> T:
    """Carry `work` to its end even if we are cancelled; then undo what it made, and be cancelled.

    For drivers that leak a connection when cancelled at a bad moment.
    """
    task = asyncio.create_task(work)  # noqa: TID251 - the one place
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await undo(await task)
        raise


class _Stop(Exception):  # noqa: N818 - nothing went wrong
    """Told to stop."""
