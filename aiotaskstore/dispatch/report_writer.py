"""Writes the reports of runs: progress and lines of details."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from aiotaskstore.dispatch.lease import Lease
from aiotaskstore.dispatch.locked_rows import LockedRows
from aiotaskstore.dispatch.loop_backoff import LoopBackoff
from aiotaskstore.dispatch.run import Run, StopReason
from aiotaskstore.dispatch.run_report import RunOutcome, RunReport
from aiotaskstore.errors import DatabaseUnavailableError, TaskStoreError
from aiotaskstore.mechanics.bisecting import write_bisecting
from aiotaskstore.storage.operation import Operation, T
from aiotaskstore.storage.storage import Storage
from aiotaskstore.storage.tasks import Note
from aiotaskstore.task import Claim

_TRIES = 3
"""How often writing reports is tried before their error is taken for a refusal, if heartbeats succeed meanwhile."""
_TRIES_OF_A_PART = 2
"""How often each part of a refused batch is tried."""


class ReportWriter:
    """Stores the reports of a batch of runs.

    The lines of a run whose row another transaction has locked are kept in `locked`. `refused` reports a note that the
    database refuses to store.
    """

    def __init__(
        self,
        storage: Storage,
        lease: Lease,
        locked: LockedRows,
        *,
        backoff: LoopBackoff,
        refused: Callable[[Claim, BaseException], None],
    ) -> None:
        self._tasks, self._database, self._lease = storage.tasks, storage.database, lease
        self._locked, self._backoff, self._refused = locked, backoff, refused

    async def write(self, items: Sequence[RunReport | RunOutcome]) -> dict[Run, bool | TaskStoreError | None]:
        """Store the reports; return for each run whether its claim is still valid, or the error of a refused note.

        The value is `None` for a row that another transaction has locked: its lines are kept, and written later before
        newer ones. A refused note does not keep the outcome from being written.
        """
        kept = {item.run: self._locked.notes.pop(item.run) for item in items if item.run in self._locked.notes}
        replies = await self._store(list(kept.items()))
        notes: list[tuple[Run, Note]] = []
        for item in items:
            if replies.get(item.run, True) is None:
                continue
            progress = item.progress if isinstance(item, RunReport) else None
            lines, bounding = item.run.take_lines()
            if progress or lines:
                notes.append((item.run, Note(item.run.claim.id, item.run.claim.fence, progress, lines, bounding)))
        return replies | await self._store(notes)

    async def _store(self, notes: Sequence[tuple[Run, Note]]) -> dict[Run, bool | TaskStoreError | None]:
        """Store notes. If the database refuses a note for its content, only that note gets the error."""
        if not notes:
            return {}
        began = time.monotonic()

        async def report(some: Sequence[tuple[Run, Note]]) -> Sequence[bool | None]:
            # After the refusal of the whole batch we know that the database replies; its parts need fewer tries.
            tries = _TRIES if len(some) == len(notes) else _TRIES_OF_A_PART
            reports = [note for _, note in some]
            reported = await self._persist(lambda: self._tasks.report(reports, wait=False), tries, began)
            return [None if note.id in reported.locked else note.id not in reported.lost for note in reports]

        replies: dict[Run, bool | TaskStoreError | None] = {}
        for (run, note), reply in zip(notes, await write_bisecting(report, notes, unavailable_too=True), strict=True):
            replies[run] = reply
            if reply is None:
                self._locked.keep_lines(run, note)
            elif reply is False:
                run.stop(StopReason.LOST)
            elif reply is not True:
                self._refused(run.claim, reply)
        return replies

    async def _persist(self, operation: Operation[T], most: int, began: float) -> T:
        """Write, and try again while the database is unavailable.

        Raises the error after `most` failures, if a heartbeat sent after `began` has succeeded: then the database is
        available, and the failures have another cause, such as a lock. Otherwise such a cause would keep outcomes from
        being written for ever.
        """
        tries = 0
        while True:
            try:
                reply = await self._database.write(operation)
            except DatabaseUnavailableError as error:
                tries += 1
                if tries >= most and self._lease.renewed_since(began):
                    raise
                await self._backoff.wait(error)
            else:
                self._backoff.reset()
                return reply
