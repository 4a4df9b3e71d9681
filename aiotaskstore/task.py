"""A task: one request to run one definition once, its statuses, and its allowed moves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from aiotaskstore.retention import Retention


class TaskStatus(StrEnum):
    """Where a task stands; the last four are final."""

    SCHEDULED = "scheduled"
    """Not due yet: a future `run_at`, or waiting for its next attempt."""
    PENDING = "pending"
    """Due, may be claimed."""
    WAITING = "waiting"
    """Due, but another task holds its serialization key."""
    RUNNING = "running"
    """Claimed by a live dispatcher."""
    PAUSED = "paused"
    """Set aside by an operator."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """Its dispatcher died, and its definition asked not to guess (`on_stuck="interrupt"`)."""

    @property
    def finished(self) -> bool:
        """Whether the task has reached its end."""
        return self in FINISHED


FINISHED = frozenset({TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.INTERRUPTED})

_PLACED = frozenset({TaskStatus.SCHEDULED, TaskStatus.PENDING, TaskStatus.WAITING})

MOVES: dict[TaskStatus, frozenset[TaskStatus]] = {
    # promoted, claimed, retried in place, cancelled, and ended by a late success
    TaskStatus.SCHEDULED: _PLACED | {TaskStatus.CANCELLED, TaskStatus.SUCCEEDED},
    TaskStatus.PENDING: _PLACED | {TaskStatus.RUNNING, TaskStatus.CANCELLED, TaskStatus.SUCCEEDED},
    TaskStatus.WAITING: _PLACED | {TaskStatus.CANCELLED, TaskStatus.SUCCEEDED},
    TaskStatus.RUNNING: _PLACED | FINISHED,
    TaskStatus.PAUSED: _PLACED | {TaskStatus.CANCELLED, TaskStatus.SUCCEEDED},
    # retried by an operator; failed and interrupted also by a late success
    TaskStatus.SUCCEEDED: _PLACED,
    TaskStatus.FAILED: _PLACED | {TaskStatus.SUCCEEDED},
    TaskStatus.CANCELLED: _PLACED,
    TaskStatus.INTERRUPTED: _PLACED | {TaskStatus.SUCCEEDED},
}
"""Every move there is. `docs/lifecycle.md` draws it; the model-based test walks it."""


@dataclass(frozen=True, slots=True)
class AttemptError:
    """How one attempt went wrong."""

    attempt: int
    at: datetime
    type: str
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """What a running handler last told."""

    text: str
    fraction: float | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A snapshot of one task, live or finished."""

    id: UUID
    alias: str
    queue: str
    status: TaskStatus
    payload: Any
    """The JSON value as stored: the arguments by name. `None` where retention dropped it."""
    result: Any = None
    """The JSON value the handler returned; `None` unless succeeded."""
    error: str | None = None
    """The last attempt's error, as `Type: message`."""
    errors: list[AttemptError]
    details: str = ""
    """What the handler logged with `context.info` and its sisters, a line each."""
    progress: Progress | None = None
    attempt: int
    """Claims made so far; a hand-back at shutdown and a snooze give one back."""
    max_attempts: int
    priority: int
    """Smaller runs first."""
    run_at: datetime
    """Not before this instant."""
    timeout: timedelta | None
    owner: tuple[str, str] | None
    source: str | None
    parent_id: UUID | None
    definition_id: UUID | None
    external_id: str | None
    serialization_key: str | None
    metadata: dict[str, Any]
    retention: Retention
    finish_reason: str | None
    """Why it ended: ok, error, exhausted, timeout, stuck, handler, request, forced, interrupted, missing."""
    cancel_reason: str | None
    cancel_requested_at: datetime | None
    dispatcher_id: UUID | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None = None
    cancelled_at: datetime | None = None
    expires_at: datetime | None = None
    """When the cleaner may delete the row; `None` for never, or while unfinished."""
    deleted_at: datetime | None = None


class NewTask(NamedTuple):
    """A row to be, its fields in the order of the insert statement's parameters."""

    id: UUID
    queue: str
    alias: str
    priority: int
    run_at: datetime | None
    delay: float | None
    payload: str
    max_attempts: int
    timeout: float | None
    on_stuck: int
    owner_type: str | None
    owner_id: str | None
    source: str | None
    parent_id: UUID | None
    definition_id: UUID | None
    external_id: str | None
    serialization_key: str | None
    strict: bool
    metadata: str | None
    retention: str | None


class Claim(NamedTuple):
    """The sole right to run one attempt of a task, with the row as the claim left it.

    `id` and `fence` are what every later write must show. Values are as the driver gave them: `rows.py` makes
    a `Task` of them for whoever asks.
    """

    id: UUID
    queue: str
    alias: str
    priority: int
    run_at: Any
    payload: str
    attempt: int
    max_attempts: int
    timeout: float | None
    fence: int
    on_stuck: int
    owner_type: str | None
    owner_id: str | None
    source: str | None
    parent_id: Any
    definition_id: Any
    external_id: str | None
    serialization_key: str | None
    strict: bool
    metadata: str | None
    retention: str | None
    created_at: Any
    started_at: Any
