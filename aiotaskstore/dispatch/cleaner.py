"""Deletes finished tasks past their retention."""

from __future__ import annotations

from aiotaskstore.storage.storage import Storage
from aiotaskstore.storage.tasks import MOST_ROWS


class Cleaner:
    """Deletes in batches, so that no statement holds locks for long."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def clean_once(self) -> int:
        """Delete every task past its retention; return how many tasks."""
        total = 0
        while True:
            removed = await self._storage.database.write(lambda: self._storage.tasks.clean(MOST_ROWS))
            total += removed
            if removed < MOST_ROWS:
                return total
