"""Recurrences that a function decides."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from aiotaskstore.errors import InvalidRecurrenceError
from aiotaskstore.recurrence.instants import checked_instant

RecurrenceFunction = Callable[[datetime], datetime | None]
"""Takes the last instant and returns the next one, or `None` if there is none."""


@dataclass(frozen=True, slots=True)
class FunctionRecurrence:
    """What a function of the last instant decides. Stored is only its name: it occurs where its code is."""

    name: str
    """The function's module and qualified name."""
    function: RecurrenceFunction | None = field(default=None, repr=False, compare=False)
    """The function; `None` in a process that read the name from the database."""

    @staticmethod
    def of(function: RecurrenceFunction) -> FunctionRecurrence:
        """Return the recurrence that this function decides."""
        kind = type(function)
        if inspect.iscoroutinefunction(function):
            raise InvalidRecurrenceError(
                f'The function "{function.__qualname__}" must be a plain one, which waits for nothing.'
            )
        module = getattr(function, "__module__", kind.__module__)
        name = getattr(function, "__qualname__", kind.__qualname__)
        return FunctionRecurrence(f"{module}.{name}", function)

    def next_after(self, instant: datetime, /) -> datetime | None:
        """Return what the function says comes next; raise `InvalidRecurrenceError` if that is not later."""
        if self.function is None:
            raise InvalidRecurrenceError(f'The recurrence is the function "{self.name}", whose code is not here.')
        instant = checked_instant(instant, "instant")
        found = self.function(instant)
        if found is None:
            return None
        occurrence = checked_instant(found, f'What the function "{self.name}" returns')
        if occurrence <= instant:
            raise InvalidRecurrenceError(
                f'The function "{self.name}" must return an instant after {instant}, or None, not {occurrence}.'
            )
        return occurrence
