"""Facts: what happened, told once, to whoever listens."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from aiotaskstore.task import TaskStatus


@dataclass(frozen=True, slots=True)
class Event:
    """Root of all facts."""


@dataclass(frozen=True, slots=True)
class TaskEvent(Event):
    """Something that happened to one task."""

    task_id: UUID
    alias: str
    queue: str


@dataclass(frozen=True, slots=True)
class TaskEnqueued(TaskEvent):
    """A task was stored by this process (in a caller's transaction: will be, if it commits)."""


@dataclass(frozen=True, slots=True)
class TaskClaimed(TaskEvent):
    """A dispatcher of this process took a task."""

    attempt: int
    dispatcher_id: UUID


@dataclass(frozen=True, slots=True)
class TaskStarted(TaskEvent):
    """A handler is about to be called."""

    attempt: int


@dataclass(frozen=True, slots=True)
class AttemptFailed(TaskEvent):
    """An attempt ended with an error; `TaskRetried` or `TaskFinished` tells what comes of it."""

    attempt: int
    error: BaseException
    delay: float | None
    """Seconds until the next attempt; `None` if none follows."""


@dataclass(frozen=True, slots=True)
class TaskFinished(TaskEvent):
    """A task reached its end, and the outcome is stored."""

    status: TaskStatus
    attempt: int
    took: float
    """Seconds from the handler's start to its end."""
    reason: str
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class TaskRetried(TaskEvent):
    """An attempt ended and another one will follow."""

    attempt: int
    took: float
    delay: float | None
    """Seconds until it may run again; `None` where it keeps its place (a hand-back at shutdown)."""
    reason: str
    """error, snooze or shutdown."""
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class ClaimLost(TaskEvent):
    """What a run had to tell was dropped: the task is somebody else's now."""

    attempt: int


@dataclass(frozen=True, slots=True)
class TaskRescued(TaskEvent):
    """A task of a dead dispatcher was given its next place."""

    status: TaskStatus
    dispatcher_id: UUID
    """The dead one."""


@dataclass(frozen=True, slots=True)
class DispatcherStarted(Event):
    """A dispatcher takes up work."""

    dispatcher_id: UUID
    name: str
    waking: str
    """How it hears of work: notify, data_version, memory or poll."""


@dataclass(frozen=True, slots=True)
class DispatcherStopped(Event):
    """A dispatcher has ended."""

    dispatcher_id: UUID
    name: str
    drained: bool


@dataclass(frozen=True, slots=True)
class LoopTroubled(Event):
    """A loop could not do its work and will try again."""

    loop: str
    error: BaseException
    retry_in: float
    """Seconds; 0 where nothing is tried again."""
    queue: str | None = None
    task_id: UUID | None = None
