"""Instants as callers give them, checked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from aiotaskstore.errors import InvalidRecurrenceError

MOMENT = timedelta(microseconds=1)
"""The shortest span that a datetime knows."""


_EARLIEST = datetime(1000, 1, 2, tzinfo=UTC)
"""What every database can store, in every time zone."""


def checked_bound(value: object, name: str) -> datetime:
    """Return `value` in UTC if it is an instant that can be stored; else raise `InvalidRecurrenceError`."""
    instant = checked_instant(value, name)
    if instant < _EARLIEST:
        raise InvalidRecurrenceError(f"{name} must lie in the years 1000 to 9999, but it is {instant}.")
    return instant


def checked_instant(value: object, name: str) -> datetime:
    """Return `value` in UTC if it is a datetime with a timezone; else raise `InvalidRecurrenceError`."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidRecurrenceError(
            f"{name} must be a datetime with a timezone, such as datetime.now(UTC), not {value!r:.100}."
        )
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidRecurrenceError(f"{name} must lie in the years 1 to 9999 of UTC, but it is {value}.") from None
