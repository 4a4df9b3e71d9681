"""Runs of dead dispatchers are ended, by anyone."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from aiotaskstore.events import TaskRescued
from aiotaskstore.storage.tasks import MOST_ROWS
from aiotaskstore.task import TaskStatus

if TYPE_CHECKING:
    from aiotaskstore.dispatch.shift import Shift

_STEADY = 2
"""Heartbeats of our own, answered in a row, before we call anybody dead: after an outage all look dead."""


class Healer:
    """Finds dispatchers silent for longer than their lease and gives their tasks the next place."""

    def __init__(self, shift: Shift) -> None:
        self._shift = shift

    async def heal_once(self) -> int:
        """Rescue every task of every dead dispatcher; gives how many."""
        shift, tasks = self._shift, self._shift.storage.tasks
        if shift.pulse.steady < _STEADY:
            return 0
        dead = await shift.database.read(lambda: shift.storage.dispatchers.dead(shift.dispatcher_id))
        orphaned = await shift.database.read(tasks.orphans)
        rescued = 0
        for dispatcher in {id_ for id_, _ in dead} | set(orphaned) - {shift.dispatcher_id}:
            rescued += await self._rescue(dispatcher)
        return rescued

    async def _rescue(self, dispatcher: UUID) -> int:
        shift, tasks = self._shift, self._shift.storage.tasks
        total = 0
        while True:
            rescued = await shift.database.write(lambda: tasks.rescue(dispatcher, MOST_ROWS))
            for one in rescued:
                shift.hooks.emit(TaskRescued(one.id, one.alias, one.queue, one.status, dispatcher))
            pending = frozenset(one.queue for one in rescued if one.status is TaskStatus.PENDING)
            if pending:
                await shift.found(pending)
            total += len(rescued)
            if len(rescued) < MOST_ROWS:
                return total
