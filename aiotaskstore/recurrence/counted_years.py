"""Counts the occurrences of a rule by years, to find one that is far away without going through those before it."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import MAXYEAR, date, datetime, timedelta
from zoneinfo import ZoneInfo

from aiotaskstore.recurrence.date_filter import DateFilter
from aiotaskstore.recurrence.local_time import resolved, skipped_dates


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedYears:
    """The dates of a calendar pattern, year by year.

    Two years are alike if they have as many days, begin on the same weekday, and begin as long after a period that
    counts. Of these only the first is gone through.
    """

    start: datetime
    """The local time of the first occurrence, if its date is allowed."""
    origin: date
    """The first day of its period."""
    place: ZoneInfo
    dates: DateFilter
    by_days: bool
    length: int
    """Days of a period, or months."""
    interval: int

    def date_numbered(self, number: int) -> date | None:
        """Return the date of the occurrence with this number, from 1 on; `None` if there are fewer."""
        apart = {self.start.year, *(day.year for day in skipped_dates(self.place))}
        alike: dict[tuple[bool, int, int], int] = {}
        left = number
        for year in range(self.start.year, MAXYEAR + 1):
            kind = calendar.isleap(year), date(year, 1, 1).weekday(), self._behind(year)
            found = None if year in apart else alike.get(kind)
            if found is None:
                found = sum(1 for _ in self._dates(year))
                if year not in apart:
                    alike[kind] = found
            if found >= left:
                return list(self._dates(year))[left - 1]
            left -= found
        return None

    def instant(self, day: date) -> datetime:
        """Return when it occurs on this date."""
        return resolved(datetime.combine(day, self.start.time()), self.place)

    def _dates(self, year: int) -> Iterator[date]:
        """Yield the dates of this year on which it occurs."""
        start, skipped = self.start.date(), skipped_dates(self.place)
        for day in self._dates_that_count(year):
            if self.dates.matches(day) and day >= start and not (day in skipped and self._coincides(day)):
                yield day

    def _coincides(self, day: date) -> bool:
        """Return whether the occurrence of a date that never was is that of the next date."""
        following = day + timedelta(days=1)
        occurs = self.dates.matches(following) and following in self._dates_that_count(following.year)
        return occurs and self.instant(day) == self.instant(following)

    def _dates_that_count(self, year: int) -> Iterator[date]:
        """Yield the dates of this year that lie in periods that count."""
        behind = self._behind(year)
        if self.by_days:
            first, end = date(year, 1, 1).toordinal(), date(year, 12, 31).toordinal() + 1
            for start in range(first - behind, end, self.length * self.interval):
                yield from map(date.fromordinal, range(max(start, first), min(start + self.length, end)))
            return
        for month in range(12):
            if (behind + month) % (self.length * self.interval) < self.length:
                start = date(year, month + 1, 1).toordinal()
                yield from map(date.fromordinal, range(start, start + calendar.monthrange(year, month + 1)[1]))

    def _behind(self, year: int) -> int:
        """Return how many days or months this year begins after the last period that counts."""
        if self.by_days:
            return (date(year, 1, 1) - self.origin).days % (self.length * self.interval)
        months = (year - self.origin.year) * 12 + 1 - self.origin.month
        return months % (self.length * self.interval)
