"""Occurrences that are equally far apart."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from aiotaskstore.errors import ConfigurationError, InvalidRecurrenceError
from aiotaskstore.mechanics.duration import Duration, seconds
from aiotaskstore.recurrence.instants import MOMENT, checked_bound, checked_instant


@dataclass(frozen=True, slots=True, init=False)
class Every:
    """Occurrences that are equally far apart in elapsed time: `Every(hours=6)`, `Every(90)`, `Every(timedelta(1))`.

    The first one comes a period after the schedule was made, and each other a period after the one planned
    before it, so that late runs move nothing. With `starts_at` they are counted from there, which is the first.
    """

    period: timedelta
    starts_at: datetime | None = None

    def __init__(
        self,
        period: Duration = 0,
        /,
        *,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        starts_at: datetime | None = None,
    ) -> None:
        units = {"weeks": weeks, "days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        total = _span(period, "The period") + sum(
            (_span(number, unit) * _SECONDS[unit] for unit, number in units.items()), timedelta(0)
        )
        if total < MOMENT:
            raise InvalidRecurrenceError("A period must be above zero, but it is 0. Write Every(hours=6), for example.")
        object.__setattr__(self, "period", total)
        object.__setattr__(
            self, "starts_at", None if starts_at is None else checked_bound(starts_at, "starts_at of Every")
        )

    def next_after(self, instant: datetime, /) -> datetime | None:
        """Return the first occurrence after this instant; without `starts_at`, the instant a period later."""
        instant = checked_instant(instant, "instant")
        if self.starts_at is None:
            return _moved(instant, self.period)
        if instant < self.starts_at:
            return self.starts_at
        return self.in_step(self.starts_at, instant)

    def in_step(self, planned: datetime, instant: datetime) -> datetime | None:
        """Return the first instant after `instant` that is whole periods away from `planned`."""
        return _moved(planned, ((instant - planned) // self.period + 1) * self.period)


_SECONDS = {"weeks": 604_800, "days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}


def _span(value: Duration, name: str) -> timedelta:
    """Return a number of units as if they were seconds."""
    try:
        return timedelta(seconds=seconds(value, f"{name} of Every"))
    except ConfigurationError as error:
        raise InvalidRecurrenceError(str(error)) from None


def _moved(instant: datetime, span: timedelta) -> datetime | None:
    try:
        return instant + span
    except OverflowError:  # beyond the year 9999 nothing happens
        return None
