"""One entering of a lifespan, from the start of its function to the end of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from aiotaskstore.errors import TaskStoreError
from aiotaskstore.mechanics.background_tasks import BackgroundTasks
from aiotaskstore.mechanics.duration import written
from aiotaskstore.mechanics.timed_event import TimedEvent

LEAVING_LIMIT = 30.0
"""Seconds that leaving a lifespan may take; then it is cancelled."""
_CANCELLED_LIMIT = 1.0
"""Seconds that a cancelled lifespan has to end; then it is left behind."""

LifespanUser = Callable[[BaseException], None]
"""Uses what the lifespan yields, and is called with the error if the lifespan ends by itself."""


class EnteredLifespan:
    """A lifespan that is being entered, is entered, or is being left: all of it in one asyncio task.

    So its function may hold what must be opened and closed in the same task, such as a task group. `report` is called
    with each error that nobody is there to be raised to, `over` when the lifespan is left.
    """

    def __init__(
        self,
        lifespan: Callable[[], AbstractAsyncContextManager[Any]],
        *,
        report: Callable[[BaseException], None],
        over: Callable[[], None],
    ) -> None:
        self._lifespan, self._report, self._on_over = lifespan, report, over
        self.state: Any = None
        """What the function yielded."""
        self.leaving: bool = False
        """Whether leaving was requested."""
        self.over: TimedEvent = TimedEvent()
        """Set once it is left, or left behind."""
        self._users: set[LifespanUser] = set()
        self._yielded = False
        self._tried = TimedEvent()  # set once the function has yielded, or has raised
        self._may_leave = TimedEvent()
        self._error: BaseException | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._too_slow = False
        tasks = BackgroundTasks("The lifespan")
        tasks.may_return = True
        self._task = tasks.keep(self._live(), "lifespan")
        self._task.add_done_callback(self._ended)

    @property
    def serving(self) -> bool:
        """Whether the function has yielded, and has not ended."""
        return self._yielded and not self.over.is_set()

    def is_current_task(self) -> bool:
        """Return whether the function itself is the caller."""
        return asyncio.current_task() is self._task

    async def use(self, user: LifespanUser | None) -> None:
        """Add a user, if one is given, and wait until the function has yielded. Raises what it raises instead."""
        if user is not None:
            self._users.add(user)
        try:
            await self._tried.wait()
        finally:
            if user is not None and not self.serving:
                self.release(user)
        if self._error is not None:
            raise self._error

    def release(self, user: LifespanUser) -> None:
        """Remove a user, if it is one."""
        self._users.discard(user)
        self._leave_if_unused()

    def leave_soon(self) -> None:
        """Leave once there is no user."""
        self.leaving = True
        self._leave_if_unused()

    def _leave_if_unused(self) -> None:
        if self._users or not self.leaving or self._may_leave.is_set() or self.over.is_set():
            return
        self._may_leave.set()
        if self._yielded:
            self._timer = self._task.get_loop().call_later(LEAVING_LIMIT, self._leave_by_force)
        else:
            self._cancel()

    async def _live(self) -> None:
        async with self._lifespan() as self.state:
            self._yielded = True
            self._tried.set()
            await self._may_leave.wait()

    def _leave_by_force(self) -> None:
        self._too_slow = True
        self._cancel()

    def _cancel(self) -> None:
        self._task.cancel()
        self._timer = self._task.get_loop().call_later(_CANCELLED_LIMIT, self._leave_behind)

    def _leave_behind(self) -> None:
        self._report(TimeoutError("the lifespan ignores its cancellation; it is left behind"))
        self._end()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self.over.is_set():  # it was left behind
            return
        error = asyncio.CancelledError("its asyncio task was cancelled") if task.cancelled() else task.exception()
        if not self._yielded:
            self._error = error if isinstance(error, Exception) else TaskStoreError(_cancelled_early(error))
            if not (self._users or self._may_leave.is_set()):  # those who wanted it have given up
                self._report(self._error)
        elif not self._may_leave.is_set():
            self._break(error or RuntimeError("it ended, though nobody asked it to"))
        elif self._too_slow:
            self._report(TimeoutError(f"leaving the lifespan took longer than {written(LEAVING_LIMIT)}: cancelled"))
        elif error is not None:
            self._report(error)
        self._end()

    def _break(self, error: BaseException) -> None:
        """Tell every user that the lifespan has ended by itself."""
        for user in list(self._users):
            user(error)
        if not self._users:
            self._report(error)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._on_over()
        self._tried.set()
        self.over.set()


def _cancelled_early(error: BaseException | None) -> str:
    what = f"raised {type(error).__name__}" if error is not None else "ended"
    return f"The lifespan {what} before it had yielded, so nothing was started."
