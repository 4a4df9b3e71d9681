"""Cancels runs here whose cancellation was requested, in any process."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from aiotaskstore.dispatch.run import Run, StopReason
from aiotaskstore.mechanics.hint import Hint
from aiotaskstore.mechanics.timed_event import TimedEvent
from aiotaskstore.storage.storage import Storage

LOOK_EVERY = 0.5
"""Seconds between two looks for requests while tasks run; a hint causes a look at once."""


class Canceller:
    """Reads the rows of running tasks that have a cancel request, and stops their runs."""

    def __init__(self, dispatcher_id: UUID, storage: Storage, runs: Mapping[tuple[UUID, int], Run]) -> None:
        self._dispatcher_id, self._storage, self._runs = dispatcher_id, storage, runs
        self._requested = TimedEvent()

    def receive(self, hint: Hint) -> None:
        """Wake if a cancel was requested."""
        if hint.cancel_requested:
            self.look()

    def look(self) -> None:
        """Wake, and look for requests now."""
        self._requested.set()

    async def cancel_once(self) -> int:
        """Stop the runs that have a cancel request; return the number of requests."""
        self._requested.clear()
        if not self._runs:
            return 0
        requests = await self._storage.database.read(lambda: self._storage.tasks.cancel_requests(self._dispatcher_id))
        for task_id, fence, _reason in requests:
            run = self._runs.get((task_id, fence))
            if run is not None:
                run.stop(StopReason.CANCEL)
        return len(requests)

    async def rest(self) -> None:
        """Wait for a request, or for the next look."""
        await self._requested.wait(LOOK_EVERY)
