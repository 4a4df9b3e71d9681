"""Recurrences in the words of a calendar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

from aiotaskstore.errors import InvalidRecurrenceError
from aiotaskstore.recurrence.day_of_week import DayOfWeek
from aiotaskstore.recurrence.frequency import Frequency
from aiotaskstore.recurrence.instants import MOMENT, checked_bound, checked_instant
from aiotaskstore.recurrence.local_time import local_time, zone, zone_name
from aiotaskstore.recurrence.month_of_year import MonthOfYear

if TYPE_CHECKING:
    from aiotaskstore.recurrence.calendar_pattern import CalendarPattern
    from aiotaskstore.recurrence.elapsed_pattern import ElapsedPattern

_STEPS = {
    Frequency.SECONDLY: timedelta(seconds=1),
    Frequency.MINUTELY: timedelta(minutes=1),
    Frequency.HOURLY: timedelta(hours=1),
}
_MOST_COUNTED = 100_000
_LONGEST_INTERVAL = 100_000_000
_LAST_DAY = 31
Name = TypeVar("Name", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class RecurrenceRule:
    """Every `interval` seconds … years from `starts_at` on, on the days and in the months that are named.

    A date must match every filter that is given. Without any, a weekly rule keeps the weekday of `starts_at`, a
    monthly one its day, a yearly one its day and month; a month without that day is left out, so that monthly
    from January 31 is March 31 next. Daily and longer rules keep the local time of day: a local time that is
    skipped when clocks are put forward is the first instant after the gap, a repeated one is its first pass.
    Hourly and shorter ones count elapsed time.
    """

    frequency: Frequency = Frequency.NONE
    interval: int = 1
    days_of_week: Sequence[DayOfWeek] = ()
    days_of_month: Sequence[int] = ()
    """1 to 31. The last day of each month is said by `Cron("0 0 L * *")`."""
    months_of_year: Sequence[MonthOfYear] = ()
    starts_at: datetime | None = None
    """The first occurrence, if its date matches the filters; always needed, since what counts is counted from it."""
    ends_at: datetime | None = None
    """No occurrence lies after this instant."""
    timezone: str | ZoneInfo | None = None
    """The name of the zone in which days begin and clocks are read; that of `starts_at` if it has one, else UTC."""
    count: int | None = None
    """The most occurrences, from `starts_at` on."""

    def __post_init__(self) -> None:
        checked = {
            "frequency": _named(Frequency, self.frequency, "frequency"),
            "interval": _whole(self.interval, "interval", _LONGEST_INTERVAL),
            "days_of_week": _all_named(DayOfWeek, self.days_of_week, "days_of_week"),
            "days_of_month": _days(self.days_of_month),
            "months_of_year": _all_named(MonthOfYear, self.months_of_year, "months_of_year"),
            "starts_at": _start(self.starts_at),
            "ends_at": None if self.ends_at is None else checked_bound(self.ends_at, "ends_at"),
            "timezone": _zone(self.timezone, self.starts_at),
            "count": None if self.count is None else _whole(self.count, "count", _MOST_COUNTED),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        self._check_together()

    def next_after(self, instant: datetime, /) -> datetime | None:
        """Return the first occurrence after this instant, or `None` if the rule has ended."""
        occurrence = self._uncounted(checked_instant(instant, "instant"))
        if occurrence is None or self.count is None or self.frequency is Frequency.NONE:
            return occurrence
        if self.frequency in _STEPS:  # then it is known of most without counting
            number = (occurrence - _start(self.starts_at)) // (self.interval * _STEPS[self.frequency]) + 1
            if number <= self.count:
                return occurrence
        last = self._last_counted(self.count)
        return occurrence if last is None or occurrence <= last else None

    @lru_cache(maxsize=4096)  # noqa: B019 - of a value, which equal rules share
    def _last_counted(self, count: int) -> datetime | None:
        """Return the last occurrence that `count` allows, or `None` if the rule ends before."""
        try:
            return _pattern(self).numbered(count)
        except OverflowError:  # past the year 9999
            return None

    def _uncounted(self, instant: datetime) -> datetime | None:
        """Return the first occurrence after this instant, whatever `count` says."""
        start = _start(self.starts_at)
        if self.frequency is Frequency.NONE:
            return start if instant < start else None
        occurrence = next(self._occurrences(max(instant, start - MOMENT)), None)
        return None if occurrence is None or (self.ends_at and occurrence > self.ends_at) else occurrence

    def _occurrences(self, instant: datetime) -> Iterator[datetime]:
        try:
            yield from _pattern(self).occurrences(instant)
        except OverflowError:  # past the year 9999
            return

    def _said(self) -> str:
        """Return what was said, without what was left out."""
        said = {
            "frequency": self.frequency.value,
            "interval": self.interval,
            "days_of_week": ", ".join(self.days_of_week),
            "days_of_month": ", ".join(str(day) for day in self.days_of_month),
            "months_of_year": ", ".join(self.months_of_year),
            "starts_at": self.starts_at,
            "ends_at": self.ends_at,
            "timezone": self.timezone,
        }
        return "It has " + "; ".join(f"{name}: {value}" for name, value in said.items() if value) + "."

    def _check_together(self) -> None:
        """Raise if what is said cannot be meant together."""
        start = _start(self.starts_at)
        if self.ends_at is not None and self.ends_at < start:
            raise InvalidRecurrenceError(
                f"ends_at must not be before starts_at, but {self.ends_at} is before {start}. Exchange them?"
            )
        filtered = self.days_of_week or self.days_of_month or self.months_of_year
        if self.frequency is Frequency.NONE:
            if filtered:
                raise InvalidRecurrenceError(
                    'frequency is "none", which is once, at starts_at: days and months have no meaning there. '
                    "Name a frequency, such as Frequency.WEEKLY, or leave them out."
                )
        elif not _pattern(self).is_possible() or self._uncounted(start - MOMENT) is None:
            raise InvalidRecurrenceError(f"This rule never occurs: no date matches all of what it says. {self._said()}")


@lru_cache(maxsize=4096)
def _pattern(rule: RecurrenceRule) -> CalendarPattern | ElapsedPattern:
    """Return what yields the occurrences of a rule, its ends aside."""
    from aiotaskstore.recurrence.calendar_pattern import CalendarPattern  # noqa: PLC0415 - most programs have no rule
    from aiotaskstore.recurrence.date_filter import DateFilter  # noqa: PLC0415
    from aiotaskstore.recurrence.elapsed_pattern import ElapsedPattern  # noqa: PLC0415

    start, place = _start(rule.starts_at), zone(zone_name(rule.timezone))
    weekdays = tuple(list(DayOfWeek).index(one) for one in rule.days_of_week)
    months = tuple(list(MonthOfYear).index(one) + 1 for one in rule.months_of_year)
    days = tuple(rule.days_of_month)
    if rule.frequency in _STEPS:
        return ElapsedPattern(rule.interval * _STEPS[rule.frequency], start, place, DateFilter(weekdays, days, months))
    if not weekdays and not days:
        local = local_time(start, place)
        match rule.frequency:
            case Frequency.WEEKLY:
                weekdays = (local.weekday(),)
            case Frequency.MONTHLY:
                days = (local.day,)
            case Frequency.YEARLY:
                days, months = (local.day,), months or (local.month,)
            case _:
                pass
    return CalendarPattern(rule.frequency, rule.interval, start, place, DateFilter(weekdays, days, months))


def _start(value: datetime | None) -> datetime:
    if value is None:
        raise InvalidRecurrenceError(
            "A RecurrenceRule needs starts_at, its first occurrence, from which it counts: "
            "RecurrenceRule(Frequency.DAILY, starts_at=datetime(2030, 1, 1, 9, tzinfo=UTC))."
        )
    return checked_bound(value, "starts_at")


def _zone(given: str | ZoneInfo | None, start: datetime | None) -> str:
    """Return the name of the zone given, or of that in which the start was written."""
    if given is None:
        written = start.tzinfo if isinstance(start, datetime) else None
        return zone_name(written) if isinstance(written, ZoneInfo) and written.key else "UTC"
    return zone_name(given)


def _named(kind: type[Name], value: Any, name: str) -> Name:
    try:
        return kind(value.lower() if isinstance(value, str) else value)
    except ValueError:
        names = ", ".join(f'"{one}"' for one in kind)
        raise InvalidRecurrenceError(f"{name} must be one of {names}, not {value!r:.100}.") from None


def _listed(values: Any, name: str) -> list[Any]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidRecurrenceError(f"{name} must be a list, not {values!r:.100} ({type(values).__name__}).")
    return list(values)


def _all_named(kind: type[Name], values: Any, name: str) -> tuple[Name, ...]:
    found = {_named(kind, value, f"Each of {name}") for value in _listed(values, name)}
    return tuple(one for one in kind if one in found)


def _days(values: Any) -> tuple[int, ...]:
    days = _listed(values, "days_of_month")
    for day in days:
        if isinstance(day, bool) or not isinstance(day, int) or not 1 <= day <= _LAST_DAY:
            raise InvalidRecurrenceError(
                f'days_of_month must be numbers from 1 to 31, not {day!r:.100}. The last day is Cron("0 0 L * *").'
            )
    return tuple(sorted(set(days)))


def _whole(value: Any, name: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidRecurrenceError(f"{name} must be a whole number from 1 to {most:,}, not {value!r:.100}.")
    return value
