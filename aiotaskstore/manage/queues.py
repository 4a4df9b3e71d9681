"""The queues: `store.queues` lists, pauses, resumes and purges them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import groupby

from aiotaskstore.manage import actions
from aiotaskstore.manage.acting import Actions
from aiotaskstore.manage.dispatcher_info import DispatcherInfo, infos
from aiotaskstore.manage.open_store import OpenStore
from aiotaskstore.mechanics.text import check_text
from aiotaskstore.queue import queue_name
from aiotaskstore.storage.operation import Steps
from aiotaskstore.storage.queues import QueueRow
from aiotaskstore.storage.storage import Count, Storage
from aiotaskstore.task import TaskStatus

_MAY_RUN = frozenset({TaskStatus.SCHEDULED, TaskStatus.WAITING, TaskStatus.PENDING})
"""Statuses from which a task that is due gets to run without an operator."""
_PURGED = tuple(status for status in TaskStatus if not status.finished and status is not TaskStatus.RUNNING)
_REASON_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A queue as the database knows it: its tasks, whether it is paused, and which dispatchers serve it."""

    name: str
    depth: dict[str, int]
    """How many tasks the queue has, by status; every status is a key."""
    oldest_due: datetime | None
    """The smallest `run_at` of the tasks that are due and could run; `None` where no task is due."""
    paused: bool = False
    """Whether dispatchers claim none of its tasks; those that run already go on."""
    paused_at: datetime | None = None
    pause_reason: str = ""
    dispatchers: tuple[DispatcherInfo, ...] = ()
    """The dispatchers that are alive and serve the queue."""


class QueueManager:
    """`store.queues`: what operators see of queues and do with them. An empty name means the default queue.

    Called inside a `store.transaction()`, what is done takes effect when that commits.
    """

    def __init__(self, require_open: Callable[[], OpenStore]) -> None:
        self._require_open = require_open
        self._actions = Actions(require_open)

    async def list(self) -> list[QueueInfo]:
        """List every queue that has tasks, unfinished or finished, or that was ever paused, by name.

        Counts every row: call it for people and for metrics once a minute, not in a loop.
        """
        store = self._require_open()
        return await store.calls.read(partial(_listed, store.storage), store.calls.joined())

    async def pause(self, name: str | None, reason: str = "") -> bool:
        """Have every dispatcher claim nothing more of a queue; return false if it was paused before.

        Dispatchers of this process heed it at once, others within a second. Tasks that run go on, new ones may be
        enqueued, and schedules fire. A queue may be paused before it has tasks. Pausing again changes the reason.
        """
        queue, why = queue_name(name), check_text(reason, "reason", limit=_REASON_LIMIT)
        store = self._require_open()
        return await store.restricting.write(partial(store.storage.queues.pause, queue, why), store.calls.joined())

    async def resume(self, name: str | None) -> bool:
        """Have dispatchers claim tasks of a queue again; return false if it was not paused."""
        queue = queue_name(name)
        store = self._require_open()
        return await store.restricting.write(partial(store.storage.queues.resume, queue), store.calls.joined())

    async def purge(self, name: str | None) -> int:
        """Delete the tasks of a queue that have not finished and do not run; return how many were deleted.

        Only tasks that exist at the call are deleted, in batches; their external ids are free again. Running ones go
        on, finished ones are kept by their retention.
        """
        return await self._actions.on_matching(
            {"queue": queue_name(name), "status": list(_PURGED)}, actions.delete(force=False)
        )


def _listed(storage: Storage) -> Steps[list[QueueInfo]]:
    counts = yield from storage.counts()
    rows = {row.name: row for row in (yield from storage.queues.list())}
    alive = [one for one in infos((yield from storage.dispatchers.list())) if one.alive]
    by_name = {name: list(group) for name, group in groupby(counts, key=lambda count: count.queue)}
    return [_info(name, by_name.get(name, ()), rows.get(name), alive) for name in sorted(by_name.keys() | rows.keys())]


def _info(name: str, counts: Sequence[Count], row: QueueRow | None, alive: Iterable[DispatcherInfo]) -> QueueInfo:
    depth = dict.fromkeys(map(str, TaskStatus), 0) | {str(count.status): count.tasks for count in counts}
    due = [count.oldest_due for count in counts if count.oldest_due is not None and count.status in _MAY_RUN]
    return QueueInfo(
        name,
        depth,
        min(due, default=None),
        paused=row is not None and row.paused_at is not None,
        paused_at=row.paused_at if row else None,
        pause_reason=(row.pause_reason if row else None) or "",
        dispatchers=tuple(one for one in alive if one.serves(name)),
    )
