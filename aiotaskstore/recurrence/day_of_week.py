"""The days of a week."""

from __future__ import annotations

from enum import StrEnum


class DayOfWeek(StrEnum):
    """A day of the week; weeks begin on Monday."""

    MONDAY = "monday"
    TUESDAY = "tuesday"
    WEDNESDAY = "wednesday"
    THURSDAY = "thursday"
    FRIDAY = "friday"
    SATURDAY = "saturday"
    SUNDAY = "sunday"
