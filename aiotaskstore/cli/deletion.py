"""Deletes many tasks, slice by slice, and tells how far it is."""

from __future__ import annotations

from aiotaskstore import TaskSelection, TaskStore
from aiotaskstore.cli.console import Console, Display
from aiotaskstore.cli.exit_code import Failure
from aiotaskstore.cli.formatting import counted

_SLICE = 2_000
"""Tasks of one call. What fits into one is deleted without a word in between."""


class Deletion:
    """The tasks that a selection matches, on their way out. What is deleted stays deleted, however it ends."""

    def __init__(self, where: TaskSelection, console: Console) -> None:
        self._where, self._console = where, console
        self.done: int = 0
        """How many are deleted by now."""

    async def run(self, store: TaskStore) -> int:
        """Delete them all; return how many there were."""
        total = await store.tasks.count(**self._where)
        if total <= _SLICE:
            await self._delete_slice(store)
        else:
            with self._console.display("tasks", every=10) as display:
                await self._delete(store, total, display)
        return self.done

    def interrupted(self) -> Failure:
        """Return the failure that says how far it came."""
        return Failure(f"Interrupted: {counted(self.done, 'task')} deleted, the others are as they were.")

    async def _delete(self, store: TaskStore, total: int, display: Display) -> None:
        more = True
        while more:
            display.show("deleting", self.done, total, "")
            more = await self._delete_slice(store)

    async def _delete_slice(self, store: TaskStore) -> bool:
        """Delete some; return whether there may be more."""
        where: TaskSelection = {**self._where, "limit": _SLICE}
        deleted = await store.tasks.delete(where=where)
        self.done += deleted
        return deleted > 0
