"""Measures the queues every few seconds, while somebody listens to that."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable
from typing import NamedTuple

from aiotaskstore.errors import TaskStoreError
from aiotaskstore.events import BackgroundFailed, BackgroundRecovered, QueuesMeasured
from aiotaskstore.hooks import Hooks
from aiotaskstore.manage.dispatcher_info import DispatcherInfo, infos
from aiotaskstore.queue_measurement import QueueMeasurement
from aiotaskstore.storage.depths import MOST_QUEUES, Depth
from aiotaskstore.storage.operation import Steps
from aiotaskstore.storage.queues import QueueRow
from aiotaskstore.storage.storage import Storage
from aiotaskstore.task import TaskStatus

_EVERY = 5.0
"""Seconds between two measurements."""
_SHARE = 20
"""A measurement rests at least so many times as long as it took: it never takes more than a twentieth of the time."""
_LIMIT = 5.0
"""Seconds that a measurement may take."""
_LONGEST_PAUSE = 60.0
_UNHEARD = 1.0
"""Seconds until it looks again whether somebody listens."""


class Measured(NamedTuple):
    """What one measurement has read."""

    depths: list[Depth]
    queues: list[QueueRow]
    alive: list[DispatcherInfo]
    overdue: float


class Measuring:
    """The loop that measures queues, and emits `QueuesMeasured`."""

    def __init__(self, storage: Storage, hooks: Hooks) -> None:
        self._storage, self._hooks = storage, hooks
        self._failures, self._failing_since = 0, 0.0

    async def run(self) -> None:
        """Measure for as long as the store is open."""
        while True:
            rest = await self.measure_once()
            await asyncio.sleep(rest)

    async def measure_once(self) -> float:
        """Measure if somebody listens; return how many seconds to rest."""
        if not self._hooks.has_listener(QueuesMeasured):
            return _UNHEARD
        started = time.monotonic()
        try:
            measured = await self._storage.database.read(self._read, limit=_LIMIT)
        except TaskStoreError as error:
            return self._failed(error)
        took = time.monotonic() - started
        self._recovered()
        queues = tuple(_measurements(measured))
        self._hooks.emit(QueuesMeasured(queues, len(measured.alive), measured.overdue, took))
        return max(_EVERY, took * _SHARE) * random.uniform(0.9, 1.1)  # noqa: S311 - so that processes do not stay in step

    def _read(self) -> Steps[Measured]:
        storage = self._storage
        depths = yield from storage.depths.count()
        queues = yield from storage.queues.list()
        alive = [one for one in infos((yield from storage.dispatchers.list())) if one.alive]
        return Measured(depths, queues, alive, (yield from storage.depths.overdue()))

    def _failed(self, error: TaskStoreError) -> float:
        pause = min(_LONGEST_PAUSE, _EVERY * 2.0 ** min(self._failures, 5))
        if not self._failures:
            self._failing_since = time.monotonic()
        self._failures += 1
        self._hooks.emit(BackgroundFailed("measuring", error, pause, failures=self._failures))
        return pause

    def _recovered(self) -> None:
        if self._failures:
            self._hooks.emit(BackgroundRecovered("measuring", self._failures, time.monotonic() - self._failing_since))
            self._failures = 0


def _measurements(measured: Measured) -> Iterable[QueueMeasurement]:
    """Return each queue that has tasks, is paused, or is named by a dispatcher that is alive."""
    paused = {row.name for row in measured.queues if row.paused_at is not None}
    named = {name for one in measured.alive for name in one.queues or ()}
    names = {depth.queue for depth in measured.depths} | paused | named
    for name in sorted(names)[:MOST_QUEUES]:
        depths = [one for one in measured.depths if one.queue == name]
        due = [one.oldest_due for one in depths if one.status is not TaskStatus.RUNNING]
        serving = sum(one.serves(name) for one in measured.alive)
        depth = {str(one.status): one.tasks for one in depths}
        yield QueueMeasurement(name, depth, max([0.0, *due]), name in paused, serving)
