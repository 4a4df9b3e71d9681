"""Waits for tasks to finish: a few statements for every waiter of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from aiotaskstore.errors import ConfigurationError, DatabaseUnavailableError, TaskStoreError
from aiotaskstore.events import BackgroundFailed, TaskFinished
from aiotaskstore.hooks import Hooks
from aiotaskstore.manage.calls import CLOSED
from aiotaskstore.mechanics.timed_event import TimedEvent
from aiotaskstore.storage.listing import Listing, page
from aiotaskstore.storage.storage import Storage
from aiotaskstore.task import Task

_AT_ONCE = 2_000
"""Ids that one statement looks for; more waiters than that are looked for in turn, as many an interval."""
_READ_AT_ONCE = 50
"""Finished tasks that are read together; each may weigh megabytes."""
_LONGEST_PAUSE = 2.0
"""Seconds between looks while the database cannot be reached."""


class StoredResult(NamedTuple):
    """What a task that has succeeded returned, as JSON text."""

    text: str | None


class Waiter(NamedTuple):
    """A call that waits; its task is read whole unless a result is enough for it."""

    future: asyncio.Future[Task | StoredResult | None]
    whole: bool


class Waiting:
    """Which calls wait for which task. A run that ends in this process is noticed at once; other tasks are read.

    A new waiter's task is read at once. All tasks are read every `interval`, the least recently read first. `check`
    raises if the loop that reads has ended.
    """

    def __init__(self, storage: Storage, hooks: Hooks, *, check: Callable[[], None], interval: float) -> None:
        self._storage, self._hooks = storage, hooks
        self._check, self._interval = check, interval
        self._waiters: dict[UUID, list[Waiter]] = {}
        """By task, those that were looked for last at the end."""
        self._fresh: dict[UUID, None] = {}
        self._ended: dict[UUID, None] = {}
        self._wake = TimedEvent()
        self._unsubscribe: Callable[[], None] = lambda: None

    async def until_finished(self, task_id: UUID, *, whole: bool = True) -> Task | StoredResult | None:
        """Wait until the task has finished, and return it; `None` where no row of it is kept.

        Unless `whole`, of one that has succeeded its result may be returned instead, which takes one statement.
        """
        self._check()
        waiter = Waiter(asyncio.get_running_loop().create_future(), whole)
        if not self._waiters:
            self._unsubscribe = self._hooks.on(TaskFinished, self._finished_here)
        self._waiters.setdefault(task_id, []).append(waiter)
        self._fresh[task_id] = None
        self._wake.set()
        try:
            return await waiter.future
        finally:
            self._remove(task_id, waiter)

    async def run(self) -> None:
        """Look for the tasks that are waited for, for ever."""
        loop = asyncio.get_running_loop()
        due, pause = loop.time(), self._interval
        while True:
            await self._rest(due)
            everybody = loop.time() >= due
            try:
                await self.look_once(everybody=everybody)
                pause = self._interval
            except TaskStoreError as error:
                pause = min(2 * pause, _LONGEST_PAUSE)
                self._hooks.emit(BackgroundFailed("waiting", error, pause))
                await asyncio.sleep(pause)
            if everybody:
                due = loop.time() + self._interval

    def give_up(self, error: Exception | None = None) -> None:
        """Raise in all who still wait that the store was closed, or what ended the looking."""
        for task_id in list(self._waiters):
            self._resolve(task_id, error or ConfigurationError(CLOSED))

    async def look_once(self, *, everybody: bool) -> None:
        """Look which tasks have finished, of new waiters or of everybody in turn, and end those waits."""
        ended, self._ended = self._ended, {}
        ids = list(islice(self._waiters if everybody else self._fresh, _AT_ONCE))
        for task_id in ids:
            self._fresh.pop(task_id, None)
            if task_id in self._waiters:
                self._waiters[task_id] = self._waiters.pop(task_id)
        if ids:
            tasks = self._storage.tasks
            ended |= dict.fromkeys(await self._storage.database.read(lambda: tasks.finished_among(ids)))
        await self._deliver([task_id for task_id in ended if task_id in self._waiters])

    async def _deliver(self, ids: Sequence[UUID]) -> None:
        """Read tasks that have ended, and pass them to their waiters."""
        for start in range(0, len(ids), _READ_AT_ONCE):
            await self._deliver_tasks(await self._deliver_results(ids[start : start + _READ_AT_ONCE]))

    async def _deliver_results(self, ids: Sequence[UUID]) -> Sequence[UUID]:
        """Read the results for which those alone are waited, and return the tasks that are to be read whole."""
        some = [task_id for task_id in ids if not any(waiter.whole for waiter in self._waiters.get(task_id, ()))]
        if not some:
            return ids
        tasks = self._storage.tasks
        try:
            results = await self._storage.database.read(lambda: tasks.results_among(some))
        except DatabaseUnavailableError:
            raise
        except Exception:  # noqa: BLE001 - of one result that cannot be read; read whole, each task is by itself
            return ids
        for task_id, text in results.items():
            self._resolve(task_id, StoredResult(text))
        return [task_id for task_id in ids if task_id not in results]

    async def _deliver_tasks(self, ids: Sequence[UUID]) -> None:
        if not ids:
            return
        try:
            found = await self._read(ids)
        except DatabaseUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - of one row that cannot be read; the others are not to blame
            if len(ids) == 1:
                self._resolve(ids[0], error)
            for task_id in ids if len(ids) > 1 else ():
                await self._deliver_tasks([task_id])
            return
        for task_id in ids:
            task = found.get(task_id)
            if task is None or task.status.finished:  # or it has been retried since
                self._resolve(task_id, task)

    async def _read(self, ids: Iterable[UUID]) -> dict[UUID, Task]:
        tasks, listing = self._storage.tasks, Listing.parse({"id_in": list(ids)})
        return {task.id: task for task in await self._storage.database.read(lambda: page(tasks, listing))}

    async def _rest(self, until: float) -> None:
        """Sleep until there is a new waiter, a task has ended here, or it is time to look for everybody."""
        if self._fresh or self._ended:
            return
        self._wake.clear()
        await self._wake.wait(until - asyncio.get_running_loop().time() if self._waiters else None)

    def _finished_here(self, event: TaskFinished) -> None:
        if event.task_id in self._waiters:
            self._ended[event.task_id] = None
            self._wake.set()

    def _resolve(self, task_id: UUID, answer: Task | StoredResult | Exception | None) -> None:
        for future, whole in self._waiters.get(task_id, ()):
            if future.done() or (whole and isinstance(answer, StoredResult)):  # who came since is looked for again
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _remove(self, task_id: UUID, waiter: Waiter) -> None:
        self._waiters[task_id].remove(waiter)
        if not self._waiters[task_id]:
            del self._waiters[task_id]
            self._fresh.pop(task_id, None)
        if not self._waiters:
            self._unsubscribe()
