"""What the lifecycle promises, as plain data and plain decisions; nothing of the library's own logic."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from aiotaskstore.retention import Retention
from aiotaskstore.task import TaskStatus

LEAST_STUCK_TRIES = 3
LIVE = {TaskStatus.SCHEDULED, TaskStatus.PENDING, TaskStatus.RUNNING}


@dataclass
class Row:
    """One task that is kept."""

    id: UUID
    status: TaskStatus
    run_at: datetime
    priority: int
    max_attempts: int
    on_stuck: str
    external_id: str | None
    retention: Retention
    attempt: int = 0
    fence: int = 0
    dispatcher: UUID | None = None
    cancel_asked: bool = False
    reason: str | None = None
    expires_at: datetime | None = None
    payload_kept: bool = True
    errors: frozenset[int] = frozenset()
    """Fences of the attempts that went wrong."""

    @property
    def live(self) -> bool:
        return self.status in LIVE


@dataclass(frozen=True)
class Claimed:
    """The right to write how an attempt ended."""

    id: UUID
    fence: int


@dataclass
class Model:
    """Every task that is kept, who owns which external id, and when each dispatcher was last heard."""

    now: datetime
    lease: float
    rows: dict[UUID, Row] = field(default_factory=dict)
    keys: dict[str, UUID] = field(default_factory=dict)
    heard: dict[UUID, datetime] = field(default_factory=dict)

    def enqueue(self, row: Row, delay: float | None, *, live_only: bool) -> UUID | None:
        """Store a row; gives the id of the task that has its external id, if one has."""
        if row.external_id is not None and row.external_id in self.keys:
            owner = self.keys[row.external_id]
            if not live_only or self.rows[owner].live:
                return owner
        if row.external_id is not None:
            self.keys[row.external_id] = row.id
        row.run_at = self.now + timedelta(seconds=delay or 0)
        row.status = TaskStatus.SCHEDULED if delay else TaskStatus.PENDING
        self.rows[row.id] = row
        return None

    def promote(self) -> int:
        due = [row for row in self.rows.values() if row.status is TaskStatus.SCHEDULED and row.run_at <= self.now]
        for row in due:
            row.status = TaskStatus.PENDING
        return len(due)

    def claim(self, dispatcher: UUID, limit: int) -> list[Row]:
        pending = [row for row in self.rows.values() if row.status is TaskStatus.PENDING]
        taken = sorted(pending, key=lambda row: (row.priority, row.run_at, row.id))[:limit]
        for row in taken:
            row.status, row.dispatcher = TaskStatus.RUNNING, dispatcher
            row.attempt += 1
            row.fence += 1
        return [replace(row) for row in taken]

    def record(self, claim: Claimed, kind: str, delay: float, *, again: bool) -> str:
        """Write how an attempt ended; gives what became of it: written, cancelled or lost."""
        row = self.rows.get(claim.id)
        if row is None:
            return "lost"
        if row.status is TaskStatus.RUNNING and row.fence == claim.fence:
            return self._end_attempt(row, kind, delay)
        if row.fence == claim.fence and kind == "succeeded" and (row.live or row.reason in {"stuck", "interrupted"}):
            if row.live:
                self._finish(row, TaskStatus.SUCCEEDED, "ok")
            else:
                row.status, row.reason = TaskStatus.SUCCEEDED, "ok"
            return "written"
        told_before = row.fence == claim.fence + 1 if row.live else row.fence == claim.fence
        return "written" if again and told_before else "lost"

    def _end_attempt(self, row: Row, kind: str, delay: float) -> str:
        if row.cancel_asked and kind != "succeeded":
            self._finish(row, TaskStatus.CANCELLED, "request")
            return "cancelled"
        match kind:
            case "succeeded":
                self._finish(row, TaskStatus.SUCCEEDED, "ok")
            case "failed":
                row.errors |= {row.fence}
                self._finish(row, TaskStatus.FAILED, "error")
            case "cancelled":
                self._finish(row, TaskStatus.CANCELLED, "handler")
            case "retrying":
                row.errors |= {row.fence}
                self._give_back(row, delay, refund=False)
            case "snoozed":
                self._give_back(row, delay, refund=True)
            case _:
                self._give_back(row, None, refund=True)
        return "written"

    def _give_back(self, row: Row, delay: float | None, *, refund: bool) -> None:
        row.status = TaskStatus.SCHEDULED if delay else TaskStatus.PENDING
        if delay is not None:
            row.run_at = self.now + timedelta(seconds=delay)
        row.attempt -= refund
        row.fence += 1
        row.dispatcher = None

    def _finish(self, row: Row, status: TaskStatus, reason: str) -> None:
        row.status, row.reason = status, reason
        good = status is TaskStatus.SUCCEEDED
        if not row.retention.keeps_row(succeeded=good):
            self._forget(row)
            return
        period = row.retention.period_seconds
        row.expires_at = None if period is None else self.now + timedelta(seconds=period)
        row.payload_kept = row.retention.keeps_payload(succeeded=good)

    def _forget(self, row: Row) -> None:
        del self.rows[row.id]
        if row.external_id is not None and self.keys.get(row.external_id) == row.id:
            del self.keys[row.external_id]

    def beat(self, dispatcher: UUID) -> bool:
        if dispatcher in self.heard:
            self.heard[dispatcher] = self.now
        return dispatcher in self.heard

    def rescue(self, dispatcher: UUID) -> dict[UUID, TaskStatus]:
        heard = self.heard.get(dispatcher)
        if heard is not None and heard >= self.now - timedelta(seconds=self.lease):
            return {}
        self.heard.pop(dispatcher, None)
        running = [
            row for row in self.rows.values() if row.status is TaskStatus.RUNNING and row.dispatcher == dispatcher
        ]
        return {row.id: self._rescue(row) for row in running}

    def _rescue(self, row: Row) -> TaskStatus:
        if row.cancel_asked:
            self._finish(row, TaskStatus.CANCELLED, "request")
            return TaskStatus.CANCELLED
        row.errors |= {row.fence}
        if row.on_stuck == "interrupt":
            self._finish(row, TaskStatus.INTERRUPTED, "interrupted")
            return TaskStatus.INTERRUPTED
        if row.on_stuck == "retry" and row.attempt < max(row.max_attempts, LEAST_STUCK_TRIES):
            row.status, row.dispatcher = TaskStatus.PENDING, None
            return TaskStatus.PENDING
        self._finish(row, TaskStatus.FAILED, "stuck")
        return TaskStatus.FAILED

    def cancel(self, task_id: UUID, *, force: bool) -> bool | None:
        """Cancel; gives whether it was done, nothing for a task that is not kept."""
        row = self.rows.get(task_id)
        if row is None:
            return None
        if not row.live:
            return False
        if row.status is TaskStatus.RUNNING and not force:
            row.cancel_asked = True
        else:
            self._finish(row, TaskStatus.CANCELLED, "request")
        return True

    def retry(self, task_id: UUID, *, force: bool) -> bool | UUID | None:
        """Start from the beginning; gives also the task that has taken its external id over."""
        row = self.rows.get(task_id)
        if row is None:
            return None
        if row.status is TaskStatus.RUNNING:
            return False
        if not row.live:
            if not row.payload_kept or (row.status is TaskStatus.SUCCEEDED and not force):
                return False
            if row.external_id is not None and self.keys.get(row.external_id, row.id) != row.id:
                return self.keys[row.external_id]
        row.status, row.run_at, row.attempt = TaskStatus.PENDING, self.now, 0
        row.fence += 1
        row.dispatcher = row.reason = row.expires_at = None
        row.cancel_asked = False
        return True

    def delete(self, task_id: UUID, *, force: bool) -> bool | None:
        row = self.rows.get(task_id)
        if row is None:
            return None
        if row.status is TaskStatus.RUNNING and not force:
            return False
        self._forget(row)
        return True

    def clean(self) -> int:
        past = [row for row in self.rows.values() if row.expires_at is not None and row.expires_at <= self.now]
        for row in past:
            self._forget(row)
        return len(past)
