"""`Dispatcher.run_once`: one pass over all due tasks."""

from __future__ import annotations

from collections.abc import Callable

from aiotaskstore.dispatch.claimer import Claimer
from aiotaskstore.dispatch.dependencies import KeyGrants
from aiotaskstore.dispatch.heartbeat import HeartbeatSender
from aiotaskstore.dispatch.in_flight import InFlight
from aiotaskstore.dispatch.key_sweep import KeySweep
from aiotaskstore.dispatch.promoter import Promoter
from aiotaskstore.dispatch.recorder import Recorder
from aiotaskstore.dispatch.rescue import Healer
from aiotaskstore.dispatch.scheduler import Scheduler
from aiotaskstore.dispatch.wakeup import Wakeup
from aiotaskstore.mechanics.hint import ANY_QUEUE

_MOST_PASSES = 20
"""Passes over the schedules, of which one may be due again at any time."""


class RunOnce:
    """Rescues, makes the tasks of schedules, promotes, claims and runs tasks until none is due.

    The dispatcher instance stops after that.
    """

    def __init__(  # noqa: PLR0913 - a pass of every loop needs every loop
        self,
        limit: int | None,
        *,
        heartbeat: HeartbeatSender,
        healer: Healer,
        promoter: Promoter,
        scheduler: Scheduler | None,
        key_sweep: KeySweep,
        key_grants: KeyGrants,
        wakeup: Wakeup,
        claimer: Claimer,
        in_flight: InFlight,
        recorder: Recorder,
        stopping: Callable[[], bool],
    ) -> None:
        self._limit, self._stopping = limit, stopping
        self._heartbeat, self._healer, self._promoter, self._scheduler = heartbeat, healer, promoter, scheduler
        self._key_sweep, self._key_grants = key_sweep, key_grants
        self._wakeup, self._claimer, self._in_flight, self._recorder = wakeup, claimer, in_flight, recorder
        self._ran = 0
        self._error: Exception | None = None

    async def run(self) -> None:
        """Make the pass. An error is kept, and `ran` raises it."""
        try:
            await self._run()
        except Exception as error:  # noqa: BLE001 - raised by ran(), to the caller of run_once()
            self._error = error

    def ran(self) -> int:
        """Return how many tasks ran, or raise the error that ended the pass early."""
        if self._error is not None:
            raise self._error
        return self._ran

    async def _run(self) -> None:
        for _ in range(2):  # without two heartbeat replies in a row, the healer takes no dispatcher for dead
            await self._heartbeat.send()
        await self._healer.rescue_once(at_once=True)
        if self._scheduler is not None:
            await self._schedule(self._scheduler)
        await self._key_sweep.sweep_once()
        while not self._stopping() and (self._limit is None or self._ran < self._limit):
            await self._promoter.promote_once()
            await self._key_grants.drain()
            granted = self._key_grants.granted
            self._wakeup.receive(ANY_QUEUE)
            claimed = await self._claim()
            self._ran += claimed
            if claimed:
                continue
            if not (self._in_flight.claims() or self._wakeup.hinted or self._granted_since(granted)):
                break  # a retry written after the claim hints, and a key granted after it counts
            await self._until_idle()
        await self._until_idle()

    @staticmethod
    async def _schedule(scheduler: Scheduler) -> None:
        """Make the tasks of what is due, also of schedules with functions and of many missed occurrences."""
        for _ in range(_MOST_PASSES):
            more = await scheduler.schedule_once()
            if not (await scheduler.idle() or more):
                return

    async def _claim(self) -> int:
        """Claim from the first queue that has a pending task and a free slot."""
        while True:
            claimed = await self._claimer.claim_once(None if self._limit is None else self._limit - self._ran)
            if claimed or self._stopping() or self._claimer.exhausted or not self._claimer.has_room:
                return claimed

    async def _until_idle(self) -> None:
        """Wait until nothing runs and every outcome is written."""
        await self._in_flight.empty.wait()
        await self._recorder.drain()
        await self._key_grants.drain()

    def _granted_since(self, granted: int) -> bool:
        return self._key_grants.pending or self._key_grants.granted != granted
