"""What becomes of a schedule's row when a caller changes it. Decided under the row's lock; asks nothing else."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aiotaskstore.errors import InvalidRecurrenceError, InvalidTransitionError
from aiotaskstore.schedule import ScheduleStatus
from aiotaskstore.storage.schedule_rows import DECIDES_WHEN, ScheduleRow


def updated(row: ScheduleRow, now: datetime, *, columns: dict[str, Any]) -> ScheduleRow:
    """Write columns that a caller names; when it is due next follows from those that decide it."""
    after = row._replace(**columns)
    rescheduled = any(getattr(after, name) != getattr(row, name) for name in (*DECIDES_WHEN, "status"))
    return after.begun(now, "changed so") if rescheduled and after.status == ScheduleStatus.ACTIVE else after


def paused(row: ScheduleRow, _now: datetime) -> ScheduleRow:
    """Make it inactive. Raises `InvalidTransitionError` for a completed one."""
    if row.status == ScheduleStatus.COMPLETED:
        raise InvalidTransitionError(row.id, "pause", row.status, "It makes no tasks any more.", kind="Schedule")
    return row._replace(status=ScheduleStatus.INACTIVE)


def resumed(row: ScheduleRow, now: datetime) -> ScheduleRow:
    """Make it active, in step. Raises `InvalidTransitionError` for a completed one that has nothing left."""
    if row.status == ScheduleStatus.ACTIVE:
        return row
    try:
        return row.resumed(now, "resumed")
    except InvalidRecurrenceError as error:
        if row.status != ScheduleStatus.COMPLETED:
            raise
        raise InvalidTransitionError(row.id, "resume", row.status, str(error), kind="Schedule") from error


def soft_deleted(row: ScheduleRow, now: datetime) -> ScheduleRow:
    """Hide it."""
    return row if row.deleted_at is not None else row._replace(deleted_at=now)


def restored(row: ScheduleRow, now: datetime) -> ScheduleRow:
    """Show it again, in step if it is active; completed where it has no occurrence left."""
    shown = row._replace(deleted_at=None)
    if row.deleted_at is None or row.status != ScheduleStatus.ACTIVE:
        return shown
    try:
        return shown.resumed(now, "restored")
    except InvalidRecurrenceError:
        return shown._replace(status=ScheduleStatus.COMPLETED, next_run_at=None)
