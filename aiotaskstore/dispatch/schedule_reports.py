"""Reports errors that each concern one schedule."""

from __future__ import annotations

from uuid import UUID

from aiotaskstore.errors import TaskStoreError
from aiotaskstore.events import BackgroundFailed
from aiotaskstore.hooks import Hooks
from aiotaskstore.mechanics.text import printable
from aiotaskstore.storage.schedule_rows import ScheduleRow

_MOST_TOLD = 10_000
"""Schedules of which it is remembered what was told; those that are deleted meanwhile are among them."""


class ScheduleReports:
    """Emits `BackgroundFailed` for schedules that could not be carried out, and remembers what was told."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._told: dict[UUID, str] = {}
        """Why schedules could not be carried out, so that it is told once."""

    def tell(self, row: ScheduleRow, what: str, error: Exception) -> None:
        """Report an error."""
        said = TaskStoreError(f'The schedule "{row.name}": {what}: {type(error).__name__}: {printable(error)}')
        said.__cause__ = error
        self._hooks.emit(BackgroundFailed("scheduler", said, 0, row.queue))

    def tell_once(self, row: ScheduleRow, what: str, error: Exception) -> None:
        """Report an error that stays the same at each poll."""
        if self._told.get(row.id) != str(error):
            if len(self._told) >= _MOST_TOLD:
                self._told.clear()
            self._told[row.id] = str(error)
            self.tell(row, what, error)

    def succeeded(self, row: ScheduleRow) -> None:
        """Record that a schedule was carried out: the same error is told again if it comes back."""
        self._told.pop(row.id, None)
