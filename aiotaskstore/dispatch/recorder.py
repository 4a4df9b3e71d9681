"""Batches the reports and outcomes of runs. The reports of a run are written before its outcome."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from aiotaskstore.dispatch.freed_keys import FreedKeys
from aiotaskstore.dispatch.lease import Lease
from aiotaskstore.dispatch.locked_rows import FIRST_PAUSE, LONGEST_PAUSE, LockedRows
from aiotaskstore.dispatch.loop_backoff import LoopBackoff
from aiotaskstore.dispatch.outcome_events import OutcomeEvents
from aiotaskstore.dispatch.outcome_writer import OutcomeWriter
from aiotaskstore.dispatch.report_writer import ReportWriter
from aiotaskstore.dispatch.run import Run
from aiotaskstore.dispatch.run_report import RunOutcome, RunReport, characters
from aiotaskstore.mechanics.batching import Batcher
from aiotaskstore.outcome import Lost, Outcome
from aiotaskstore.storage.faults import nothing_done
from aiotaskstore.storage.storage import Storage
from aiotaskstore.storage.tasks import MOST_ROWS, Note
from aiotaskstore.task import Claim

MOST_UNWRITTEN = 10_000
"""With more outcomes waiting to be written, nothing is claimed."""
HEAVIEST = 8_000_000
"""The most characters of results, errors and details in one batch, unless a single run has more."""


class Recorder:
    """Sends one write at a time. Reports and outcomes that arrive meanwhile are the next batch.

    A row that another transaction has locked is left out, and written with a later batch.

    `own_lock` returns the connection of the caller's transaction, if that transaction keeps all others from writing.
    `refused` reports an outcome or a report that the database refuses to store.
    """

    def __init__(
        self,
        storage: Storage,
        events: OutcomeEvents,
        lease: Lease,
        *,
        backoff: LoopBackoff,
        freed_keys: FreedKeys,
        own_lock: Callable[[], Any],
        refused: Callable[[Claim, BaseException], None],
    ) -> None:
        self._tasks, self._database, self._events, self._own_lock = storage.tasks, storage.database, events, own_lock
        self._batcher: Batcher[RunReport | RunOutcome, bool | None] = Batcher(
            self._write, most=MOST_ROWS, heaviest=HEAVIEST, weigh=characters
        )
        self._locked = LockedRows(self._batcher.put)
        self._reports = ReportWriter(storage, lease, self._locked, backoff=backoff, refused=refused)
        self._outcomes = OutcomeWriter(storage, events, backoff=backoff, freed_keys=freed_keys, refused=refused)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.run: Callable[[], Coroutine[Any, Any, None]] = self._batcher.run
        self.close: Callable[[], None] = self._batcher.close

    @property
    def backlog(self) -> int:
        """The number of outcomes and reports that are not written yet."""
        return self._batcher.backlog + len(self._locked)

    @property
    def unwritten(self) -> list[Run]:
        """The runs with a report or an outcome that is not written yet."""
        return [*(item.run for item in self._batcher.unanswered), *self._locked.runs]

    @property
    def keys_to_free(self) -> list[str]:
        """The serialization keys that outcomes which are not written yet may free."""
        return [key for run in self.unwritten if (key := run.claim.serialization_key) is not None]

    async def drain(self) -> None:
        """Wait until every outcome and report so far is written."""
        await self._batcher.drain()
        while self._locked:
            await self._locked.pause_over()
            await self._batcher.drain()

    def ended(self, run: Run, outcome: Outcome) -> None:
        """Write an outcome soon."""
        self._batcher.put(RunOutcome(run, outcome))

    async def progress(self, run: Run, text: str, fraction: float | None) -> bool:
        """Write progress; false if the claim was lost.

        If a transaction of the handler keeps all others from writing, progress is written in that transaction: a batch
        would wait for the transaction, and the transaction waits for this call.
        """
        own = self._own_lock()
        if own is None:
            return await self._progress_once_free(RunReport(run, (text, fraction)))
        note = Note(run.claim.id, run.claim.fence, (text, fraction), ())
        return not (await self._database.run_on(own, lambda: self._tasks.report([note]))).lost

    async def reported(self, run: Run) -> bool:
        """Return once the run's lines of details so far are written; false if the claim was lost."""
        return await self._progress_once_free(RunReport(run, None))

    def keep(self, run: Run, note: Note) -> None:
        """Keep lines that are taken from the run already, to be written before its outcome."""
        self._locked.keep_lines(run, note)

    async def _progress_once_free(self, report: RunReport) -> bool:
        limit, pause = self._database.deadline, FIRST_PAUSE
        until = self._loop.time() + limit
        while (held := await self._batcher.submit(report)) is None:
            if self._loop.time() >= until:
                raise nothing_done(
                    f"Another transaction has kept the row of task {report.run.claim.id} locked for {limit:g} s, "
                    "so what it reported was not written. Keep such transactions short."
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return held

    def detail(self, run: Run) -> None:
        """Write the run's new lines of details soon; callable from any thread."""
        if threading.get_ident() == self._thread:
            self._batcher.put(RunReport(run, None))
        else:
            self._loop.call_soon_threadsafe(self._batcher.put, RunReport(run, None))

    async def _write(self, items: list[RunReport | RunOutcome]) -> Sequence[bool | BaseException | None]:
        replies = await self._reports.write(items)
        # A run's lines are written before its outcome, so an outcome waits while the lines wait.
        waiting = {item.run for item in items if item.run in self._locked.notes or replies.get(item.run, True) is None}
        lost: list[Run] = []
        free: list[RunOutcome] = []
        locked: list[RunReport | RunOutcome] = []
        for item in items:
            if isinstance(item, RunReport):
                if item.run in self._locked.notes:
                    locked.append(RunReport(item.run, None))
            elif isinstance(item.outcome, Lost):
                lost.append(item.run)
            elif item.run in waiting:
                locked.append(item)
            else:
                free.append(item)
        locked += await self._outcomes.write(free)
        for run in lost:
            self._locked.notes.pop(run, None)
            self._events.lost(run)
        self._locked.postpone(locked)
        return [replies.get(item.run, True) for item in items]
