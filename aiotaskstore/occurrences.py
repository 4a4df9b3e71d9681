"""The occurrences of a schedule: which of them become tasks now, and which one is next. No clock, no database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from aiotaskstore.errors import InvalidRecurrenceError, TaskStoreError
from aiotaskstore.recurrence import Cron, Every, FunctionRecurrence, Once, Recurrence, RecurrenceRule, following
from aiotaskstore.schedule import Misfire, ScheduleStatus

_MOMENT = timedelta(microseconds=1)


class Timing(NamedTuple):
    """What says when a schedule's occurrences are, and what becomes of those that are missed."""

    recurrence: Recurrence
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    left: int | None = None
    """How many tasks it may still make; `None` for any number."""
    misfire: Misfire = "coalesce"


class Plan(NamedTuple):
    """What becomes of a schedule at an instant."""

    due: tuple[datetime, ...]
    """The occurrences that become tasks now."""
    next_run_at: datetime | None
    status: ScheduleStatus
    error: str | None = None
    """Why it cannot go on."""

    def having_made(self, tasks: int, left: int | None) -> Plan:
        """Return it after so many tasks were made: with its last one a schedule is completed."""
        if left is None or tasks < left:
            return self
        return self._replace(next_run_at=None, status=ScheduleStatus.COMPLETED)


COMPLETED = Plan((), None, ScheduleStatus.COMPLETED)


def first(timing: Timing, now: datetime) -> datetime | None:
    """Return the first occurrence of a schedule that begins now; a single one counts also if past."""
    start, period = timing.starts_at, _period(timing.recurrence)
    if period is not None and start is not None:
        return _within(timing, start if now < start else period.in_step(start, now))
    single = _single(timing.recurrence)
    return _within(timing, single) if single is not None else after(timing, now, now)


def is_open(timing: Timing, now: datetime) -> bool:
    """Return whether this instant lies between the schedule's start and its end."""
    return (timing.starts_at is None or now >= timing.starts_at) and (timing.ends_at is None or now <= timing.ends_at)


def after(timing: Timing, planned: datetime, now: datetime) -> datetime | None:
    """Return the first occurrence after `now`, in step with the one that was planned."""
    start = timing.starts_at
    if start is not None and now < start:
        # A function is asked what follows the start; all others may occur at it.
        planned = now = start if isinstance(timing.recurrence, FunctionRecurrence) else start - _MOMENT
    found = following(timing.recurrence, planned, now)
    if found is None:
        return None
    if not isinstance(found, datetime) or found.utcoffset() is None or found <= now:
        raise InvalidRecurrenceError(
            f"{type(timing.recurrence).__name__} returned {found!r:.100} for what follows {now}; it must return a "
            "later datetime with a timezone, or None for no more occurrences."
        )
    return _within(timing, found.astimezone(UTC))


def begin(timing: Timing, now: datetime) -> Plan:
    """Plan the first occurrence of an active schedule."""
    if timing.left == 0:
        return COMPLETED
    try:
        found = first(timing, now)
    except Exception as error:  # noqa: BLE001 - the application's function; whatever it raises, the schedule keeps it
        return Plan((), None, ScheduleStatus.INACTIVE, described(error))
    return Plan((), found, ScheduleStatus.COMPLETED if found is None else ScheduleStatus.ACTIVE)


def advance(timing: Timing, planned: datetime, now: datetime, *, tolerance: timedelta, most: int) -> Plan:
    """Decide which of the occurrences from `planned` on become tasks now, at most `most`.

    One that is late by no more than `tolerance` was not missed.
    """
    if timing.left == 0 or (timing.ends_at is not None and now > timing.ends_at + tolerance):
        return COMPLETED
    if timing.misfire == "catch_up":
        return _each(timing, planned, now, most if timing.left is None else min(most, timing.left))
    due = (planned,) if timing.misfire == "coalesce" or now - planned <= tolerance else ()
    try:
        next_ = after(timing, planned, now)
        if timing.misfire == "skip" and after(timing, planned, planned) != next_:
            due = ()  # a later one is due too
    except Exception as error:  # noqa: BLE001 - see begin
        return Plan(due, None, ScheduleStatus.INACTIVE, described(error))
    return _planned(due, next_)


def preview(timing: Timing, planned: datetime | None, count: int) -> list[datetime]:
    """Return the next occurrences from this one on, at most `count`."""
    found: list[datetime] = []
    if timing.left is not None:
        count = min(count, timing.left)
    while planned is not None and len(found) < count:
        found.append(planned)
        planned = after(timing, planned, planned)
    return found


def described(error: Exception) -> str:
    """Return an error as the text that a schedule keeps."""
    return str(error) if isinstance(error, TaskStoreError) else f"{type(error).__name__}: {error}"


def _each(timing: Timing, planned: datetime, now: datetime, most: int) -> Plan:
    """Plan a task for each occurrence that is due."""
    due: list[datetime] = []
    next_: datetime | None = planned
    try:
        while next_ is not None and next_ <= now and len(due) < most:
            due.append(next_)
            next_ = after(timing, next_, next_)
    except Exception as error:  # noqa: BLE001 - see begin
        return Plan(tuple(due), None, ScheduleStatus.INACTIVE, described(error))
    return _planned(tuple(due), next_)


def _planned(due: tuple[datetime, ...], next_run_at: datetime | None) -> Plan:
    status = ScheduleStatus.COMPLETED if next_run_at is None else ScheduleStatus.ACTIVE
    return Plan(due, next_run_at, status)


def _within(timing: Timing, found: datetime | None) -> datetime | None:
    return None if found is None or (timing.ends_at is not None and found > timing.ends_at) else found


def _period(recurrence: Recurrence) -> Every | None:
    """Return the period of a recurrence that begins when its schedule does."""
    period = recurrence.period if isinstance(recurrence, Cron) else recurrence
    return period if isinstance(period, Every) and period.starts_at is None else None


def _single(recurrence: Recurrence) -> datetime | None:
    """Return the only occurrence of a recurrence that has just one."""
    if isinstance(recurrence, Once):
        return recurrence.at
    if isinstance(recurrence, RecurrenceRule) and recurrence.frequency == "none":
        return recurrence.starts_at
    return None
