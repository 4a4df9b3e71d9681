"""Emits the events of written outcomes: finished, retried, failed, or lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from aiotaskstore.dispatch.run import Run
from aiotaskstore.events import AttemptFailed, ClaimLost, TaskFinished, TaskRetried
from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.hooks import Hooks
from aiotaskstore.mechanics.text import size_in_bytes
from aiotaskstore.outcome import Cancelled, Failed, Outcome, Released, Retrying, Snoozed, Succeeded
from aiotaskstore.storage.tasks import Recorded
from aiotaskstore.task import TaskStatus


class OutcomeStored(Protocol):
    """What is called once an outcome is stored."""

    def __call__(self, run: Run, outcome: Outcome, *, cancelled: bool) -> None:
        """Take the run, its outcome, and whether its task ended as cancelled, whatever the outcome."""


class OutcomeEvents:
    """Emits the events of outcomes.

    Calls `returned` for each task that returned to its queue, with the queue and the seconds until it may run again.
    Calls `stored` for each run whose outcome is stored.
    """

    def __init__(self, hooks: Hooks, returned: Callable[[str, float | None], None], stored: OutcomeStored) -> None:
        self._hooks, self._returned, self._stored = hooks, returned, stored

    def written(self, run: Run, outcome: Outcome, recorded: Recorded) -> None:
        """Emit the events of a run after the write of its outcome, by what the database has recorded."""
        if recorded.lost and run.claim.id in recorded.lost:
            self.lost(run)
            return
        cancelled = run.claim.id in recorded.cancelled
        if run.error is not None and not cancelled:
            self._emit_failed(run, outcome, run.error)
        if isinstance(outcome, Retrying | Snoozed | Released) and not cancelled:
            self._emit_returned(run, outcome)
        else:
            self._emit_finished(run, outcome, cancelled=cancelled)
        self._stored(run, outcome, cancelled=cancelled)

    def lost(self, run: Run) -> None:
        """Emit that the outcome was not written, since the claim is lost."""
        run.context = None
        claim = run.claim
        self._hooks.emit(ClaimLost(claim.id, claim.alias, claim.queue, claim.attempt, run.dispatcher_id))

    def _emit_failed(self, run: Run, outcome: Outcome, error: BaseException) -> None:
        match outcome:
            case Retrying(delay=delay):
                wait: float | None = delay
            case Failed():
                wait = None
            case _:
                return
        claim = run.claim
        self._hooks.emit(
            AttemptFailed(claim.id, claim.alias, claim.queue, claim.attempt, error, wait, run.dispatcher_id)
        )

    def _emit_finished(self, run: Run, outcome: Outcome, *, cancelled: bool) -> None:
        if not self._hooks.has_listener(TaskFinished):
            return
        match outcome:
            case _ if cancelled:
                status, reason = TaskStatus.CANCELLED, FinishReason.REQUEST
            case Succeeded():
                status, reason = TaskStatus.SUCCEEDED, FinishReason.OK
            case Cancelled(reason=reason):
                status = TaskStatus.CANCELLED
            case Failed(reason=reason):
                status = TaskStatus.FAILED
            case _:
                return
        claim, error = run.claim, run.error if status is TaskStatus.FAILED else None
        size = size_in_bytes(outcome.result) if isinstance(outcome, Succeeded) and not cancelled else None
        self._hooks.emit(
            TaskFinished(
                claim.id, claim.alias, claim.queue, status, claim.attempt, run.took, reason, error,
                end_to_end=run.age, result_size=size, undecodable=run.undecodable, dispatcher_id=run.dispatcher_id,
            )
        )  # fmt: skip

    def _emit_returned(self, run: Run, outcome: Retrying | Snoozed | Released) -> None:
        match outcome:
            case Retrying(delay=delay):
                wait: float | None = delay
                reason = "error"
            case Snoozed(delay=delay):
                wait, reason = delay, "snooze"
            case Released():
                wait, reason = None, "shutdown"
        claim = run.claim
        self._returned(claim.queue, wait)
        if self._hooks.has_listener(TaskRetried):
            error = run.error if reason == "error" else None
            self._hooks.emit(
                TaskRetried(
                    claim.id, claim.alias, claim.queue, claim.attempt, run.took, wait, reason, error,
                    undecodable=run.undecodable, dispatcher_id=run.dispatcher_id,
                )
            )  # fmt: skip
