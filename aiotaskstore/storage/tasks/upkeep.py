"""What loops do for all tasks: promote what is due, rescue what dead dispatchers ran, delete what has expired."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from aiotaskstore.storage.operation import BEGIN, Call, Rows, Steps
from aiotaskstore.storage.tasks.rows import TaskRows
from aiotaskstore.storage.transitions import RUNNING, LockedRow, Transitions
from aiotaskstore.task import TaskStatus


class Rescue(NamedTuple):
    """What became of one task of a dead dispatcher."""

    id: UUID
    alias: str
    queue: str
    status: TaskStatus
    serialization_key: str | None = None
    """The key that it may have freed."""


class Promoted(NamedTuple):
    """What became of one scheduled task whose time has come."""

    queue: str
    waits_for: str | None = None
    """The serialization key that it waits for now; `None` if it is pending."""


class StuckRun(NamedTuple):
    """A run that may be rescued."""

    id: UUID
    fence: int
    queue: str
    dispatcher: UUID


class Upkeep(TaskRows):
    """The operations of the promoter, the healer, the cleaner, and of whoever looks for work."""

    def promote(self, limit: int) -> Steps[list[Promoted]]:
        """Make at most `limit` scheduled tasks whose time has come pending, or waiting for their serialization key."""
        rows = yield Call("promote", {"limit": limit})
        return [Promoted(*row) for row in rows]

    def next_due(self) -> Steps[float | None]:
        """Return the seconds until the next scheduled task is due; `None` where there is none."""
        rows = yield Call("next_due")
        due, now = rows[0]
        if due is None:
            return None
        instant = self.database.instant
        return max(0.0, (instant(due) - instant(now)).total_seconds())

    def pending_queues(self) -> Steps[list[str]]:
        """List the queues that have pending tasks."""
        rows = yield Call("pending_queues")
        return [row[0] for row in rows]

    def pending_aliases(self) -> Steps[list[str]]:
        """List the aliases that pending tasks have; reads every pending row."""
        return [row[0] for row in (yield Call("pending_aliases"))]

    def orphaned_dispatchers(self) -> Steps[list[UUID]]:
        """List the dispatchers that running tasks name and that have no row any more."""
        rows = yield Call("orphaned_dispatchers")
        return [self.database.uid(row[0]) for row in rows]

    def rescue(self, dispatcher: UUID, limit: int, *, last_heartbeat: datetime | None = None) -> Steps[list[Rescue]]:
        """End the runs of a dead dispatcher, at most `limit`, each as its `on_stuck` says.

        Nothing is done for a dispatcher whose lease has not lapsed, or that has sent a heartbeat after
        `last_heartbeat`. A row that another transaction has locked, the dispatcher's or a task's, is left to a later
        call. With the last run, the dispatcher's row is deleted: so a dispatcher that is alive after all learns that
        its tasks were rescued.
        """
        yield BEGIN
        if not (yield from self._lock_dead(dispatcher, last_heartbeat)):
            return []
        locked = yield from self.lock_running_of(dispatcher, limit)
        rescued = yield from self._end_runs(locked)
        yield from self._deregister_idle(dispatcher)
        return rescued

    def stuck(self, older_than: float | None) -> Steps[list[StuckRun]]:
        """List the runs of dead dispatchers; with `older_than`, of whomever, those that have lasted so many seconds."""
        if older_than is None:
            rows = yield Call("stuck")
        else:
            rows = yield Call("running_since", {"older_than": older_than})
        uid = self.database.uid
        return [StuckRun(uid(row[0]), row[1], row[2], uid(row[3])) for row in rows]

    def rescue_runs(self, fences: Mapping[UUID, int], dead: UUID | None) -> Steps[list[Rescue]]:
        """End these runs, each as its `on_stuck` says; with `dead`, only while that dispatcher's lease has lapsed.

        A run that has ended meanwhile, or whose row another transaction has locked, is left alone.
        """
        yield BEGIN
        if dead is not None and not (yield from self._lock_dead(dead, None)):
            return []
        locked = yield from self.lock_free(fences)
        running = {id_: row for id_, row in locked.items() if row.status == RUNNING and row.fence == fences[id_]}
        rescued = yield from self._end_runs(running)
        if dead is not None:
            yield from self._deregister_idle(dead)
        return rescued

    def _lock_dead(self, dispatcher: UUID, last_heartbeat: datetime | None) -> Steps[bool]:
        """Lock a dispatcher's row, if it has one and nobody else has it; return whether the dispatcher is dead."""
        found = yield from self.lock_dispatcher(dispatcher)
        if not found:
            return not (yield Call("known_dispatcher", {"id": dispatcher}))
        heartbeat_at, dead = found[0]
        return bool(dead) and last_heartbeat in (None, self.database.instant(heartbeat_at))

    def _end_runs(self, locked: Mapping[UUID, LockedRow]) -> Steps[list[Rescue]]:
        transitions = Transitions()
        rescued = [
            Rescue(row.id, row.alias, row.queue, transitions.rescue(row), row.serialization_key)
            for row in locked.values()
        ]
        yield from self.apply(transitions, locked)
        return rescued

    def _deregister_idle(self, dispatcher: UUID) -> Steps[None]:
        """Delete a dead dispatcher's row with its last run."""
        if not (yield Call("running_of", {"id": dispatcher, "limit": 1})):
            yield Call("deregister", {"id": dispatcher})

    def lock_dispatcher(self, dispatcher: UUID) -> Steps[Rows]:
        """Lock a dispatcher's row unless somebody else has: its last heartbeat, and whether its lease has lapsed."""
        return (yield Call("lock_dispatcher", {"id": dispatcher}))

    def lock_running_of(self, dispatcher: UUID, limit: int) -> Steps[dict[UUID, LockedRow]]:
        """Lock at most `limit` running rows of a dispatcher that nobody else has locked."""
        rows = yield Call("lock_running_of", {"id": dispatcher, "limit": limit})
        return self._locked(rows)

    def clean(self, limit: int) -> Steps[int]:
        """Delete at most `limit` finished tasks past their retention, with their side rows."""
        yield BEGIN
        rows = yield Call("expired", {"limit": limit})
        if rows:
            gone = [(self.database.uid(row[0]), row[1], row[2]) for row in rows]
            yield Call("delete_history", {"ids": [id_ for id_, _, _ in gone]})
            yield from self.delete_side_rows(gone)
        return len(rows)
