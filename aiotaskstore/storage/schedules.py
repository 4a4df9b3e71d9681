"""The table of schedules: what is due, and how it becomes tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from aiotaskstore.errors import DuplicateScheduleError, InvalidRecurrenceError
from aiotaskstore.schedule import ScheduleStatus
from aiotaskstore.storage.external_ids import KeyedRow
from aiotaskstore.storage.faults import LockHeld
from aiotaskstore.storage.operation import BEGIN, Batch, Begin, Call, Row, Steps
from aiotaskstore.storage.record_listing import RecordListing, RecordTable
from aiotaskstore.storage.schedule_rows import (
    WRITTEN,
    ScheduleRow,
    declared_again,
    is_as_declared,
    read_schedule_row,
)
from aiotaskstore.storage.tasks.enqueuing import HELD_AFTER

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database
    from aiotaskstore.storage.tasks import Tasks

SCHEDULES = RecordTable(
    name="aiotaskstore_schedules",
    columns="schedule",
    noun="schedule",
    orders=(
        "id", "name", "alias", "queue", "status", "created_at", "updated_at", "deleted_at", "next_run_at",
        "last_run_at", "execution_count",
    ),
    texts=("name", "alias", "queue"),
    choices={"status": tuple(map(str, ScheduleStatus))},
)  # fmt: skip
NO_ID = UUID(int=0)
LONG_AGO = datetime(1000, 1, 1, tzinfo=UTC)
"""Before every instant that a schedule may have."""
_ADVANCED = ("id", "next_run_at", "schedule_status", "error", "executions", "started")

Decision = Callable[[ScheduleRow, datetime], ScheduleRow]
"""Takes a locked schedule and the time, and returns the schedule as it shall be; changes and asks nothing else."""


class Look(NamedTuple):
    """What the table of schedules has for a scheduler."""

    now: datetime
    due: bool
    """Whether a schedule is due."""
    without_next: bool
    """Whether an active schedule has no next instant yet."""
    next_in: float | None
    """Seconds until the first of those is due that are not yet; `None` where there is none."""


class Firing(NamedTuple):
    """What becomes of a schedule that was read at a revision: the tasks it makes, and when it is due again."""

    id: UUID
    revision: int
    next_run_at: datetime | None
    status: str
    error: str | None = None
    tasks: tuple[KeyedRow, ...] = ()
    started: bool = False
    """Whether it is because a dispatcher has started."""


class Schedules:
    """The operations on schedules."""

    def __init__(self, database: Database, tasks: Tasks) -> None:
        self.database: Database = database
        self._tasks = tasks

    # ── for schedulers ────────────────────────────────────────────────────────────────────────────────────

    def look(self) -> Steps[Look]:
        """Return whether anything is due, and when something will be."""
        now, due, following, without_next = (yield Call("look_at_schedules"))[0]
        instant = self.database.instant
        next_in = None if following is None else (instant(following) - instant(now)).total_seconds()
        return Look(instant(now), due is not None, bool(without_next), next_in)

    def due(self, until: datetime, after: ScheduleRow | None, limit: int) -> Steps[list[ScheduleRow]]:
        """Return the active schedules that are due by `until`, the longest due first, after this one of them."""
        after_at = LONG_AGO if after is None else after.next_run_at
        after_id = NO_ID if after is None else after.id
        params = {"until": until, "after_at": after_at, "after_id": after_id, "limit": limit}
        return self._read((yield Call("due_schedules", params)))

    def without_next(self, after: ScheduleRow | None, limit: int) -> Steps[list[ScheduleRow]]:
        """Return the active schedules without a next instant, after this one of them."""
        params = {"after_id": NO_ID if after is None else after.id, "limit": limit}
        return self._read((yield Call("schedules_without_next", params)))

    def to_start(self, lease: float, after: ScheduleRow | None, limit: int) -> Steps[list[ScheduleRow]]:
        """Return the active schedules that run when a dispatcher starts, and have not for a lease."""
        params = {"ago": -lease, "after_id": NO_ID if after is None else after.id, "limit": limit}
        return self._read((yield Call("schedules_to_start", params)))

    def fire(self, firings: Sequence[Firing]) -> Steps[dict[UUID, list[UUID]]]:
        """Store the tasks of schedules, and when these are due again, in one transaction.

        Only of those that nobody has changed since they were read, and that nobody is changing. Returns the tasks made
        by each of these; an occurrence that has a task already gets no other. Raises `LockHeld` where somebody holds an
        external id of one of the tasks.
        """
        yield Begin(HELD_AFTER)
        rows = yield Call("lock_schedules", {"ids": sorted(firing.id for firing in firings)})
        revisions = {self.database.uid(row[0]): row[1] for row in rows}
        ours = [firing for firing in firings if revisions.get(firing.id) == firing.revision]
        keyed = [task for firing in ours for task in firing.tasks]
        stored: set[UUID] = set()
        if keyed:
            taken = yield from self._tasks.external_ids.take(keyed, joined=False)
            if taken.held:
                raise LockHeld("somebody's open transaction holds the external id of an occurrence")
            free = taken.free(keyed)
            if free:
                yield from self._tasks.insert(free)
            stored = {row.id for row in free}
        made = {one.id: [task.row.id for task in one.tasks if task.row.id in stored] for one in ours}
        if ours:
            advanced = [
                (one.id, one.next_run_at, one.status, one.error, len(made[one.id]), one.started) for one in ours
            ]
            yield Batch("advance_schedules", _ADVANCED, advanced)
        return made

    def read_back(self, firings: Sequence[Firing]) -> Steps[list[list[UUID] | None]]:
        """Return for each firing whose reply was lost the tasks that it has made; `None` where that is not known yet.

        Its transaction has the schedule locked until it ends. So where the lock is free it has ended, and the tasks
        that are stored are all that it will ever have made.
        """
        yield BEGIN
        rows = yield Call("lock_schedules", {"ids": sorted({firing.id for firing in firings})})
        free = {self.database.uid(row[0]) for row in rows}
        stored = yield from self._tasks.stored_among([task.row.id for firing in firings for task in firing.tasks])
        made: list[list[UUID] | None] = []
        for firing in firings:
            found = [task.row.id for task in firing.tasks if task.row.id in stored]
            ended = bool(found) or firing.id in free or (yield from self.get(firing.id)) is None
            made.append(found if ended else None)
        return made

    # ── for callers ───────────────────────────────────────────────────────────────────────────────────────

    def get(self, schedule_id: UUID) -> Steps[ScheduleRow | None]:
        """Return a schedule, also a soft-deleted one."""
        rows = self._read((yield Call("schedule", {"id": schedule_id})))
        return rows[0] if rows else None

    def named(self, names: Sequence[str]) -> Steps[dict[str, ScheduleRow]]:
        """Return the schedules with these names that are not deleted."""
        rows = yield Call("schedules_named", {"names": list(names)})
        return {row.name: row for row in self._read(rows)}

    def page(self, listing: RecordListing) -> Steps[list[ScheduleRow]]:
        """Read a page of schedules."""
        return self._read((yield listing.select(self.database)))

    def total(self, listing: RecordListing) -> Steps[int]:
        """Count the matches."""
        return int((yield listing.count())[0][0])

    def run_now(self, schedule_id: UUID, task: KeyedRow, *, joined: bool) -> Steps[bool]:
        """Store a task of a schedule, and count it; false where there is no such schedule."""
        yield Begin(HELD_AFTER)
        rows = self._read((yield Call("lock_schedule", {"id": schedule_id})))
        if not rows or rows[0].deleted_at is not None:
            return False
        row = rows[0]
        yield from self._tasks.external_ids.take([task], joined=joined)
        yield from self._tasks.insert([task.row])
        over = row.status == ScheduleStatus.ACTIVE and row.max_executions == row.execution_count + 1
        status, next_run_at = (ScheduleStatus.COMPLETED, None) if over else (row.status, row.next_run_at)
        yield Batch("advance_schedules", _ADVANCED, [(row.id, next_run_at, status, row.error, 1, False)])
        return True

    def create(self, row: ScheduleRow) -> Steps[ScheduleRow]:
        """Store a new schedule; raises `DuplicateScheduleError` where its name or its id is taken.

        An active one begins now, unless its next instant is given.
        """
        yield BEGIN
        now = self.database.instant((yield Call("now"))[0][0])
        if row.status == ScheduleStatus.ACTIVE:
            begun = row.begun(now, "active")
            row = begun if row.next_run_at is None else begun._replace(next_run_at=row.next_run_at)
        there = (yield from self.named([row.name])).get(row.name) or (yield from self.get(row.id))
        if there is None:
            yield Batch("insert_schedules", WRITTEN, [row.written])
            there = yield from self.get(row.id)
            if there is not None:
                return there
        raise DuplicateScheduleError(row.name, None if there is None else there.id)

    def change(self, schedule_id: UUID, decide: Decision) -> Steps[ScheduleRow | None]:
        """Lock a schedule and write what is decided for it; `None` where there is none.

        Raises `DuplicateScheduleError` where it would get a name that is taken.
        """
        yield BEGIN
        rows = self._read((yield Call("lock_schedule", {"id": schedule_id})))
        if not rows:
            return None
        now = self.database.instant((yield Call("now"))[0][0])
        before, after = rows[0], decide(rows[0], now)
        if after == before:
            return before
        if after.deleted_at is None and (before.deleted_at is not None or after.name != before.name):
            owner = (yield from self.named([after.name])).get(after.name)
            if owner is not None and owner.id != before.id:
                raise DuplicateScheduleError(after.name, owner.id)
        yield Batch("update_schedules", WRITTEN, [after.written])
        return (yield from self.get(schedule_id))

    def declare(self, declared: Sequence[ScheduleRow]) -> Steps[None]:
        """Store what code declares, by name; what operators and dispatchers have written of it stays."""
        # One order for everybody, so that processes that start together wait for, not deadlock, each other.
        declared = sorted(declared, key=lambda row: row.name)
        yield BEGIN
        now = self.database.instant((yield Call("now"))[0][0])
        stored = yield from self.named([row.name for row in declared])
        missing = [_begun(row, now).written for row in declared if row.name not in stored]
        if missing:
            yield Batch("insert_schedules", WRITTEN, missing)
        for row in declared:
            there = stored.get(row.name)
            if there is None or is_as_declared(there, row):
                continue
            locked = self._read((yield Call("lock_schedule", {"id": there.id})))
            if locked:
                yield Batch("update_schedules", WRITTEN, [declared_again(locked[0], row, now).written])

    def delete(self, schedule_id: UUID) -> Steps[bool]:
        """Delete a schedule for good; its tasks stay. False where there is none."""
        yield BEGIN
        if not (yield Call("lock_schedule", {"id": schedule_id})):
            return False
        yield Call("delete_schedule", {"id": schedule_id})
        return True

    def _read(self, rows: Sequence[Row]) -> list[ScheduleRow]:
        return [read_schedule_row(row, self.database) for row in rows]


def _begun(row: ScheduleRow, now: datetime) -> ScheduleRow:
    """Return what code declares for the first time: active, or completed where it has no occurrence any more."""
    try:
        return row.begun(now, "declared")
    except InvalidRecurrenceError:
        return row._replace(status=ScheduleStatus.COMPLETED)
