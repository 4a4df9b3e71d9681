"""The unit in which a recurrence rule counts."""

from __future__ import annotations

from enum import StrEnum


class Frequency(StrEnum):
    """The unit in which a `RecurrenceRule` counts."""

    NONE = "none"
    """Once, at `starts_at`."""
    SECONDLY = "secondly"
    MINUTELY = "minutely"
    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    YEARLY = "yearly"
