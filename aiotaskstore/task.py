"""A task: one request to run one definition once, its statuses, and their transitions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from aiotaskstore.retention import Retention


class TaskStatus(StrEnum):
    """The state of a task; the last four are final."""

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
    """Its dispatcher died, and its definition says not to run it again (`on_stuck="interrupt"`)."""

    @property
    def finished(self) -> bool:
        """Whether the task has reached its end."""
        return self in FINISHED


FINISHED = frozenset({TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.INTERRUPTED})

_PLACED = frozenset({TaskStatus.SCHEDULED, TaskStatus.PENDING, TaskStatus.WAITING})
_ENDED_UNRUN = frozenset({TaskStatus.CANCELLED, TaskStatus.SUCCEEDED, TaskStatus.FAILED})
"""Cancelled, ended by a late success, or marked by an operator."""

TRANSITIONS: dict[TaskStatus, frozenset[TaskStatus]] = {
    # promoted, claimed, paused, rescheduled, retried in place
    TaskStatus.SCHEDULED: _PLACED | _ENDED_UNRUN | {TaskStatus.PAUSED},
    TaskStatus.PENDING: _PLACED | _ENDED_UNRUN | {TaskStatus.PAUSED, TaskStatus.RUNNING},
    TaskStatus.WAITING: _PLACED | _ENDED_UNRUN | {TaskStatus.PAUSED},
    TaskStatus.RUNNING: _PLACED | FINISHED,
    TaskStatus.PAUSED: _PLACED | _ENDED_UNRUN,
    # retried by an operator; failed and interrupted also marked by one, or ended by a late success
    TaskStatus.SUCCEEDED: _PLACED,
    TaskStatus.FAILED: _PLACED | {TaskStatus.SUCCEEDED},
    TaskStatus.CANCELLED: _PLACED,
    TaskStatus.INTERRUPTED: _PLACED | {TaskStatus.SUCCEEDED, TaskStatus.FAILED},
}
"""Every transition there is. `docs/lifecycle.md` draws it; the model-based test walks it."""


@dataclass(frozen=True, slots=True)
class AttemptError:
    """How one attempt went wrong."""

    attempt: int
    at: datetime
    type: str
    message: str
    traceback: str = ""
    """The application's frames, the middle cut out of a long one; at most 4 kB, empty where nothing was raised."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a running handler reported last."""

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
    """How its attempts went wrong: of many, the first 20 and the newest 80."""
    errors_left_out: int = 0
    """How many errors were not kept between those."""
    details: str = ""
    """Lines reported by `context.info`, `success` and `error`: of many, the first 200 and the newest 800."""
    details_left_out: int = 0
    """How many lines were not kept between those; one line of `details` says so where they were."""
    progress: Progress | None = None
    attempt: int
    """Claims made so far; a release at shutdown and a snooze are not counted."""
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
    """Why it ended: one of `FinishReason`."""
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

    `id` and `fence` are what every later write must show. Values are as the driver returned them: `rows.py` makes
    a `Task` of them where one is needed.
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
