"""Deletes many tasks, slice by slice, and tells how far it is."""

from __future__ import annotations

from aiotaskstore import TaskSelection, TaskStore
from aiotaskstore.cli.console import Console, Display
from aiotaskstore.cli.exit_code import Failure
from aiotaskstore.cli.formatting import counted
from aiotaskstore.cli.target import run_with

_SLICE = 2_000
"""Tasks of one call. What fits into one is deleted without a word in between."""


def delete_all(store: TaskStore, where: TaskSelection, console: Console) -> int:
    """Delete what matches by now; return how many. Ctrl-C keeps what is done, as a `Failure` that says how much."""
    deletion = Deletion(where, console)
    try:
        return run_with(store, deletion.run)
    except KeyboardInterrupt:
        raise deletion.interrupted() from None


class Deletion:
    """The tasks that a selection matches, on their way out. What is deleted stays deleted, however it ends."""

    def __init__(self, where: TaskSelection, console: Console) -> None:
        self._where, self._console = where, console
        self.done: int = 0
        """How many are deleted by now."""

    async def run(self, store: TaskStore) -> int:
        """Delete all that are there at the call, and none that others store meanwhile; return how many."""
        first: TaskSelection = {**self._where, "limit": 1}
        newest = await store.tasks.list(**first)
        if not newest:
            return 0
        self._where = {**self._where, "created_to": newest[0].created_at}
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
