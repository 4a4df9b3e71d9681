"""When something happens again."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, runtime_checkable


@runtime_checkable
class Recurrence(Protocol):
    """What says when something happens again: `Cron`, `RecurrenceRule`, `Every`, `Once`, or your own class."""

    def next_after(self, instant: datetime, /) -> datetime | None:
        """Return the first occurrence after this instant, or `None` if there is none."""
        ...
