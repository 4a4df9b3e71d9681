"""A single occurrence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from aiotaskstore.recurrence.instants import checked_bound, checked_instant


@dataclass(frozen=True, slots=True)
class Once:
    """One occurrence, at this instant."""

    at: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", checked_bound(self.at, "at"))

    def next_after(self, instant: datetime, /) -> datetime | None:
        """Return the occurrence if it lies after this instant."""
        return self.at if checked_instant(instant, "instant") < self.at else None
