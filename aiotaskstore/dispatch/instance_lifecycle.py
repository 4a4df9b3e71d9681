"""The lifecycle of a dispatcher instance: whatever a start began, a stop ends, even if the callers are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf

from aiotaskstore.errors import TaskStoreError
from aiotaskstore.mechanics.background_tasks import BackgroundTasks
from aiotaskstore.mechanics.timed_event import TimedEvent

_CUT_SHORT = 1.0
"""Seconds that a start has to clean up if a stop is requested before the start is done."""

_CANCELLED = "its task was cancelled"


class InstanceLifecycle:
    """One start and its stop. Both run in one background task; callers only request them and wait.

    If a waiting caller is cancelled, its wait ends, and the stop goes on.
    """

    def __init__(
        self,
        name: str,
        *,
        begin: Callable[[], Awaitable[None]],
        end: Callable[[], Awaitable[None]],
        cut: Callable[[], None],
        failed: Callable[[str, BaseException], None],
    ) -> None:
        self._begin, self._end, self._cut, self._failed = begin, end, cut, failed
        self._name = name
        self.tasks: BackgroundTasks = BackgroundTasks(f"The dispatcher {name}", self._loop_failed)
        self.start_done: TimedEvent = TimedEvent()
        """Set once the start is done, whether it succeeded or not."""
        self.over: TimedEvent = TimedEvent()
        """Set once the stop is complete."""
        self.changed: TimedEvent = TimedEvent()
        """Set after a stop request, the end of the start, or the end of the last run."""
        self.stopping: bool = False
        self.grace_until: float = inf
        """When runs are cancelled, on the event loop's clock. Of several stops the earliest counts."""
        self.drained: bool = True
        self._stop_requested = TimedEvent()
        self._error: BaseException | None = None

    @property
    def failure(self) -> TaskStoreError | None:
        """The error of a loop that failed and so ended the instance; `None` without one."""
        return self.tasks.failure

    @property
    def working(self) -> bool:
        """Whether the start is done and no stop was requested."""
        return self.start_done.is_set() and not self.stopping

    async def start(self) -> None:
        """Start, and wait until the start is done. Raises the error of a failed start; if cancelled, stops first."""
        self.tasks.spawn(self._live(), name=f"aiotaskstore {self._name}").add_done_callback(self._lived)
        try:
            await self.start_done.wait()
        except asyncio.CancelledError:
            self.stop(0)
            await self.over.wait()
            raise
        if self._error is not None:
            await self.over.wait()
            raise self._error
        self.tasks.check()

    def stop(self, grace: float) -> None:
        """Request a stop. Runs have `grace` seconds to end, or less if an earlier stop set less."""
        self.grace_until = min(self.grace_until, asyncio.get_running_loop().time() + grace)
        self.stopping = self.tasks.may_return = True
        self._stop_requested.set()
        self.changed.set()

    async def stopped(self) -> bool:
        """Wait until the stop is complete; true if every run ended by itself. Raises the error of a failed loop."""
        await self.over.wait()
        self.tasks.check()
        return self.drained

    @property
    def grace_left(self) -> float:
        """Seconds that runs may still take by themselves."""
        return max(0.0, self.grace_until - asyncio.get_running_loop().time())

    async def until(self, event: TimedEvent) -> bool:
        """Wait for `event`; false if the grace ends first. A later stop may shorten the grace.

        Whoever sets `event` must set `changed` too.
        """
        loop = asyncio.get_running_loop()
        while not event.is_set():
            left = self.grace_until - loop.time()
            if left <= 0:
                return False
            self.changed.clear()
            await self.changed.wait(left)
        return True

    async def _live(self) -> None:
        await self._carry_out(self._work)
        self.stopping = self.tasks.may_return = True  # also after a start that failed, which nobody asked to stop
        await self._carry_out(self._end)

    def _lived(self, task: asyncio.Task[None]) -> None:
        """End what is left, also if the task was cancelled before its first step, so that it has no `finally`."""
        self.stopping = True
        try:
            if task.cancelled():
                self.tasks.fail("lifecycle", asyncio.CancelledError(_CANCELLED))
            self._cut()
        finally:
            self.start_done.set()
            self.over.set()

    async def _carry_out(self, stage: Callable[[], Awaitable[None]]) -> None:
        """Carry out a stage, and keep its error, so that the next stage follows in any case.

        Only the application can cancel this task, by cancelling every task of its event loop. The runs end then, and
        the stop is carried out in order; a second cancellation cuts the stop short.
        """
        try:
            await stage()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - we are in one
            task.uncancel()  # otherwise every later timeout would look like one more cancellation
            self.tasks.fail("lifecycle", asyncio.CancelledError(_CANCELLED))
            self.stop(0)
            if stage == self._end:
                await stage()
        except Exception as error:  # noqa: BLE001 - a bug of ours; the next stage must follow all the same
            self.tasks.fail("stop", error)

    async def _work(self) -> None:
        if await self._started():
            self.start_done.set()
            await self._stop_requested.wait()

    async def _started(self) -> bool:
        starting = self.tasks.spawn(self._begin_or_keep_error(), name="aiotaskstore start")
        starting.add_done_callback(lambda _: self.changed.set())
        await self.changed.wait()
        if not starting.done():
            starting.cancel()
            await asyncio.wait([starting], timeout=_CUT_SHORT)
        self.changed.clear()
        if starting.cancelled() and not self.stopping:
            self.tasks.fail("start", asyncio.CancelledError(_CANCELLED))
        return starting.done() and not starting.cancelled() and self._error is None

    async def _begin_or_keep_error(self) -> None:
        try:
            await self._begin()
        except Exception as error:  # noqa: BLE001 - start() raises it to its caller
            self._error = error

    def _loop_failed(self, loop: str, error: BaseException) -> None:
        self.stop(0)
        self._failed(loop, error)
