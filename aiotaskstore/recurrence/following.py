"""What follows a planned occurrence, however late it is."""

from __future__ import annotations

from datetime import datetime

from aiotaskstore.recurrence.cron import Cron
from aiotaskstore.recurrence.every import Every
from aiotaskstore.recurrence.function_recurrence import FunctionRecurrence
from aiotaskstore.recurrence.recurrence import Recurrence

_MOST_CALLS = 1000
"""Missed occurrences that a function is asked for, one after the other, before it is asked for what follows now."""


def following(recurrence: Recurrence, planned: datetime, now: datetime) -> datetime | None:
    """Return the first occurrence after `now`, in step with the one that was planned.

    Where each occurrence follows from the one before (a period, a function), being late must not move those to come.
    """
    period = recurrence.period if isinstance(recurrence, Cron) else recurrence
    if now < planned:
        return recurrence.next_after(planned)
    if isinstance(period, Every) and period.starts_at is None:
        return period.in_step(planned, now)
    if isinstance(recurrence, FunctionRecurrence):
        return _called(recurrence, planned, now)
    return recurrence.next_after(now)


def _called(recurrence: FunctionRecurrence, planned: datetime, now: datetime) -> datetime | None:
    occurrence: datetime | None = planned
    for _ in range(_MOST_CALLS):
        if occurrence is None or occurrence > now:
            return occurrence
        occurrence = recurrence.next_after(occurrence)
    return recurrence.next_after(now)
