"""Writes the firings of schedules, and tells of the tasks that they have made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple
from uuid import UUID

from aiotaskstore.dispatch.dependencies import KeyGrants
from aiotaskstore.dispatch.schedule_reports import ScheduleReports
from aiotaskstore.errors import DatabaseUnavailableError, SchemaOutdatedError, TaskStoreError
from aiotaskstore.events import ScheduleFired, TaskEnqueued
from aiotaskstore.hooks import Hooks
from aiotaskstore.mechanics.bisecting import write_bisecting
from aiotaskstore.mechanics.hint import Hint
from aiotaskstore.prepared_task import PreparedTask, enqueued
from aiotaskstore.storage.faults import Conflict
from aiotaskstore.storage.schedule_rows import ScheduleRow
from aiotaskstore.storage.schedules import Firing
from aiotaskstore.storage.storage import Storage

_REFUSED_FOR = 60.0
"""Seconds until a schedule is tried again that the database has refused to carry out."""


class Decided(NamedTuple):
    """What is to be written for a schedule, and the tasks it makes by their occurrences."""

    row: ScheduleRow
    firing: Firing
    tasks: dict[datetime, PreparedTask]
    now: datetime | None = None
    """The database's time for which it was decided; `None` where there are no tasks."""


class FiringWriter:
    """Stores firings, and emits the events of each that is stored, once, also where the reply to its COMMIT was lost.

    Such a firing is in doubt until the database tells what became of it.
    """

    def __init__(
        self,
        storage: Storage,
        hooks: Hooks,
        reports: ScheduleReports,
        *,
        notify: Callable[[Hint], None],
        key_grants: KeyGrants,
    ) -> None:
        self._database, self._schedules, self._hooks = storage.database, storage.schedules, hooks
        self._reports, self._notify, self._key_grants = reports, notify, key_grants
        self._in_doubt: list[Decided] = []
        self._refused_until: dict[UUID, float] = {}
        """When schedules that the database has refused are tried again, on the event loop's clock."""
        self.written: int = 0
        """How many firings were stored."""

    def is_refused(self, row: ScheduleRow) -> bool:
        """Return whether the database has refused this schedule a moment ago, so that it is left alone."""
        return self._refused_until.get(row.id, 0) > asyncio.get_running_loop().time()

    async def write(self, decided: Sequence[Decided]) -> None:
        """Store firings; one that the database refuses stops none of the others."""
        if not decided:
            return
        unavailable: TaskStoreError | None = None
        not_stored = 0
        made: list[PreparedTask] = []
        replies = await write_bisecting(self._write_some, decided)
        for one, reply in zip(decided, replies, strict=True):
            if isinstance(reply, DatabaseUnavailableError | SchemaOutdatedError):
                unavailable = reply
                not_stored += 1
                if one.tasks and isinstance(reply, DatabaseUnavailableError) and not reply.nothing_done:
                    self._in_doubt.append(one)
            elif isinstance(reply, TaskStoreError):
                self._refused(one.row, reply)
            elif reply is not None:
                made += self._fired(one, reply)
        self._announce(made)
        if unavailable is not None and await self.resolve_doubts() < not_stored:
            raise unavailable

    async def resolve_doubts(self) -> int:
        """Ask what became of the firings in doubt, and tell of those that are stored; return how many these are.

        A firing stays in doubt while its transaction may still be under way.
        """
        doubts, self._in_doubt = self._in_doubt, []
        if not doubts:
            return 0
        try:
            replies = await self._database.write(partial(self._schedules.read_back, [one.firing for one in doubts]))
        except BaseException:
            self._in_doubt += doubts
            raise
        made: list[PreparedTask] = []
        stored = 0
        for one, reply in zip(doubts, replies, strict=True):
            if reply is None:
                self._in_doubt.append(one)
            elif reply:
                made += self._fired(one, reply)
                stored += 1
        self._announce(made)
        return stored

    async def _write_some(self, decided: Sequence[Decided]) -> list[list[UUID] | None]:
        operation = partial(self._schedules.fire, [one.firing for one in decided])
        made = await self._database.write(operation, retry_held=False)
        return [made.get(one.row.id) for one in decided]

    def _refused(self, row: ScheduleRow, error: TaskStoreError) -> None:
        """Leave a schedule alone for a while: it is still due, and whoever put it right need not know of it."""
        if isinstance(error, Conflict):  # the next poll tries again
            return
        self._refused_until[row.id] = asyncio.get_running_loop().time() + _REFUSED_FOR
        self._reports.tell_once(row, f"it is tried again in {_REFUSED_FOR:g} s", error)

    def _fired(self, one: Decided, made: Sequence[UUID]) -> list[PreparedTask]:
        """Tell of the tasks that are stored now, and return them."""
        self.written += 1
        self._reports.succeeded(one.row)
        self._refused_until.pop(one.row.id, None)
        stored = {occurrence: task for occurrence, task in one.tasks.items() if task.row.id in made}
        for occurrence, task in stored.items():
            row = task.row
            if self._hooks.has_listener(TaskEnqueued):
                self._hooks.emit(enqueued(row))
            lag = (one.now - occurrence).total_seconds() if one.now else 0.0
            self._hooks.emit(ScheduleFired(row.id, row.alias, row.queue, one.row.id, one.row.name, occurrence, lag))
        return list(stored.values())

    def _announce(self, made: Sequence[PreparedTask]) -> None:
        """Wake whoever can run what is stored now; what has a serialization key, once that is granted."""
        queues = {one.row.queue for one in made if not one.row.delay and one.waits_for is None}
        hint = Hint(frozenset(queues), scheduled=any(one.row.delay for one in made))
        if hint:
            self._notify(hint)
        keys = {one.waits_for for one in made if one.waits_for is not None}
        if keys:
            self._key_grants.grant_soon(keys)
