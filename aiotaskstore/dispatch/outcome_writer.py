"""Writes the outcomes of runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from aiotaskstore.dispatch.freed_keys import FreedKeys
from aiotaskstore.dispatch.loop_backoff import LoopBackoff
from aiotaskstore.dispatch.outcome_events import OutcomeEvents
from aiotaskstore.dispatch.run_report import RunOutcome
from aiotaskstore.errors import DatabaseUnavailableError, TaskStoreError
from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.mechanics.bisecting import write_bisecting
from aiotaskstore.outcome import Failed
from aiotaskstore.retention import Retention
from aiotaskstore.storage.storage import Storage
from aiotaskstore.storage.tasks import Recorded
from aiotaskstore.task import Claim


class OutcomeWriter:
    """Stores the outcomes of a batch of runs, and emits their events.

    If the database refuses an outcome, its task is recorded as failed. `refused` reports a task for which the database
    refuses that, too.
    """

    def __init__(
        self,
        storage: Storage,
        events: OutcomeEvents,
        *,
        backoff: LoopBackoff,
        freed_keys: FreedKeys,
        refused: Callable[[Claim, BaseException], None],
    ) -> None:
        self._tasks, self._database, self._events = storage.tasks, storage.database, events
        self._backoff, self._freed_keys, self._refused = backoff, freed_keys, refused

    async def write(self, ended: Sequence[RunOutcome]) -> list[RunOutcome]:
        """Store outcomes. If the database refuses an outcome for its content, only the task of that outcome fails.

        Returns the outcomes whose rows another transaction has locked.
        """
        committed = [item for item in ended if item.run.recorded]  # in their handlers' transactions
        self._freed_keys.free(item.run.claim for item in committed)
        for item in committed:
            self._events.written(item.run, item.outcome, Recorded())
        ended = [item for item in ended if not item.run.recorded]
        locked: list[RunOutcome] = []
        if not ended:
            return locked
        for item, left in zip(ended, await write_bisecting(self._record, ended), strict=True):
            if isinstance(left, TaskStoreError):
                locked += await self._fail_unstorable(item, left)
            elif left is not None:
                locked.append(left)
        return locked

    async def _record(self, ended: Sequence[RunOutcome]) -> Sequence[RunOutcome | None]:
        """Store outcomes; return each outcome whose row is locked, to be written later, and `None` for the others."""
        rows = [(item.run.claim, item.outcome) for item in ended]
        again = any(item.again for item in ended)
        while True:
            try:
                recorded = await self._database.write(partial(self._tasks.record, rows, again=again, wait=False))
            except DatabaseUnavailableError as error:
                again = True  # the write may have succeeded, and only its reply be lost
                await self._backoff.wait(error)
            else:
                break
        self._backoff.reset()
        self._freed_keys.free(item.run.claim for item in ended)
        for item in ended:
            if item.run.maybe_committed is not None and _was_committed(item.run.claim, recorded):
                item.run.error = None
                self._events.written(item.run, item.run.maybe_committed, Recorded())
            elif item.run.claim.id not in recorded.locked:
                self._events.written(item.run, item.outcome, recorded)
        return [item._replace(again=again) if item.run.claim.id in recorded.locked else None for item in ended]

    async def _fail_unstorable(self, item: RunOutcome, error: TaskStoreError) -> list[RunOutcome]:
        if isinstance(item.outcome, Failed) and item.outcome.reason is FinishReason.UNSTORABLE:
            self._refused(item.run.claim, error)
            self._events.lost(item.run)
            return []
        item.run.error = error
        failed = Failed(type(error).__name__, str(error), FinishReason.UNSTORABLE)
        return await self.write([item._replace(outcome=failed)])


def _was_committed(claim: Claim, recorded: Recorded) -> bool:
    """Return whether a handler's transaction was committed, though the reply to its COMMIT was lost.

    Its row is locked from the record to the COMMIT. So when another outcome can be written, or the row is gone, it is
    known what became of it.
    """
    gone = claim.id in recorded.lost and not Retention.load(claim.retention).keeps_row(succeeded=True)
    return gone or claim.id in recorded.succeeded
