"""Cancel requests reach the runs they are for, from any process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiotaskstore.dispatch.run import StopReason

if TYPE_CHECKING:
    from aiotaskstore.dispatch.shift import Shift

LOOK_EVERY = 0.5
"""Seconds between looks while anything runs; a hint makes one at once."""


class Canceller:
    """Looks at the few rows that ask this dispatcher to cancel."""

    def __init__(self, shift: Shift) -> None:
        self._shift = shift
        self._asked = asyncio.Event()

    def look(self) -> None:
        """Hear that somebody asked for a cancel."""
        self._asked.set()

    async def cancel_once(self) -> int:
        """Stop the runs that somebody wants cancelled; gives how many such rows there are."""
        shift = self._shift
        self._asked.clear()
        if not shift.runs:
            return 0
        wanted = await shift.database.read(lambda: shift.storage.tasks.cancel_requests(shift.dispatcher_id))
        for task_id, fence, _reason in wanted:
            run = shift.runs.get((task_id, fence))
            if run is not None:
                run.stop(StopReason.CANCEL)
        return len(wanted)

    async def rest(self) -> None:
        """Wait for a request, or for the next look."""
        try:
            async with asyncio.timeout(LOOK_EVERY):
                await self._asked.wait()
        except TimeoutError:
            return
