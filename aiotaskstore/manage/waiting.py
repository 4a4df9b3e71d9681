"""Waits for tasks to finish: one statement for every waiter of the process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

from aiotaskstore.errors import ConfigurationError, TaskStoreError
from aiotaskstore.events import LoopTroubled, TaskFinished
from aiotaskstore.manage.parts import CLOSED

if TYPE_CHECKING:
    from aiotaskstore.manage.parts import Parts


class Waiting:
    """Who waits for which task. Ends of this process's own runs are heard at once, others by looking."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._waiters: dict[UUID, list[asyncio.Future[None]]] = {}
        self._fresh: set[UUID] = set()
        self._wanted = asyncio.Event()

    async def until_finished(self, task_id: UUID) -> None:
        """Wait until the task has finished, or no row of it is kept."""
        self._parts.check()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._waiters:
            self._forget = self._parts.hooks.on(TaskFinished, self._heard)
        self._waiters.setdefault(task_id, []).append(future)
        self._fresh.add(task_id)
        self._wanted.set()
        try:
            await future
        finally:
            self._remove(task_id, future)

    async def run(self) -> None:
        """Look for those who wait, for ever."""
        interval = self._parts.settings.wait_interval
        while True:
            await self._wanted.wait()
            try:
                await self.look_once(self._take_fresh() or list(self._waiters))
            except TaskStoreError as error:
                self._parts.hooks.emit(LoopTroubled("waiting", error, interval))
            if not self._fresh:
                await asyncio.sleep(interval)
            if not self._waiters:
                self._wanted.clear()

    def give_up(self) -> None:
        """Tell whoever still waits that the store was closed."""
        for future in [future for futures in self._waiters.values() for future in futures]:
            if not future.done():
                future.set_exception(ConfigurationError(CLOSED))

    async def look_once(self, ids: list[UUID]) -> None:
        """Ask which of these have finished, and tell those who wait."""
        if not ids:
            return
        tasks = self._parts.storage.tasks
        for task_id in await self._parts.storage.database.read(lambda: tasks.finished_among(ids)):
            self._tell(task_id)

    def _take_fresh(self) -> list[UUID]:
        fresh, self._fresh = self._fresh, set()
        return [task_id for task_id in fresh if task_id in self._waiters]

    def _heard(self, event: TaskFinished) -> None:
        self._tell(event.task_id)

    def _tell(self, task_id: UUID) -> None:
        for future in self._waiters.get(task_id, ()):
            if not future.done():
                future.set_result(None)

    def _remove(self, task_id: UUID, future: asyncio.Future[None]) -> None:
        self._waiters[task_id].remove(future)
        if not self._waiters[task_id]:
            del self._waiters[task_id]
        if not self._waiters:
            self._forget()
