"""Reports and outcomes whose rows another transaction has locked. They wait here, so that no other write waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from aiotaskstore.dispatch.run import Run
from aiotaskstore.dispatch.run_report import RunOutcome, RunReport
from aiotaskstore.storage.tasks import Note

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.25
"""Seconds between two tries to write a locked row: the first pause, and the longest. Each pause doubles."""


class LockedRows:
    """Keeps reports and outcomes for a pause, then passes them to `put` to be written again."""

    def __init__(self, put: Callable[[RunReport | RunOutcome], None]) -> None:
        self._put = put
        self._items: dict[tuple[Run, bool], RunReport | RunOutcome] = {}
        """The waiting items, by run and by whether the item is the outcome."""
        self.notes: dict[Run, Note] = {}
        """Lines of details that are taken from their runs already, and wait."""
        self._pause = FIRST_PAUSE
        self._timer: asyncio.TimerHandle | None = None
        self._put_again = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def runs(self) -> list[Run]:
        """The runs of the waiting items."""
        return [item.run for item in self._items.values()]

    def keep_lines(self, run: Run, note: Note) -> None:
        """Keep the lines of a note for the next try, after the lines kept before."""
        if note.lines:
            earlier = self.notes.get(run)
            lines = (*earlier.lines, *note.lines) if earlier else note.lines
            self.notes[run] = note._replace(progress=None, lines=lines)

    def postpone(self, items: Sequence[RunReport | RunOutcome]) -> None:
        """Keep these items, and put them again after a pause."""
        self._items |= {(item.run, isinstance(item, RunOutcome)): item for item in items}
        if not self._items:
            self._pause = FIRST_PAUSE
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._pause, self._put_all)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._put_again.clear()

    async def pause_over(self) -> None:
        """Wait until the waiting items are put again."""
        await self._put_again.wait()

    def _put_all(self) -> None:
        self._timer = None
        items, self._items = self._items, {}
        for item in items.values():
            self._put(item)
        self._put_again.set()
