"""What the lifecycle promises, as plain data and plain decisions; nothing of the library's own logic."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from aiotaskstore.retention import Retention
from aiotaskstore.task import TaskStatus

LEAST_STUCK_TRIES = 3
QUEUED = {TaskStatus.SCHEDULED, TaskStatus.WAITING, TaskStatus.PENDING}
LIVE = {*QUEUED, TaskStatus.RUNNING, TaskStatus.PAUSED}


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
    serialization_key: str | None = None
    strict: bool = False
    holds: bool = False
    """Whether it holds its serialization key."""
    attempt: int = 0
    fence: int = 0
    dispatcher: UUID | None = None
    cancel_requested: bool = False
    reason: str | None = None
    expires_at: datetime | None = None
    payload_kept: bool = True
    hidden: bool = False
    """Whether it is soft-deleted."""
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
    """Every task that is kept, who owns which external id, and when each dispatcher sent its last heartbeat."""

    now: datetime
    lease: float
    rows: dict[UUID, Row] = field(default_factory=dict)
    keys: dict[str, UUID] = field(default_factory=dict)
    heartbeats: dict[UUID, datetime] = field(default_factory=dict)

    def enqueue(self, row: Row, delay: float | None, *, live_only: bool) -> UUID | None:
        """Store a row; return the id of the task that has its external id, if one has."""
        if row.external_id is not None and row.external_id in self.keys:
            owner = self.keys[row.external_id]
            if not live_only or self.rows[owner].live:
                return owner
        if row.external_id is not None:
            self.keys[row.external_id] = row.id
        row.run_at = self.now + timedelta(seconds=delay or 0)
        self.place(row)
        self.rows[row.id] = row
        return None

    def promote(self) -> int:
        scheduled = [row for row in self.rows.values() if row.status is TaskStatus.SCHEDULED and not row.hidden]
        due = [row for row in scheduled if row.run_at <= self.now]
        for row in due:
            row.status = _due(row)
        return len(due)

    def holder(self, key: str) -> Row | None:
        return next((row for row in self.rows.values() if row.holds and row.serialization_key == key), None)

    def waiting(self, key: str) -> list[Row]:
        """Return what waits for a serialization key, the first first."""
        found = [
            row
            for row in self.rows.values()
            if row.serialization_key == key and row.status is TaskStatus.WAITING and not row.hidden
        ]
        return sorted(found, key=lambda row: (row.priority, row.run_at, row.id))

    def grant(self, key: str) -> None:
        """Make the first that waits for a free key pending."""
        if self.holder(key) is None:
            for row in self.waiting(key)[:1]:
                row.status, row.holds = TaskStatus.PENDING, True

    def claim(self, dispatcher: UUID, limit: int) -> list[Row]:
        pending = [row for row in self.rows.values() if row.status is TaskStatus.PENDING and not row.hidden]
        taken = sorted(pending, key=lambda row: (row.priority, row.run_at, row.id))[:limit]
        for row in taken:
            row.status, row.dispatcher = TaskStatus.RUNNING, dispatcher
            row.attempt += 1
            row.fence += 1
        return [replace(row) for row in taken]

    def record(self, claim: Claimed, kind: str, delay: float, *, again: bool) -> str:
        """Write how an attempt ended; return what became of it: written, cancelled or lost."""
        row = self.rows.get(claim.id)
        if row is None:
            return "lost"
        if row.status is TaskStatus.RUNNING and row.fence == claim.fence:
            return self._end_attempt(row, kind, delay)
        given_up = row.status is TaskStatus.INTERRUPTED or (
            row.status is TaskStatus.FAILED and row.reason in {"stuck", "forced"}
        )
        if row.fence == claim.fence and kind == "succeeded" and (row.live or given_up):
            self._finish(row, TaskStatus.SUCCEEDED, "ok")
            return "written"
        recorded_before = row.fence == claim.fence + 1 if row.live else row.fence == claim.fence
        return "written" if again and recorded_before else "lost"

    def _end_attempt(self, row: Row, kind: str, delay: float) -> str:
        if row.cancel_requested and kind != "succeeded":
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
                self._return_to_queue(row, delay, refund=False)
            case "snoozed":
                self._return_to_queue(row, delay, refund=True)
            case _:
                self._return_to_queue(row, None, refund=True)
        return "written"

    def _return_to_queue(self, row: Row, delay: float | None, *, refund: bool) -> None:
        row.status = TaskStatus.SCHEDULED if delay else _due(row)
        row.holds = row.holds and not row.hidden and (row.strict or not delay)
        if delay is not None:
            row.run_at = self.now + timedelta(seconds=delay)
        row.attempt -= refund
        row.fence += 1
        row.dispatcher = None

    def _finish(self, row: Row, status: TaskStatus, reason: str) -> None:
        row.status, row.reason, row.holds = status, reason, False
        good = status is TaskStatus.SUCCEEDED
        if not row.retention.keeps_row(succeeded=good):
            self._delete(row)
            return
        period = row.retention.period_seconds
        row.expires_at = None if period is None else self.now + timedelta(seconds=period)
        row.payload_kept = row.payload_kept and row.retention.keeps_payload(succeeded=good)

    def _delete(self, row: Row) -> None:
        del self.rows[row.id]
        if row.external_id is not None and self.keys.get(row.external_id) == row.id:
            del self.keys[row.external_id]

    def heartbeat(self, dispatcher: UUID) -> bool:
        if dispatcher in self.heartbeats:
            self.heartbeats[dispatcher] = self.now
        return dispatcher in self.heartbeats

    def rescue(self, dispatcher: UUID) -> dict[UUID, TaskStatus]:
        heartbeat_at = self.heartbeats.get(dispatcher)
        if heartbeat_at is not None and heartbeat_at >= self.now - timedelta(seconds=self.lease):
            return {}
        self.heartbeats.pop(dispatcher, None)
        running = [
            row for row in self.rows.values() if row.status is TaskStatus.RUNNING and row.dispatcher == dispatcher
        ]
        return {row.id: self._rescue(row) for row in running}

    def _rescue(self, row: Row) -> TaskStatus:
        if row.cancel_requested:
            self._finish(row, TaskStatus.CANCELLED, "request")
            return TaskStatus.CANCELLED
        row.errors |= {row.fence}
        if row.on_stuck == "interrupt":
            self._finish(row, TaskStatus.INTERRUPTED, "interrupted")
            return TaskStatus.INTERRUPTED
        if row.on_stuck == "retry" and row.attempt < max(row.max_attempts, LEAST_STUCK_TRIES):
            row.status, row.dispatcher = _due(row), None
            row.holds = row.holds and not row.hidden
            return TaskStatus.PENDING
        self._finish(row, TaskStatus.FAILED, "stuck")
        return TaskStatus.FAILED

    def seen(self, task_id: UUID) -> Row | None:
        """Return a task that is kept and not soft-deleted."""
        row = self.rows.get(task_id)
        return None if row is None or row.hidden else row

    def place(self, row: Row) -> None:
        """Place a row that may run; it holds its serialization key no more."""
        row.holds = False
        row.status = TaskStatus.SCHEDULED if row.run_at > self.now else _due(row)

    def pause(self, task_id: UUID) -> bool:
        row = self.seen(task_id)
        if row is None or row.status not in QUEUED:
            return False
        row.status, row.holds = TaskStatus.PAUSED, False
        return True

    def resume(self, task_id: UUID) -> bool:
        row = self.seen(task_id)
        if row is None or row.status is not TaskStatus.PAUSED:
            return False
        self.place(row)
        return True

    def reschedule(self, task_id: UUID, delay: float) -> bool:
        row = self.seen(task_id)
        if row is None or not row.live or row.status is TaskStatus.RUNNING:
            return False
        row.run_at = self.now + timedelta(seconds=delay)
        if row.status is not TaskStatus.PAUSED:
            self.place(row)
        return True

    def soft_delete(self, task_id: UUID) -> bool:
        row = self.seen(task_id)
        if row is not None:
            row.hidden = True
            row.holds = row.holds and row.status is TaskStatus.RUNNING
        return row is not None

    def restore(self, task_id: UUID) -> bool:
        row = self.rows.get(task_id)
        if row is None or not row.hidden:
            return False
        row.hidden = False
        if row.status in QUEUED:
            self.place(row)
        return True

    def mark(self, task_id: UUID, *, succeeded: bool, text: str | None) -> bool:
        row = self.seen(task_id)
        if row is None or row.status is TaskStatus.CANCELLED:
            return False
        if row.status is TaskStatus.SUCCEEDED and not (succeeded and text):
            return False
        row.fence += succeeded
        self._finish(row, TaskStatus.SUCCEEDED if succeeded else TaskStatus.FAILED, "forced")
        return True

    def update(self, task_id: UUID, *, priority: int, payload: str | None) -> bool:
        row = self.seen(task_id)
        if row is None or row.status is TaskStatus.RUNNING:
            return False
        row.priority = priority
        row.payload_kept = row.payload_kept or payload is not None
        row.fence += payload is not None and row.status is not TaskStatus.SUCCEEDED
        return True

    def clone(self, task_id: UUID, new_id: UUID) -> None:
        """Store a copy under this id, if there is anything to copy."""
        row = self.seen(task_id)
        if row is not None and row.payload_kept:
            copy = self.rows[new_id] = Row(
                new_id, TaskStatus.PENDING, self.now, row.priority, row.max_attempts, row.on_stuck, None, row.retention,
                row.serialization_key, row.strict,
            )  # fmt: skip
            self.place(copy)

    def cancel(self, task_id: UUID, *, force: bool) -> bool | None:
        """Cancel; return whether it was done, nothing for a task that is not kept."""
        row = self.seen(task_id)
        if row is None:
            return None
        if not row.live:
            return False
        if row.status is TaskStatus.RUNNING and not force:
            row.cancel_requested = True
        else:
            self._finish(row, TaskStatus.CANCELLED, "request")
        return True

    def retry(self, task_id: UUID, *, force: bool) -> bool | UUID | None:
        """Start from the beginning; return also the task that has taken its external id over."""
        row = self.seen(task_id)
        if row is None:
            return None
        if row.status is TaskStatus.RUNNING:
            return False
        if not row.live:
            if not row.payload_kept or (row.status is TaskStatus.SUCCEEDED and not force):
                return False
            if row.external_id is not None and self.keys.get(row.external_id, row.id) != row.id:
                return self.keys[row.external_id]
        row.run_at, row.attempt = self.now, 0
        self.place(row)
        row.fence += 1
        row.dispatcher = row.reason = row.expires_at = None
        row.cancel_requested = False
        return True

    def delete(self, task_id: UUID, *, force: bool) -> bool | None:
        row = self.rows.get(task_id)
        if row is None:
            return None
        if row.status is TaskStatus.RUNNING and not force:
            return False
        self._delete(row)
        return True

    def clean(self) -> int:
        past = [row for row in self.rows.values() if row.expires_at is not None and row.expires_at <= self.now]
        for row in past:
            self._delete(row)
        return len(past)


def _due(row: Row) -> TaskStatus:
    return TaskStatus.PENDING if row.serialization_key is None or row.holds else TaskStatus.WAITING
