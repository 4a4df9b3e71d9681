"""Recurrences as crontabs write them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from aiotaskstore.errors import InvalidRecurrenceError
from aiotaskstore.recurrence.cron_text import CronText, read
from aiotaskstore.recurrence.every import Every
from aiotaskstore.recurrence.instants import MOMENT, checked_instant
from aiotaskstore.recurrence.local_time import first_change, local_time, offset, resolved, zone, zone_name

_EARLIEST = datetime(1, 1, 3, tzinfo=UTC)
"""Before that some local times have no date."""
_NEAR = timedelta(days=2)
"""More than any change of an offset, those across the date line included."""


@dataclass(frozen=True, slots=True, init=False)
class Cron:
    """Five fields as in a crontab: minute, hour, day of month, month, day of week; `Cron("0 9 * * mon-fri")`.

    Names of days and months, lists, ranges, steps, `L` (last), `#` (nth weekday), `W` (nearest working day),
    `@daily` and its like, `@every 1h30m` and a leading `TZ=Europe/Sofia` are understood. If both day fields are
    restricted, a day that either of them names is one.

    Where clocks are changed: if neither minute nor hour begins with `*`, the times are fixed ones, and each runs
    exactly once per local day: a skipped one at the first instant after the gap, a repeated one in its first pass.
    Any other cron follows elapsed time: it occurs at each instant whose local time it names.
    """

    text: str
    timezone: str = "UTC"

    def __init__(self, text: str, timezone: str | ZoneInfo | None = None) -> None:
        found = read(text)
        if timezone is not None and found.timezone is not None and zone_name(timezone) != found.timezone:
            raise InvalidRecurrenceError(
                f'The cron text names the time zone "{found.timezone}" and timezone= another, {timezone!r}. Name one.'
            )
        object.__setattr__(self, "text", found.text)
        object.__setattr__(self, "timezone", zone_name(found.timezone or "UTC" if timezone is None else timezone))

    def next_after(self, instant: datetime, /) -> datetime | None:
        """Return the first occurrence after this instant."""
        instant, found, place = checked_instant(instant, "instant"), read(self.text), zone(self.timezone)
        instant = max(instant, _EARLIEST)
        if found.period is not None:
            return found.period.next_after(instant)
        try:
            return _fixed(found, instant, place) if found.fixed else _elapsed(found, instant, place)
        except OverflowError:  # past the year 9999
            return None

    @property
    def period(self) -> Every | None:
        """The period of an `@every`; of any other cron `None`."""
        return read(self.text).period


def _fixed(cron: CronText, instant: datetime, place: ZoneInfo) -> datetime | None:
    """Return the first instant, after `instant`, of a local time that the cron names."""
    local = cron.next_local(local_time(instant, place))
    while local is not None:
        occurrence = resolved(local, place)
        if occurrence > instant:
            return occurrence
        local = cron.next_local(local)  # `instant` lies in the second pass of local times: they had their turn
    return None


def _elapsed(cron: CronText, instant: datetime, place: ZoneInfo) -> datetime | None:
    """Return the first instant, after `instant`, at which clocks show a local time that the cron names.

    As long as the offset stays, local times and instants go together. A change of the offset matters only near
    `instant`, and near the time that is found.
    """
    start, local = instant, cron.next_local(local_time(instant, place))
    while local is not None:
        occurrence = (local - offset(start, place)).replace(tzinfo=start.tzinfo)
        change = first_change(start, min(occurrence, start + _NEAR), place)
        if change is not None:
            start = change
        elif occurrence <= start + _NEAR:
            return occurrence
        else:
            start = max(start + _NEAR, occurrence - _NEAR)
        local = cron.next_local(local_time(start, place) - MOMENT)
    return None
