"""Rules that count days, weeks, months or years: their occurrences are local times of day."""

from __future__ import annotations

import calendar
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from dateutil import rrule

from aiotaskstore.recurrence.counted_years import CountedYears
from aiotaskstore.recurrence.date_filter import GREGORIAN_CYCLE, DateFilter
from aiotaskstore.recurrence.frequency import Frequency
from aiotaskstore.recurrence.local_time import local_time, resolved

_KINDS: dict[Frequency, Literal[0, 1, 2, 3]] = {
    Frequency.YEARLY: rrule.YEARLY,
    Frequency.MONTHLY: rrule.MONTHLY,
    Frequency.WEEKLY: rrule.WEEKLY,
    Frequency.DAILY: rrule.DAILY,
}
_DAYS = {Frequency.DAILY: 1, Frequency.WEEKLY: 7}
_MONTHS = {Frequency.MONTHLY: 1, Frequency.YEARLY: 12}
_CYCLES = {
    Frequency.DAILY: GREGORIAN_CYCLE,
    Frequency.WEEKLY: GREGORIAN_CYCLE // 7,
    Frequency.MONTHLY: 400 * 12,
    Frequency.YEARLY: 400,
}
"""Periods of each kind after which weekdays and leap years repeat."""


@dataclass(frozen=True, slots=True)
class CalendarPattern:
    """Every `interval` days, weeks, months or years from `starts_at` on, at its local time of day, on dates allowed.

    A period is one day, week (from Monday), month or year. Those that count are `interval` apart, and the first is
    that of `starts_at`: from these the search begins near the instant asked for, however far that is.
    """

    frequency: Frequency
    interval: int
    starts_at: datetime
    place: ZoneInfo
    dates: DateFilter

    def occurrences(self, instant: datetime) -> Iterator[datetime]:
        """Yield the occurrences after this instant, which lies at most a moment before `starts_at`."""
        start = local_time(self.starts_at, self.place)
        local, latest = local_time(instant, self.place), instant
        fraction = timedelta(microseconds=start.microsecond)
        for whole in self._stepping(self._period(self._number(local))):
            occurrence = whole + fraction
            if occurrence <= local:
                continue
            # Where clocks are put back, `starts_at` may lie in the second pass; others never do.
            at = self.starts_at if occurrence == start else resolved(occurrence, self.place)
            if at > latest:
                latest = at
                yield at

    def numbered(self, number: int) -> datetime | None:
        """Return the occurrence with this number, from 1 on; `None` if there are fewer."""
        by_days = self.frequency in _DAYS
        years = CountedYears(
            start=local_time(self.starts_at, self.place),
            origin=self._origin().date(),
            place=self.place,
            dates=self.dates,
            by_days=by_days,
            length=(_DAYS if by_days else _MONTHS)[self.frequency],
            interval=self.interval,
        )
        day = years.date_numbered(number)
        if day is None:
            return None
        return self.starts_at if day == years.start.date() else years.instant(day)

    def is_possible(self) -> bool:
        """Return whether any date is ever allowed."""
        cycle = _CYCLES[self.frequency]
        for number in range(cycle // math.gcd(cycle, self.interval)):
            first = self._period(number)
            if first is None:
                return False
            if any(self.dates.matches(first + timedelta(days=one)) for one in range(self._length(first))):
                return True
        return False

    def _stepping(self, first: datetime | None) -> Iterator[datetime]:
        """Yield local times from this period on."""
        if first is None:
            return
        stepping = rrule.rrule(
            _KINDS[self.frequency],
            dtstart=first,
            interval=self.interval,
            byweekday=self.dates.weekdays or None,
            bymonthday=self.dates.days or None,
            bymonth=self.dates.months or None,
        )
        with suppress(ValueError):  # in the week that reaches beyond the year 9999
            yield from stepping

    def _number(self, local: datetime) -> int:
        """Return how many periods that count have begun before this local time, since the one of `starts_at`."""
        origin = self._origin()
        if self.frequency in _DAYS:
            passed = (local.date() - origin.date()).days // _DAYS[self.frequency]
        else:
            passed = (_months(local) - _months(origin)) // _MONTHS[self.frequency]
        return max(0, passed // self.interval)

    def _period(self, number: int) -> datetime | None:
        """Return the first day of a period that counts, at the rule's time of day; `None` after the year 9999."""
        origin, steps = self._origin(), number * self.interval
        try:
            if self.frequency in _DAYS:
                return origin + timedelta(days=steps * _DAYS[self.frequency])
            year, month = divmod(_months(origin) + steps * _MONTHS[self.frequency], 12)
            return origin.replace(year=year, month=month + 1)
        except (OverflowError, ValueError):
            return None

    def _origin(self) -> datetime:
        """Return the first day of the period of `starts_at`, at its time of day."""
        start = local_time(self.starts_at, self.place).replace(microsecond=0)
        match self.frequency:
            case Frequency.YEARLY:
                return start.replace(month=1, day=1)
            case Frequency.MONTHLY:
                return start.replace(day=1)
            case Frequency.WEEKLY:
                return start - timedelta(days=start.weekday())
            case _:
                return start

    def _length(self, first: datetime) -> int:
        """Return the number of days of the period that begins here."""
        if self.frequency in _DAYS:
            return _DAYS[self.frequency]
        if self.frequency is Frequency.MONTHLY:
            return calendar.monthrange(first.year, first.month)[1]
        return 365 + calendar.isleap(first.year)


def _months(local: datetime) -> int:
    return local.year * 12 + local.month - 1
