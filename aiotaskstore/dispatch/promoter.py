"""Promotes: makes scheduled tasks pending when they are due, or waiting for their serialization keys."""

from __future__ import annotations

from collections.abc import Callable

from aiotaskstore.dispatch.dependencies import KeyGrants
from aiotaskstore.dispatch.loops import jittered
from aiotaskstore.mechanics.hint import Hint
from aiotaskstore.mechanics.timed_event import TimedEvent
from aiotaskstore.storage.storage import Storage
from aiotaskstore.storage.tasks import MOST_ROWS

_BARELY = 0.002
"""Seconds added to a wait for the next due task, so that the task is due by the database's clock when we look."""


class Promoter:
    """Sleeps until the next task is due, at most until the next poll. Hints at the queues of promoted tasks."""

    def __init__(
        self, storage: Storage, poll_interval: float, notify: Callable[[Hint], None], key_grants: KeyGrants
    ) -> None:
        self._storage, self._poll_interval, self._notify = storage, poll_interval, notify
        self._key_grants = key_grants
        self._scheduled = TimedEvent()

    def receive(self, hint: Hint) -> None:
        """Wake if a task was scheduled."""
        if hint.scheduled:
            self.look()

    def look(self) -> None:
        """Wake, and ask the database again when the next task is due: a new one may be the first."""
        self._scheduled.set()

    async def promote_once(self) -> int:
        """Promote every due task; return how many tasks."""
        promoted = 0
        while True:
            tasks = await self._storage.database.write(lambda: self._storage.tasks.promote(MOST_ROWS))
            promoted += len(tasks)
            queues = frozenset(task.queue for task in tasks if task.waits_for is None)
            if queues:
                self._notify(Hint(queues))
            self._key_grants.grant_soon({task.waits_for for task in tasks if task.waits_for is not None})
            if len(tasks) < MOST_ROWS:
                return promoted

    async def rest(self) -> None:
        """Wait until the next task is due, a task is scheduled, or it is time to poll."""
        self._scheduled.clear()
        due = await self._storage.database.read(self._storage.tasks.next_due)
        poll = jittered(self._poll_interval)
        await self._scheduled.wait(poll if due is None else min(poll, due + _BARELY))
