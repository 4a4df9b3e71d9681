"""The dispatcher: claims tasks and runs their handlers, from start to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self
from uuid import UUID

from aiotaskstore.dispatch.settings import DispatcherSettings
from aiotaskstore.dispatch.shift import Shift, Surroundings
from aiotaskstore.duration import Duration, seconds
from aiotaskstore.errors import ConfigurationError
from aiotaskstore.events import DispatcherStopped
from aiotaskstore.queue import check_count


class Dispatcher:
    """Runs the tasks of one store in this process. Make one with `store.dispatcher(…)`.

    It may be started and stopped again, from any task; each start has an identity of its own.
    """

    def __init__(self, settings: DispatcherSettings, surroundings: Callable[[], Surroundings]) -> None:
        self.settings = settings
        self._surroundings = surroundings
        self._shift: Shift | None = None
        self._closing: Shift | None = None
        self._changing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Dispatcher {self.settings.name} {'running' if self.running else 'stopped'}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def running(self) -> bool:
        """Whether it is claiming and running tasks."""
        return self._shift is not None

    @property
    def id(self) -> UUID | None:
        """The identity of the present start; `None` while stopped."""
        return self._shift.dispatcher_id if self._shift else None

    @property
    def active(self) -> int:
        """How many tasks are running now."""
        return len(self._shift.runs) if self._shift else 0

    async def start(self) -> None:
        """Begin to claim and run; while running, a no-op.

        Raises `ConfigurationError` without a registered task, `DatabaseUnavailableError` without a database.
        """
        async with self._changing:
            if self._shift is not None:
                self._shift.check()
                return
            shift = await self._open()
            try:
                await shift.work()
            except BaseException:
                await shift.close(0)
                raise
            self._shift = shift

    async def stop(self, grace: Duration | None = None) -> bool:
        """Claim nothing more and wait `grace` for what runs; what outlasts it is cancelled and given back.

        A task that is given back keeps its place and its attempt. True if everything ended by itself; while
        stopped, a no-op.
        """
        limit = self.settings.grace if grace is None else seconds(grace, "grace")
        if self._shift is not None:
            self._shift.stop_claiming()
        async with self._changing:
            shift, self._shift = self._shift, None
            if shift is None:
                return True
            drained = await self._close(shift, limit)
            shift.hooks.emit(DispatcherStopped(shift.dispatcher_id, self.settings.name, drained))
            return drained

    def cancel_runs(self) -> None:
        """Cancel what runs now and give it back, also while `stop` waits for the grace to end."""
        if self._shift is not None:
            self._shift.cancel_runs()
        elif self._closing is not None:
            self._closing.cancel_runs()

    async def run_once(self, *, limit: int | None = None) -> int:
        """Promote and rescue what is due for it, then run until nothing is due; gives how many ran.

        `limit` is the most to run. Raises `ConfigurationError` while the dispatcher is running.
        """
        most = None if limit is None else check_count(limit, "limit")
        async with self._changing:
            if self._shift is not None:
                raise ConfigurationError("run_once() is for a stopped dispatcher; this one is running.")
            shift = await self._open()
            try:
                return await self._drain(shift, most)
            finally:
                await self._close(shift, self.settings.grace)

    async def _open(self) -> Shift:
        given = self._surroundings()
        if not len(given.registry):
            raise ConfigurationError(
                "No task is registered, so there is nothing to run. Import the modules that declare tasks, or "
                "store.include(router)."
            )
        shift = Shift(self.settings, given)
        await shift.open()
        return shift

    async def _close(self, shift: Shift, grace: float) -> bool:
        self._closing = shift
        try:
            return await shift.close(grace)
        finally:
            self._closing = None

    async def _claim(self, shift: Shift, most: int | None) -> int:
        """Claim from whatever queue has something."""
        while True:
            claimed = await shift.claimer.claim_once(most)
            if claimed or shift.claimer.exhausted or not shift.claimer.has_room:
                return claimed

    async def _drain(self, shift: Shift, most: int | None) -> int:
        for _ in range(2):  # the healer calls nobody dead before two answered signs of life
            shift.pulse.answered(await shift.pulse.beat_once(shift.storage))
        await shift.healer.heal_once()
        ran = 0
        while most is None or ran < most:
            await shift.promoter.promote_once()
            shift.wakeup.hint(frozenset())
            claimed = await self._claim(shift, None if most is None else most - ran)
            ran += claimed
            if claimed:
                continue
            if not shift.claims():
                break
            await shift.quiet()
        await shift.quiet()
        return ran
