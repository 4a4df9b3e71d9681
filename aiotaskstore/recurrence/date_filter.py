"""Which dates a recurrence rule allows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

_DAY = timedelta(days=1)
GREGORIAN_CYCLE = 146_097
"""Days after which weekdays and leap years repeat: 400 years."""


@dataclass(frozen=True, slots=True)
class DateFilter:
    """The dates that match every filter that is not empty. Weekdays count from Monday = 0."""

    weekdays: tuple[int, ...] = ()
    days: tuple[int, ...] = ()
    months: tuple[int, ...] = ()

    def matches(self, day: date) -> bool:
        """Return whether this date is allowed."""
        return (
            (not self.months or day.month in self.months)
            and (not self.days or day.day in self.days)
            and (not self.weekdays or day.weekday() in self.weekdays)
        )

    def next_match(self, day: date) -> date | None:
        """Return the first date after `day` that is allowed, or `None` if there never is one."""
        try:
            for _ in range(GREGORIAN_CYCLE):
                day += _DAY
                if self.matches(day):
                    return day
        except OverflowError:  # past the year 9999
            pass
        return None
