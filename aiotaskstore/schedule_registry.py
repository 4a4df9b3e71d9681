"""The schedules that code declares, and the functions that stored schedules need of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from aiotaskstore.errors import DuplicateScheduleError
from aiotaskstore.function_calls import FunctionCalls
from aiotaskstore.recurrence import FunctionRecurrence, Recurrence, as_recurrence
from aiotaskstore.schedule import PayloadFunction, Schedule


class ScheduleRegistry:
    """The schedules of one store that its code declares, by name."""

    def __init__(self) -> None:
        self._declared: dict[str, Schedule] = {}
        self._known: dict[str, Schedule] = {}
        self.calls: FunctionCalls = FunctionCalls()
        """The calls of their functions."""
        self.unwritten: bool = False
        """Whether one was declared since all were written to the database."""

    def add(self, schedule: Schedule) -> None:
        """Take a declared schedule in; raises `DuplicateScheduleError` if another one has its name."""
        there = self._declared.get(schedule.name)
        if there is not None and replace(there, id=schedule.id) != schedule:
            raise DuplicateScheduleError(schedule.name)
        if there is None:
            self._declared[schedule.name] = schedule
            self.know(schedule)
            self.unwritten = True

    def know(self, schedule: Schedule) -> None:
        """Remember the functions of a schedule, so that it can be carried out here."""
        self._known[schedule.name] = schedule

    def payload_function(self, name: str) -> PayloadFunction | None:
        """Return the function that makes the payload of this schedule, if this process has it."""
        schedule = self._known.get(name)
        return schedule.payload if schedule is not None and callable(schedule.payload) else None

    def recurrence(self, name: str, stored: Recurrence) -> Recurrence:
        """Return a stored recurrence; with its code, if it is a function that this process has."""
        schedule = self._known.get(name)
        if schedule is None or not isinstance(stored, FunctionRecurrence):
            return stored
        return as_recurrence(schedule.recurrence)

    def __iter__(self) -> Iterator[Schedule]:
        return iter(self._declared.values())

    def __len__(self) -> int:
        return len(self._declared)
