"""What a store measures of one queue every few seconds, without counting all of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MOST_COUNTED = 10_000
"""The most tasks that are counted of one queue and status."""


@dataclass(frozen=True, slots=True)
class QueueMeasurement:
    """One queue, as the database knows it. No count goes beyond 10,000."""

    name: str
    depth: Mapping[str, int] = field(default_factory=dict)
    """How many of its tasks are `pending`, `scheduled`, `waiting` and `running`.

    Of the last three, 10,000 are counted over all queues together: the first due, the first by their keys, any.
    """
    oldest_due: float = 0.0
    """Seconds for which the oldest of the counted tasks has been due and not started; 0 where none is due."""
    paused: bool = False
    dispatchers: int = 0
    """How many dispatchers of all processes are alive and serve it."""
