"""Writes the schedules that code declares to the database."""

from __future__ import annotations

import asyncio
from functools import partial

from aiotaskstore.manage.calls import Calls
from aiotaskstore.mechanics.hint import SCHEDULES
from aiotaskstore.mechanics.notifier import Notifier
from aiotaskstore.schedule_registry import ScheduleRegistry
from aiotaskstore.storage.schedule_rows import is_as_declared, schedule_row
from aiotaskstore.storage.schedules import Schedules


class SchedulePublishing:
    """Stores declared schedules by their names, when the store opens and as soon as one is declared later."""

    def __init__(
        self, schedules: Schedules, registry: ScheduleRegistry, calls: Calls, notifier: Notifier, *, payload_limit: int
    ) -> None:
        self._schedules, self._registry, self._calls, self._notifier = schedules, registry, calls, notifier
        self._payload_limit = payload_limit
        self._writing = asyncio.Lock()

    async def open(self) -> None:
        """Store every declared schedule."""
        self._registry.unwritten = bool(len(self._registry))
        await self.write()

    async def write(self) -> None:
        """Store the declared schedules if one was declared since the last time; what is stored already stays."""
        if not self._registry.unwritten:
            return
        async with self._writing:
            if not self._registry.unwritten:
                return
            self._registry.unwritten = False
            try:
                await self._write()
            except BaseException:
                self._registry.unwritten = True
                raise

    async def _write(self) -> None:
        rows = {one.name: schedule_row(one, self._payload_limit) for one in self._registry}
        stored = await self._calls.read(partial(self._schedules.named, list(rows)), None)
        differing = [row for name, row in rows.items() if name not in stored or not is_as_declared(stored[name], row)]
        if differing:
            await self._calls.write(lambda: self._schedules.declare(differing), None)
            self._notifier.notify(SCHEDULES)
