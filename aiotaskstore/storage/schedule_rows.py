"""Rows of schedules, as values, and what may be decided about one without asking anybody."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from aiotaskstore import occurrences
from aiotaskstore.errors import InvalidRecurrenceError
from aiotaskstore.occurrences import Timing
from aiotaskstore.payload import ANYTHING, dump
from aiotaskstore.recurrence import FunctionRecurrence, Recurrence, as_recurrence, dump_recurrence, load_recurrence
from aiotaskstore.schedule import (
    Misfire,
    Schedule,
    ScheduleStatus,
    dump_schedule_options,
    load_schedule_options,
)
from aiotaskstore.schedule_registry import ScheduleRegistry

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database
    from aiotaskstore.storage.operation import Row


class ScheduleRow(NamedTuple):
    """A row of the table of schedules."""

    id: UUID
    name: str
    description: str
    status: str
    alias: str
    queue: str | None
    payload: str | None
    """JSON text; `None` where it is a function."""
    options: str
    """JSON text."""
    recurrence: str
    """JSON text; of a function only its name."""
    starts_at: datetime | None
    ends_at: datetime | None
    execution_count: int
    max_executions: int | None
    misfire: Misfire
    run_on_start: bool
    code_owned: bool
    last_run_at: datetime | None
    next_run_at: datetime | None
    error: str | None
    deleted_at: datetime | None
    revision: int = 0
    """Each write adds one."""
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def written(self) -> tuple[Any, ...]:
        """The values of `WRITTEN`."""
        return self[: len(WRITTEN)]

    def timing(self, recurrence: Recurrence | None = None) -> Timing:
        """Return what says when it occurs, by this recurrence or the stored one."""
        left = _left(self)
        return Timing(recurrence or self.stored_recurrence(), self.starts_at, self.ends_at, left, self.misfire)

    def stored_recurrence(self) -> Recurrence:
        """Read the recurrence; raises `InvalidRecurrenceError` for what is none."""
        return load_recurrence(self.recurrence)

    def begun(self, now: datetime, why: str) -> ScheduleRow:
        """Return it as an active schedule that waits for its first occurrence from now on.

        What a function decides is left to a dispatcher. Raises `InvalidRecurrenceError` where there is no occurrence.
        """
        recurrence = self.stored_recurrence()
        active = self._replace(status=ScheduleStatus.ACTIVE, error=None, next_run_at=None)
        if isinstance(recurrence, FunctionRecurrence):
            return active
        plan = occurrences.begin(self.timing(recurrence), now)
        over = plan.next_run_at is None or (self.last_run_at is not None and plan.next_run_at <= self.last_run_at)
        if over:
            raise InvalidRecurrenceError(
                f'The schedule "{self.name}" cannot be {why}: {plan.error or self._spent(now)} Change its recurrence, '
                "ends_at or max_executions first."
            )
        return active._replace(next_run_at=plan.next_run_at)

    def resumed(self, now: datetime, why: str) -> ScheduleRow:
        """Return it as an active schedule that goes on in step; what was planned meanwhile is not made up for."""
        planned = self.next_run_at
        if planned is None or self.status == ScheduleStatus.COMPLETED:
            return self.begun(now, why)
        if planned <= now:
            recurrence = self.stored_recurrence()
            if isinstance(recurrence, FunctionRecurrence):
                return self.begun(now, why)
            planned = occurrences.after(self.timing(recurrence), planned, now)
        if planned is None:
            return self.begun(now, why)
        return self._replace(status=ScheduleStatus.ACTIVE, error=None, next_run_at=planned)

    def _spent(self, now: datetime) -> str:
        if self.max_executions is not None and self.execution_count >= self.max_executions:
            return f"it has made all {self.max_executions} of its tasks."
        return f"nothing occurs after {now:%Y-%m-%d %H:%M:%S} UTC any more."


WRITTEN = tuple("schedule_status" if name == "status" else name for name in ScheduleRow._fields[:-3])
"""The columns that are written, as statements name them."""

CHANGEABLE = ("name", "description", "alias", "queue", "payload", "options", "recurrence", "starts_at", "ends_at",
              "max_executions", "misfire", "run_on_start")  # fmt: skip
"""What a caller decides."""
DECIDES_WHEN = ("recurrence", "starts_at", "ends_at", "max_executions")
"""What decides when a schedule occurs."""
_DECLARED = (*CHANGEABLE, "code_owned")


def schedule_row(schedule: Schedule, payload_limit: int) -> ScheduleRow:
    """Make a row of a schedule; raises `PayloadError` for a payload that cannot be stored."""
    payload: str | None = None
    if not callable(schedule.payload):
        what = f'The payload of the schedule "{schedule.name}"'
        payload = dump(ANYTHING, schedule.payload or {}, what, payload_limit)
    return ScheduleRow(
        id=schedule.id,
        name=schedule.name,
        description=schedule.description,
        status=schedule.status,
        alias=schedule.alias,
        queue=schedule.queue,
        payload=payload,
        options=dump_schedule_options(schedule.options),
        recurrence=dump_recurrence(as_recurrence(schedule.recurrence)),
        starts_at=schedule.starts_at,
        ends_at=schedule.ends_at,
        execution_count=schedule.execution_count,
        max_executions=schedule.max_executions,
        misfire=schedule.misfire,
        run_on_start=schedule.run_on_start,
        code_owned=schedule.code_owned,
        last_run_at=schedule.last_run_at,
        next_run_at=schedule.next_run_at,
        error=None,
        deleted_at=None,
    )


def schedule_from(row: ScheduleRow, known: ScheduleRegistry) -> Schedule:
    """Make a Schedule of a row, with the functions of it that are known here."""
    try:
        recurrence = known.recurrence(row.name, row.stored_recurrence())
    except InvalidRecurrenceError:
        recurrence = FunctionRecurrence(row.recurrence)  # so that it can be listed, and updated
    return Schedule(
        name=row.name,
        alias=row.alias,
        recurrence=recurrence,
        payload=known.payload_function(row.name) if row.payload is None else json.loads(row.payload),
        queue=row.queue,
        options=load_schedule_options(row.options),
        description=row.description,
        status=row.status,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        max_executions=row.max_executions,
        misfire=row.misfire,
        run_on_start=row.run_on_start,
        id=row.id,
        execution_count=row.execution_count,
        last_run_at=row.last_run_at,
        next_run_at=row.next_run_at,
        code_owned=row.code_owned,
        error=row.error,
        created_at=row.created_at,
        updated_at=row.updated_at,
        deleted_at=row.deleted_at,
    )


def timing_of(schedule: Schedule) -> Timing:
    """Return what says when a schedule occurs."""
    recurrence = as_recurrence(schedule.recurrence)
    return Timing(recurrence, schedule.starts_at, schedule.ends_at, _left(schedule), schedule.misfire)


def _left(schedule: Schedule | ScheduleRow) -> int | None:
    """Return how many tasks a schedule may still make; `None` for any number."""
    return None if schedule.max_executions is None else max(0, schedule.max_executions - schedule.execution_count)


def read_schedule_row(row: Row, database: Database) -> ScheduleRow:
    """Make a value of a row of the column list `schedule`."""
    found = ScheduleRow(*row)
    instant = database.maybe_instant
    return found._replace(
        id=database.uid(found.id),
        starts_at=instant(found.starts_at),
        ends_at=instant(found.ends_at),
        run_on_start=bool(found.run_on_start),
        code_owned=bool(found.code_owned),
        last_run_at=instant(found.last_run_at),
        next_run_at=instant(found.next_run_at),
        deleted_at=instant(found.deleted_at),
        created_at=instant(found.created_at),
        updated_at=instant(found.updated_at),
    )


def is_as_declared(stored: ScheduleRow, declared: ScheduleRow) -> bool:
    """Return whether a stored schedule is what code declares."""
    return all(getattr(stored, name) == getattr(declared, name) for name in _DECLARED)


def declared_again(stored: ScheduleRow, declared: ScheduleRow, now: datetime) -> ScheduleRow:
    """Return a stored schedule as code declares it now.

    What operators decided stays: a paused one stays inactive. A draft becomes active. One that an error stopped, or
    that was completed, begins again if code has changed when it occurs.
    """
    changed = stored._replace(**{name: getattr(declared, name) for name in _DECLARED})
    draft = stored.status == ScheduleStatus.DRAFT
    if not draft and all(getattr(stored, name) == getattr(declared, name) for name in DECIDES_WHEN):
        return changed
    paused = stored.status == ScheduleStatus.INACTIVE and stored.error is None
    if paused:
        return changed
    try:
        return changed.begun(now, "declared")
    except InvalidRecurrenceError:
        return changed._replace(status=ScheduleStatus.COMPLETED, next_run_at=None, error=None)
