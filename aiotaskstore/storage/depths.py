"""How deep queues are, by counts with a limit: one that has millions of tasks costs no more than one with thousands."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from aiotaskstore.queue_measurement import MOST_COUNTED
from aiotaskstore.storage.operation import Call, Steps
from aiotaskstore.task import TaskStatus

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database

MOST_QUEUES = 200
"""The most queues that are measured, the first by name."""
_MOST_PENDING = 100_000
"""The most pending tasks that are counted of all queues together; of later queues only whether they have one."""
_TOGETHER = {
    TaskStatus.SCHEDULED: "scheduled_depths",
    TaskStatus.WAITING: "waiting_depths",
    TaskStatus.RUNNING: "running_depths",
}
"""Other statuses, and what counts their rows over all queues together: their indexes do not begin with the queue."""


class Depth(NamedTuple):
    """How many tasks of a queue have a status, as far as they were counted."""

    queue: str
    status: TaskStatus
    tasks: int
    oldest_due: float
    """Seconds for which the one with the smallest `run_at` has been due; negative where that is ahead."""


class Depths:
    """The operations that measure."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def count(self) -> Steps[list[Depth]]:
        """Count pending tasks by queue, then those of other statuses by index order, each with a limit."""
        depths: list[Depth] = []
        names = [row[0] for row in (yield Call("pending_queues"))]
        left = _MOST_PENDING
        for name in sorted(names)[:MOST_QUEUES]:
            limit = max(1, min(MOST_COUNTED, left))
            rows = yield Call("pending_depth", {"queue": name, "limit": limit})
            depths += [self._depth(name, TaskStatus.PENDING, *row) for row in rows if row[0]]
            left -= rows[0][0]
        for status, statement in _TOGETHER.items():
            rows = yield Call(statement, {"limit": MOST_COUNTED})
            depths += [self._depth(row[0], status, *row[1:]) for row in rows]
        return depths

    def overdue(self) -> Steps[float]:
        """Return for how many seconds the active schedule that is due the longest has been due; 0 where none is."""
        now, due, _, _ = (yield Call("look_at_schedules"))[0]
        return 0.0 if due is None else max(0.0, self._between(due, now))

    def _depth(self, queue: str, status: TaskStatus, tasks: int, first: Any, now: Any) -> Depth:
        return Depth(queue, status, tasks, self._between(first, now))

    def _between(self, earlier: Any, later: Any) -> float:
        instant = self.database.instant
        start: datetime = instant(earlier)
        return (instant(later) - start).total_seconds()
