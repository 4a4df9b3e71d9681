"""Finished tasks past their retention are deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiotaskstore.storage.tasks import MOST_ROWS

if TYPE_CHECKING:
    from aiotaskstore.dispatch.shift import Shift


class Cleaner:
    """Deletes in batches, so that no statement holds locks for long."""

    def __init__(self, shift: Shift) -> None:
        self._shift = shift

    async def clean_once(self) -> int:
        """Delete everything past its retention; gives how many tasks."""
        shift = self._shift
        total = 0
        while True:
            removed = await shift.database.write(lambda: shift.storage.tasks.clean(MOST_ROWS))
            total += removed
            if removed < MOST_ROWS:
                return total
