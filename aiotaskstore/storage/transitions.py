"""The one place that decides a row's next state, from the locked row and the outcome or the rescue of its attempt."""

from __future__ import annotations

from typing import Any, NamedTuple, assert_never
from uuid import UUID

from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.outcome import Cancelled, Failed, Lost, Outcome, Released, Retrying, Snoozed, Succeeded
from aiotaskstore.retention import Retention
from aiotaskstore.storage.rows import CODES, ON_STUCK
from aiotaskstore.task import Claim, TaskStatus

LEAST_STUCK_TRIES = 3
"""A crash is not the handler's error: a task may be claimed this often before its dispatchers' deaths fail it."""

WAITING = CODES[TaskStatus.WAITING]
RUNNING = CODES[TaskStatus.RUNNING]
SUCCEEDED = CODES[TaskStatus.SUCCEEDED]
_FAILED = CODES[TaskStatus.FAILED]
_CANCELLED = CODES[TaskStatus.CANCELLED]
_INTERRUPTED = CODES[TaskStatus.INTERRUPTED]
PAUSED = CODES[TaskStatus.PAUSED]
QUEUED = frozenset(CODES[status] for status in (TaskStatus.SCHEDULED, TaskStatus.PENDING, TaskStatus.WAITING))
"""Where the one rule places a row that may run."""
_GIVEN_UP = frozenset({FinishReason.STUCK, FinishReason.FORCED})


class LockedRow(NamedTuple):
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
    deleted_at: Any
    serialization_key: str | None


class Ending(NamedTuple):
    """A transition to the finished half."""

    id: UUID
    status: int
    result: str | None
    error: str | None
    reason: str
    why: str | None
    expires_in: float | None
    keep_payload: bool
    keep: bool


class Correction(NamedTuple):
    """Another end of a finished task, whose row is kept: a late success, or what an operator says of it."""

    id: UUID
    status: int
    result: str | None
    error: str | None
    reason: str
    expires_in: float | None
    keep_payload: bool
    void: int
    """1 voids the fence, so that nothing late is accepted."""

    @staticmethod
    def of(ending: Ending, *, void: bool) -> Correction:
        """Return the correction to this ending."""
        return Correction(
            ending.id, ending.status, ending.result, ending.error, ending.reason, ending.expires_in,
            ending.keep_payload, int(void),
        )  # fmt: skip


class Finish(NamedTuple):
    """A success whose row is kept. It needs no locked row: it is enough that the claim still holds."""

    id: UUID
    fence: int
    result: str
    expires_in: float | None
    keep_payload: bool

    @staticmethod
    def of(claim: object, outcome: Outcome) -> Finish | None:
        """Return the finish, if this attempt ended so and its row is kept."""
        if not (isinstance(outcome, Succeeded) and isinstance(claim, Claim)):
            return None
        retention = Retention.load(claim.retention)
        if not retention.keeps_row(succeeded=True):
            return None
        keep_payload = retention.keeps_payload(succeeded=True)
        return Finish(claim.id, claim.fence, outcome.result, retention.period_seconds, keep_payload)

    @property
    def ending(self) -> Ending:
        """The same as an ending of any task."""
        return Ending(
            self.id, SUCCEEDED, self.result, None, FinishReason.OK, None, self.expires_in, self.keep_payload, keep=True
        )


class Marked(NamedTuple):
    """What an operator says that a task's end was."""

    succeeded: bool
    text: str | None
    """The result as JSON text, `None` where none is given; or the error."""


class QueueReturn(NamedTuple):
    """Returns a running task to its queue. Without a delay, the task keeps its place."""

    id: UUID
    delay: float | None
    refund: int
    void: int
    """1 voids the fence, so that nothing late is accepted; with 0 a late success still counts."""


class AttemptErrorRow(NamedTuple):
    """The record of one attempt's error."""

    task_id: UUID
    fence: int
    attempt: int
    type: str
    message: str
    traceback: str | None


class Transitions:
    """The transitions decided for some locked rows; `TaskRows.apply` writes them."""

    def __init__(self) -> None:
        self.endings: list[Ending] = []
        self.returns: list[QueueReturn] = []
        self.errors: list[AttemptErrorRow] = []
        self.cancelled: set[UUID] = set()
        """Those that ended as cancelled although their outcome was another one."""

    def decide(self, row: LockedRow, outcome: Outcome) -> None:
        """Decide the transition of a running row whose attempt ended so."""
        if row.cancel_requested_at is not None and not isinstance(outcome, Succeeded | Lost):
            self.cancelled.add(row.id)
            self.end(row, Cancelled(FinishReason.REQUEST, row.cancel_reason))
            return
        match outcome:
            case Succeeded() | Cancelled():
                self.end(row, outcome)
            case Failed():
                self._add_error(row, outcome)
                self.end(row, outcome)
            case Retrying(delay=delay):
                self._add_error(row, outcome)
                self.returns.append(QueueReturn(row.id, delay, 0, 1))
            case Snoozed(delay=delay):
                self.returns.append(QueueReturn(row.id, delay, 1, 1))
            case Released():
                self.returns.append(QueueReturn(row.id, None, 1, 1))
            case Lost():
                pass
            case _:
                assert_never(outcome)

    def rescue(self, row: LockedRow) -> TaskStatus:
        """Decide the transition of a running row whose dispatcher died; return its next status.

        The fence stays, so that a late success is still accepted.
        """
        if row.cancel_requested_at is not None:
            self.end(row, Cancelled(FinishReason.REQUEST, row.cancel_reason))
            return TaskStatus.CANCELLED
        message = f"the dispatcher died during attempt {row.attempt}"
        self.errors.append(AttemptErrorRow(row.id, row.fence, row.attempt, "Stuck", message, None))
        policy = ON_STUCK[row.on_stuck]
        if policy == "interrupt":
            self._end(row, _INTERRUPTED, FinishReason.INTERRUPTED, f"Stuck: {message}")
            return TaskStatus.INTERRUPTED
        if policy == "retry" and row.attempt < max(row.max_attempts, LEAST_STUCK_TRIES):
            self.returns.append(QueueReturn(row.id, None, 0, 0))
            return TaskStatus.PENDING
        self._end(row, _FAILED, FinishReason.STUCK, f"Stuck: {message}")
        return TaskStatus.FAILED

    def end(self, row: LockedRow, outcome: Succeeded | Failed | Cancelled) -> None:
        """Decide a transition to the finished half."""
        match outcome:
            case Succeeded(result=result):
                self._end(row, SUCCEEDED, FinishReason.OK, result)
            case Failed(error_type=error_type, message=message, reason=reason):
                self._end(row, _FAILED, reason, f"{error_type}: {message}")
            case Cancelled(reason=reason, why=why):
                self._end(row, _CANCELLED, reason, why)

    def mark(self, row: LockedRow, marked: Marked) -> None:
        """Decide the end that an operator says of a task, whether it has finished or not."""
        if marked.succeeded:
            self._end(row, SUCCEEDED, FinishReason.FORCED, marked.text or "null")
        else:
            self._end(row, _FAILED, FinishReason.FORCED, marked.text)

    def _add_error(self, row: LockedRow, outcome: Failed | Retrying) -> None:
        traceback = outcome.traceback or None
        self.errors.append(
            AttemptErrorRow(row.id, row.fence, row.attempt, outcome.error_type, outcome.message, traceback)
        )

    def _end(self, row: LockedRow, status: int, reason: FinishReason, text: str | None) -> None:
        """`text` is the result of a success, the words of whoever cancelled, else the error."""
        retention = Retention.load(row.retention)
        succeeded = status == SUCCEEDED
        self.endings.append(
            Ending(
                row.id,
                status,
                text if succeeded else None,
                text if status in {_FAILED, _INTERRUPTED} else None,
                reason.value,  # plain text: a driver would look how to adapt an enum, for every row
                text if status == _CANCELLED else None,
                retention.period_seconds,
                retention.keeps_payload(succeeded=succeeded),
                retention.keeps_row(succeeded=succeeded),
            )
        )


def was_given_up(status: int, reason: str) -> bool:
    """Return whether a finished row was ended while its run may still go on: then a late success counts."""
    return status == _INTERRUPTED or (status == _FAILED and reason in _GIVEN_UP)


def may_be_marked(status: int, marked: Marked) -> bool:
    """Return whether an operator may say that a task of this status ended so."""
    if status == SUCCEEDED:
        return marked.succeeded and marked.text is not None
    return status != _CANCELLED
