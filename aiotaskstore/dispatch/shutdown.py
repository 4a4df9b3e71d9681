"""The stop of a dispatcher instance: its steps, and their order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from aiotaskstore.dispatch.assembly import Assembly
from aiotaskstore.dispatch.instance_lifecycle import InstanceLifecycle
from aiotaskstore.dispatch.run import StopReason

_log = logging.getLogger("aiotaskstore.dispatcher")

_CLEANING_UP = 1.0
"""Seconds that a stop waits for each thing that should take no time, such as loops to end."""
_DEREGISTERING = 5.0
"""Seconds that deregistering may take."""


class Shutdown:
    """Stops one dispatcher instance. No step waits without a limit."""

    def __init__(self, assembly: Assembly, life: InstanceLifecycle, *, stuck_grace: float) -> None:
        self._assembly, self._life, self._stuck_grace = assembly, life, stuck_grace
        self._in_flight = assembly.in_flight
        self._runs_cancelled = False

    def begin(self, grace: float) -> None:
        """Begin to stop: the instance claims nothing more, and its runs have `grace` seconds to end."""
        self._life.stop(grace)
        self._assembly.wakeup.wake()
        self._assembly.backoffs.retry_now()

    def cancel_runs(self) -> None:
        """Cancel the runs and return their tasks to the queue, without waiting for the grace to end."""
        if self._life.stopping:
            self.begin(0)
        self._runs_cancelled |= not self._in_flight.empty.is_set()
        self._in_flight.stop(StopReason.SHUTDOWN)

    async def carry_out(self, unsubscribe: Callable[[], None], recording: asyncio.Task[None] | None) -> None:
        """Carry out the stop: runs end, outcomes are written, the dispatcher's row is deleted, loops end.

        Runs that outlast the grace are cancelled, and their tasks return to the queue. Heartbeats go on until the last
        outcome is written. `recording` is the recorder's loop, `None` if it was never started.
        """
        limit = self._assembly.lease.trusted_for
        await self._wait_for_claim(limit)
        unsubscribe()
        drained = await self._wait_for_runs()
        all_written = await self._write_outcomes(recording, limit)
        self._life.drained = drained and not self._runs_cancelled
        await self._assembly.heartbeat.stop()
        deregister = self._assembly.registration.deregister(self._in_flight, all_written=all_written)
        await self._life.tasks.within(deregister, _DEREGISTERING)
        await self._wait_for_hooks()
        await self._end_loops()

    async def _wait_for_claim(self, limit: float) -> None:
        """Wait for the reply to a claim under way: in the database its tasks run already.

        On SQLite the claim may itself wait for a run, which holds the file's lock in its transaction. So when the grace
        is over, the runs are cancelled first.
        """
        replied, grace = self._assembly.claim_sender.replied, self._life.grace_left
        if not await replied.wait(min(grace, limit)):
            if grace < limit:
                self.cancel_runs()
            await replied.wait(limit)

    async def _wait_for_runs(self) -> bool:
        """Wait until all runs have ended; true if they did within the grace."""
        drained = await self._life.until(self._in_flight.empty)
        self._assembly.claim_sender.refuse()
        if not drained:
            self.cancel_runs()
            await self._in_flight.empty.wait(self._stuck_grace + _CLEANING_UP)
        return drained

    async def _write_outcomes(self, recording: asyncio.Task[None] | None, limit: float) -> bool:
        """Write every outcome; false if `limit` seconds were too few."""
        recorder = self._assembly.recorder
        if recording is not None and recording.done():  # the recorder's loop failed; a new loop writes the rest
            self._assembly.loops.keep(recorder.run(), "recorder")
        written = await self._life.tasks.within(recorder.drain(), limit)
        await self._life.tasks.within(self._assembly.key_grants.drain(), _CLEANING_UP)
        return written

    async def _wait_for_hooks(self) -> None:
        """Let the hooks after runs end within what is left of the grace; then they are cancelled."""
        hooks, left = self._assembly.after_hooks, self._life.grace_until - asyncio.get_running_loop().time()
        if not await hooks.idle.wait(max(left, _CLEANING_UP)):
            _log.warning("the hooks after %d runs outlast their dispatcher, and are cancelled", hooks.backlog)

    async def _end_loops(self) -> None:
        """Let the loops end by themselves; cancel only the loops that do not."""
        self._assembly.close_loops()
        await self._assembly.loops.ended(_CLEANING_UP)
        for run in self._in_flight.runs.values():
            _log.warning("%s %s outlasts its dispatcher: its thread has not returned", run.claim.alias, run.claim.id)
        await self._life.tasks.stop(0 if self._in_flight.runs or self._in_flight.abandoned else _CLEANING_UP)
