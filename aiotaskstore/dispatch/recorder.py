"""Writes what runs tell and how they end, in batches; what a run told goes before its outcome."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from aiotaskstore.batching import Batcher
from aiotaskstore.dispatch.run import Run, StopReason
from aiotaskstore.dispatch.upkeep import Backoff
from aiotaskstore.errors import DatabaseUnavailableError, TaskStoreError
from aiotaskstore.events import AttemptFailed, ClaimLost, TaskFinished, TaskRetried
from aiotaskstore.outcome import Cancelled, Failed, Lost, Outcome, Released, Retrying, Snoozed, Succeeded
from aiotaskstore.storage.steps import Operation, T
from aiotaskstore.storage.tasks import MOST_ROWS, Note, Recorded
from aiotaskstore.task import TaskStatus

if TYPE_CHECKING:
    from aiotaskstore.dispatch.shift import Shift

MOST_UNWRITTEN = 10_000
"""Outcomes waiting for the database before claims pause."""


class Told(NamedTuple):
    """A run has something to write before it ends."""

    run: Run
    progress: tuple[str, float | None] | None


class Ended(NamedTuple):
    """A run has ended."""

    run: Run
    outcome: Outcome


class Recorder:
    """One write in flight; what ends meanwhile goes together in the next."""

    def __init__(self, shift: Shift) -> None:
        self._shift = shift
        self._tasks, self._database = shift.storage.tasks, shift.database
        self._batcher: Batcher[Told | Ended, bool] = Batcher(self._write, most=MOST_ROWS)
        self._backoff = Backoff("recorder", shift.hooks)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.run: Callable[[], Coroutine[Any, Any, None]] = self._batcher.run
        self.drain: Callable[[], Coroutine[Any, Any, None]] = self._batcher.drain

    @property
    def backlog(self) -> int:
        """How many outcomes and tidings are not written yet."""
        return self._batcher.backlog

    @property
    def unwritten(self) -> list[Run]:
        """The runs that have something on its way to the database."""
        return [item.run for item in self._batcher.unanswered]

    def ended(self, run: Run, outcome: Outcome) -> None:
        """Write an outcome soon."""
        self._batcher.put(Ended(run, outcome))

    async def progress(self, run: Run, text: str, fraction: float | None) -> bool:
        """Write progress; false if the claim was lost."""
        return await self._batcher.submit(Told(run, (text, fraction)))

    def detail(self, run: Run) -> None:
        """Write a run's waiting lines soon; callable from any thread."""
        if threading.get_ident() == self._thread:
            self._batcher.put(Told(run, None))
        else:
            self._loop.call_soon_threadsafe(self._batcher.put, Told(run, None))

    async def _write(self, items: list[Told | Ended]) -> Sequence[bool | BaseException]:
        lost, refusal = await self._write_notes(items)
        ended = [item for item in items if isinstance(item, Ended)]
        if ended:
            await self._write_outcomes([item for item in ended if not isinstance(item.outcome, Lost)])
            for item in ended:
                if isinstance(item.outcome, Lost):
                    self._tell_lost(item)
        return [refusal or item.run not in lost for item in items]

    async def _write_notes(self, items: Sequence[Told | Ended]) -> tuple[set[Run], TaskStoreError | None]:
        """Store what runs told; gives the runs that lost their claim, and what the database refused it with.

        Refused or not, how the runs ended is written next.
        """
        notes: list[Note] = []
        runs = {}
        for item in items:
            progress = item.progress if isinstance(item, Told) else None
            lines = item.run.take_lines()
            if progress or lines:
                notes.append(Note(item.run.claim.id, item.run.claim.fence, progress, lines))
                runs[item.run.claim.id] = item.run
        if not notes:
            return set(), None
        try:
            gone = {runs[id_] for id_ in await self._persist(lambda: self._tasks.tell(notes))}
        except TaskStoreError as error:
            for run in runs.values():
                self._shift.report(run.claim, error)
            return set(), error
        for run in gone:
            run.stop(StopReason.LOST)
        return gone, None

    async def _write_outcomes(self, ended: Sequence[Ended]) -> None:
        """Store outcomes; if the database refuses one for what it is, find it, and fail its task alone."""
        if not ended:
            return
        rows = [(item.run.claim, item.outcome) for item in ended]
        write = partial(self._tasks.record, rows)
        while True:
            try:
                recorded = await self._database.write(write)
            except DatabaseUnavailableError as error:
                # Its answer may have been lost, not the write.
                write = partial(self._tasks.record, rows, again=True)
                await self._backoff.wait(error)
            except TaskStoreError as error:
                await self._write_apart(ended, error)
                return
            else:
                break
        self._backoff.reset()
        for item in ended:
            self._tell(item, recorded)

    async def _write_apart(self, ended: Sequence[Ended], error: TaskStoreError) -> None:
        if len(ended) > 1:
            middle = len(ended) // 2
            await self._write_outcomes(ended[:middle])
            await self._write_outcomes(ended[middle:])
            return
        item = ended[0]
        if isinstance(item.outcome, Failed) and item.outcome.reason == "unstorable":
            self._shift.report(item.run.claim, error)
            self._tell_lost(item)
            return
        await self._write_outcomes([Ended(item.run, Failed(type(error).__name__, str(error), "unstorable"))])

    async def _persist(self, operation: Operation[T]) -> T:
        while True:
            try:
                answer = await self._database.write(operation)
            except DatabaseUnavailableError as error:
                await self._backoff.wait(error)
            else:
                self._backoff.reset()
                return answer

    def _tell(self, item: Ended, recorded: Recorded) -> None:
        if recorded.lost and item.run.claim.id in recorded.lost:
            self._tell_lost(item)
            return
        if item.run.error is not None and item.run.claim.id not in recorded.cancelled:
            self._tell_failed(item, item.run.error)
        if isinstance(item.outcome, Retrying | Snoozed | Released) and item.run.claim.id not in recorded.cancelled:
            self._tell_retried(item, item.outcome)
        else:
            self._tell_finished(item, recorded)

    def _tell_failed(self, item: Ended, error: BaseException) -> None:
        match item.outcome:
            case Retrying(delay=delay):
                wait: float | None = delay
            case Failed():
                wait = None
            case _:
                return
        claim = item.run.claim
        self._shift.hooks.emit(AttemptFailed(claim.id, claim.alias, claim.queue, claim.attempt, error, wait))

    def _tell_finished(self, item: Ended, recorded: Recorded) -> None:
        run, hooks = item.run, self._shift.hooks
        if not hooks.hears(TaskFinished):
            return
        claim = run.claim
        match item.outcome:
            case _ if claim.id in recorded.cancelled:
                status, reason = TaskStatus.CANCELLED, "request"
            case Succeeded():
                status, reason = TaskStatus.SUCCEEDED, "ok"
            case Cancelled(reason=reason):
                status = TaskStatus.CANCELLED
            case Failed(reason=reason):
                status = TaskStatus.FAILED
            case _:
                return
        hooks.emit(
            TaskFinished(
                claim.id,
                claim.alias,
                claim.queue,
                status,
                claim.attempt,
                run.took,
                reason,
                run.error if status is TaskStatus.FAILED else None,
            )
        )

    def _tell_retried(self, item: Ended, outcome: Retrying | Snoozed | Released) -> None:
        match outcome:
            case Retrying(delay=delay):
                wait, reason = delay, "error"
            case Snoozed(delay=delay):
                wait, reason = delay, "snooze"
            case Released():
                wait, reason = 0.0, "shutdown"
        claim, hooks = item.run.claim, self._shift.hooks
        self._shift.placed(claim.queue, wait)
        if hooks.hears(TaskRetried):
            error = item.run.error if reason == "error" else None
            hooks.emit(
                TaskRetried(claim.id, claim.alias, claim.queue, claim.attempt, item.run.took, wait, reason, error)
            )

    def _tell_lost(self, item: Ended) -> None:
        claim = item.run.claim
        self._shift.hooks.emit(ClaimLost(claim.id, claim.alias, claim.queue, claim.attempt))
