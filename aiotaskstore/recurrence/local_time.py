"""Between local times and instants: what happens where clocks are put forward or back."""

from __future__ import annotations

import difflib
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from aiotaskstore.errors import InvalidRecurrenceError

_PROBED = timedelta(hours=6)
"""Two changes of an offset that are less than this apart may be taken for one."""
_SECOND = timedelta(seconds=1)
_KNOWN_FROM, _KNOWN_UNTIL = 1800, 2040
_NOON = time(12)


def zone_name(value: object) -> str:
    """Return the name of a time zone that exists; else raise `InvalidRecurrenceError` with the nearest one."""
    name = "UTC" if value is UTC else value.key if isinstance(value, ZoneInfo) else value
    if not isinstance(name, str):
        raise InvalidRecurrenceError(
            f'timezone must be the name of a zone, such as "Europe/Sofia", not {value!r:.100} ({type(value).__name__}).'
        )
    zone(name)
    return name


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """Return the time zone of this name; else raise `InvalidRecurrenceError` with the nearest one."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # absent, no relative path, a folder such as "Europe"
        known = {one.lower(): one for one in available_timezones()}
        near = difflib.get_close_matches(name.lower()[:100], known, n=1)
        hint = f'Did you mean "{known[near[0]]}"?' if near else 'Zones are named as in "Europe/Sofia" or "UTC".'
        raise InvalidRecurrenceError(f'There is no time zone "{name:.100}". {hint}') from None


def offset(instant: datetime, place: ZoneInfo) -> timedelta:
    """Return what is added to UTC there, at that instant."""
    return instant.astimezone(place).utcoffset() or timedelta(0)


def local_time(instant: datetime, place: ZoneInfo) -> datetime:
    """Return what clocks show there, without a timezone."""
    return instant.astimezone(place).replace(tzinfo=None)


def resolved(local: datetime, place: ZoneInfo) -> datetime:
    """Return the instant of a local time: of a repeated one the first, of a skipped one the first after the gap."""
    before = local.replace(tzinfo=place, fold=0).astimezone(UTC)
    if local_time(before, place) == local:
        return before
    # In a gap the first fold reckons with the offset before it, the second with the one after it,
    # so that the change lies between the two.
    after = local.replace(tzinfo=place, fold=1).astimezone(UTC)
    return first_change(after, before, place) or before


@lru_cache(maxsize=1024)
def skipped_dates(place: ZoneInfo) -> frozenset[date]:
    """Return the dates that never were there, such as December 30, 2011 in Samoa, which changed sides of the date line.

    Nobody knows any after `_KNOWN_UNTIL`: what a zone says of later years is how it changes between summer and winter.
    """
    skipped: set[date] = set()
    for year in range(_KNOWN_FROM, _KNOWN_UNTIL):
        first, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
        if offset(end, place) - offset(first, place) > _PROBED:
            days = (first.date() + timedelta(days=one) for one in range(-1, 368))
            skipped.update(
                day for day in days if local_time(resolved(datetime.combine(day, _NOON), place), place).date() != day
            )
    return frozenset(skipped)


def first_change(start: datetime, end: datetime, place: ZoneInfo) -> datetime | None:
    """Return the first instant after `start`, at most `end`, whose offset is another one."""
    standing, low = offset(start, place), start.replace(microsecond=0)
    while low < end:
        high = min(low + _PROBED, end)
        if offset(high, place) != standing:
            return _bisected(low, high, place)
        low = high
    return None


def _bisected(low: datetime, high: datetime, place: ZoneInfo) -> datetime:
    """Return the first whole second with another offset than `low`, which is a whole second too."""
    standing, span = offset(low, place), 1 + int((high - low) / _SECOND)
    same, other = 0, span
    while other - same > 1:
        middle = (same + other) // 2
        if offset(low + middle * _SECOND, place) == standing:
            same = middle
        else:
            other = middle
    return low + other * _SECOND
