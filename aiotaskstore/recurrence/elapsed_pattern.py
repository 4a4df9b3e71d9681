"""Rules that count hours, minutes or seconds: their occurrences are elapsed time apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from aiotaskstore.recurrence.date_filter import DateFilter
from aiotaskstore.recurrence.instants import MOMENT
from aiotaskstore.recurrence.local_time import local_time, resolved

_MOST_DATES = 20_000
"""Allowed dates that are looked at for an occurrence: more than fifty years of days."""


@dataclass(frozen=True, slots=True)
class ElapsedPattern:
    """Every `step` from `starts_at` on, in elapsed time, where the local date is allowed."""

    step: timedelta
    starts_at: datetime
    place: ZoneInfo
    dates: DateFilter

    def occurrences(self, instant: datetime) -> Iterator[datetime]:
        """Yield the occurrences after this instant."""
        number = max(0, (instant - self.starts_at) // self.step + 1)
        try:
            while (found := self._allowed(number)) is not None:
                yield self.starts_at + found * self.step
                number = found + 1
        except OverflowError:  # past the year 9999
            return

    def numbered(self, number: int) -> datetime | None:
        """Return the occurrence with this number, from 1 on; `None` if there are fewer.

        Dates are counted instead of occurrences, where one has more than one.
        """
        if self.dates == DateFilter():
            return self.starts_at + (number - 1) * self.step
        left, step = number, 0
        while (found := self._allowed(step)) is not None:
            day = local_time(self.starts_at + found * self.step, self.place).date()
            midnight = resolved(datetime.combine(day + timedelta(days=1), time()), self.place)
            step = max(found + 1, -((self.starts_at - midnight) // self.step))
            if step - found >= left:
                return self.starts_at + (found + left - 1) * self.step
            left -= step - found
        return None

    def is_possible(self) -> bool:
        """Return whether any date is ever allowed."""
        return next(self.occurrences(self.starts_at - MOMENT), None) is not None

    def _allowed(self, number: int) -> int | None:
        """Return the number of the first occurrence, from `number` on, whose date is allowed."""
        for _ in range(_MOST_DATES):
            day = local_time(self.starts_at + number * self.step, self.place).date()
            if self.dates.matches(day):
                return number
            following = self.dates.next_match(day)
            if following is None:
                return None
            midnight = resolved(datetime.combine(following, time()), self.place)
            number = max(number + 1, -((self.starts_at - midnight) // self.step))
        return None
