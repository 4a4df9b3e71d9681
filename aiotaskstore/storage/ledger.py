"""The one place where outcomes become rows: what a locked row moves to, and with what."""

from __future__ import annotations

from typing import Any, NamedTuple, assert_never
from uuid import UUID

from aiotaskstore.outcome import Cancelled, Failed, Lost, Outcome, Released, Retrying, Snoozed, Succeeded
from aiotaskstore.retention import Retention
from aiotaskstore.storage.rows import CODES, ON_STUCK
from aiotaskstore.storage.steps import Row
from aiotaskstore.task import Claim, TaskStatus

LEAST_STUCK_TRIES = 3
"""A crash is not the handler's error: a task may be claimed this often before its dispatchers' deaths fail it."""

RUNNING = CODES[TaskStatus.RUNNING]
SUCCEEDED = CODES[TaskStatus.SUCCEEDED]
_FAILED = CODES[TaskStatus.FAILED]
_CANCELLED = CODES[TaskStatus.CANCELLED]
_INTERRUPTED = CODES[TaskStatus.INTERRUPTED]


class Held(NamedTuple):
    """A locked row, as far as a decision needs it."""

    id: UUID
    fence: int
    status: int
    attempt: int
    max_attempts: int
    on_stuck: int
    retention: str | None
    cancel_requested_at: Any
    cancel_reason: str | None
    alias: str
    external_id: str | None
    queue: str


class Ending(NamedTuple):
    """A move to the finished half."""

    id: UUID
    status: int
    result: str | None
    error: str | None
    reason: str
    why: str | None
    expires_in: float | None
    keep_payload: bool
    keep: bool


class Finish(NamedTuple):
    """A success whose row stays: of the row, nothing must be known but that the claim holds."""

    id: UUID
    fence: int
    result: str
    expires_in: float | None
    keep_payload: bool

    @staticmethod
    def of(claim: object, outcome: Outcome) -> Finish | None:
        """Give the finish, if this attempt ended so."""
        if not (isinstance(outcome, Succeeded) and isinstance(claim, Claim)):
            return None
        retention = Retention.load(claim.retention)
        if not retention.keeps_row(succeeded=True):
            return None
        keep_payload = retention.keeps_payload(succeeded=True)
        return Finish(claim.id, claim.fence, outcome.result, retention.period_seconds, keep_payload)

    @property
    def ending(self) -> Ending:
        """The same as a move."""
        return Ending(self.id, SUCCEEDED, self.result, None, "ok", None, self.expires_in, self.keep_payload, keep=True)


class GiveBack(NamedTuple):
    """A move from running back to where it may run again; no delay keeps its place."""

    id: UUID
    delay: float | None
    refund: int
    void: int
    """1 voids the fence, so that nothing late is accepted; 0 leaves the door open for a late success."""


class Trace(NamedTuple):
    """The record of one attempt's error."""

    task_id: UUID
    fence: int
    attempt: int
    type: str
    message: str


class Ledger:
    """Moves decided for locked rows: the one place where outcomes become rows."""

    def __init__(self) -> None:
        self.endings: list[Ending] = []
        self.returns: list[GiveBack] = []
        self.traces: list[Trace] = []
        self.cancelled: set[UUID] = set()
        """Those that ended as cancelled although their outcome was another one."""

    def decide(self, row: Held, outcome: Outcome) -> None:
        """Decide the move of a running row whose attempt ended so."""
        if row.cancel_requested_at is not None and not isinstance(outcome, Succeeded | Lost):
            self.cancelled.add(row.id)
            self.end(row, Cancelled("request", row.cancel_reason))
            return
        match outcome:
            case Succeeded() | Cancelled():
                self.end(row, outcome)
            case Failed(error_type=error_type, message=message):
                self.traces.append(Trace(row.id, row.fence, row.attempt, error_type, message))
                self.end(row, outcome)
            case Retrying(error_type=error_type, message=message, delay=delay):
                self.traces.append(Trace(row.id, row.fence, row.attempt, error_type, message))
                self.returns.append(GiveBack(row.id, delay, 0, 1))
            case Snoozed(delay=delay):
                self.returns.append(GiveBack(row.id, delay, 1, 1))
            case Released():
                self.returns.append(GiveBack(row.id, None, 1, 1))
            case Lost():
                pass
            case _:
                assert_never(outcome)

    def rescue(self, row: Held) -> TaskStatus:
        """Decide the move of a running row whose dispatcher died; gives where it goes.

        The fence stays, so that a late success is still accepted.
        """
        if row.cancel_requested_at is not None:
            self.end(row, Cancelled("request", row.cancel_reason))
            return TaskStatus.CANCELLED
        message = f"the dispatcher died during attempt {row.attempt}"
        self.traces.append(Trace(row.id, row.fence, row.attempt, "Stuck", message))
        policy = ON_STUCK[row.on_stuck]
        if policy == "interrupt":
            self._move(row, _INTERRUPTED, "interrupted", error=f"Stuck: {message}")
            return TaskStatus.INTERRUPTED
        if policy == "retry" and row.attempt < max(row.max_attempts, LEAST_STUCK_TRIES):
            self.returns.append(GiveBack(row.id, None, 0, 0))
            return TaskStatus.PENDING
        self._move(row, _FAILED, "stuck", error=f"Stuck: {message}")
        return TaskStatus.FAILED

    def end(self, row: Held, outcome: Succeeded | Failed | Cancelled) -> None:
        """Decide a move to the finished half."""
        match outcome:
            case Succeeded(result=result):
                self._move(row, SUCCEEDED, "ok", result=result)
            case Failed(error_type=error_type, message=message, reason=reason):
                self._move(row, _FAILED, reason, error=f"{error_type}: {message}")
            case Cancelled(reason=reason, why=why):
                self._move(row, _CANCELLED, reason, why=why)

    def _move(
        self,
        row: Held,
        status: int,
        reason: str,
        *,
        result: str | None = None,
        error: str | None = None,
        why: str | None = None,
    ) -> None:
        retention = Retention.load(row.retention)
        succeeded = status == SUCCEEDED
        self.endings.append(
            Ending(
                row.id,
                status,
                result,
                error,
                reason,
                why,
                retention.period_seconds,
                retention.keeps_payload(succeeded=succeeded),
                retention.keeps_row(succeeded=succeeded),
            )
        )


def was_given_up(row: Row) -> bool:
    """Tell whether a finished row was ended by a rescue or by force, not by its run."""
    return row[2] == _INTERRUPTED or (row[2] == _FAILED and row[-2] in {"stuck", "forced"})
