"""Scheduled tasks whose time has come become pending."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiotaskstore.dispatch.upkeep import jittered
from aiotaskstore.storage.tasks import MOST_ROWS

if TYPE_CHECKING:
    from aiotaskstore.dispatch.shift import Shift

_BARELY = 0.002
"""Seconds added to a wait for the next due instant, so that it is due when we look."""


class Promoter:
    """Sleeps until the next task is due; the poll is the backstop."""

    def __init__(self, shift: Shift) -> None:
        self._shift = shift
        self._nudged = asyncio.Event()

    def nudge(self) -> None:
        """Hear that a task was scheduled, perhaps sooner than all others."""
        self._nudged.set()

    async def promote_once(self) -> int:
        """Promote everything that is due; gives how many."""
        shift = self._shift
        promoted = 0
        while True:
            queues = await shift.database.write(lambda: shift.storage.tasks.promote(MOST_ROWS))
            promoted += len(queues)
            if queues:
                await shift.found(frozenset(queues))
            if len(queues) < MOST_ROWS:
                return promoted

    async def rest(self) -> None:
        """Wait until the next task is due, one is scheduled, or the poll."""
        self._nudged.clear()
        shift = self._shift
        due = await shift.database.read(shift.storage.tasks.next_due)
        poll = jittered(shift.settings.poll_interval)
        try:
            async with asyncio.timeout(poll if due is None else min(poll, due + _BARELY)):
                await self._nudged.wait()
        except TimeoutError:
            return
