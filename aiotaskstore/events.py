"""Events: each is emitted once, to every listener.

A new event is also exported in `public_names.py` and `__init__.py`, logged in `observe/logs.py` if it shall have a
record, and added to `docs/reference/index.md` by `docs/reference/generate.py`; `tests/docs` checks the export, the page
and the words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from aiotaskstore.queue_measurement import QueueMeasurement
from aiotaskstore.task import TaskStatus


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Event:
    """The base class of all events."""

    # Written here once, since generating them for each class took half of the time that importing this module takes.

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, type(self)) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        shown = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self))
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def _values(self) -> tuple[Any, ...]:
        return type(self), *(getattr(self, one.name) for one in fields(self))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TaskEvent(Event):
    """The base class of the events of one task."""

    task_id: UUID
    alias: str
    queue: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TaskEnqueued(TaskEvent):
    """This process stored a task; in a caller's transaction: the task is stored if the transaction commits."""

    payload_size: int = 0
    """Bytes of its payload as JSON."""
    committed: bool = True
    """False in a caller's transaction, of which nobody knows yet whether it commits."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TaskClaimed(TaskEvent):
    """A dispatcher of this process claimed a task."""

    attempt: int
    dispatcher_id: UUID
    wait: float = 0.0
    """Seconds from its `run_at` to the claim, by the database's clock: how late it starts."""
    payload_size: int = 0
    """Bytes of its payload as JSON."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TasksClaimed(Event):
    """One claim of a dispatcher of this process has returned tasks; a `TaskClaimed` for each follows."""

    dispatcher_id: UUID
    queues: tuple[str, ...]
    """The queues that the tasks are of."""
    count: int
    took: float
    """Seconds from sending the claim to its reply."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TaskStarted(TaskEvent):
    """A handler is about to be called."""

    attempt: int
    dispatcher_id: UUID | None = None
    """The dispatcher of the run."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AttemptFailed(TaskEvent):
    """An attempt ended with an error; `TaskRetried` or `TaskFinished` follows."""

    attempt: int
    error: BaseException
    delay: float | None
    """Seconds until the next attempt; `None` if there is no next attempt."""
    dispatcher_id: UUID | None = None
    """The dispatcher of the run."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TaskFinished(TaskEvent):
    """A run in this process has finished its task, and the outcome is stored.

    What ends a task without a run has no such event: a rescue has `TaskRescued`, an operator's action has none.
    """

    status: TaskStatus
    attempt: int
    took: float
    """Seconds from the handler's start to its end."""
    reason: str
    """One of `FinishReason`."""
    error: BaseException | None = None
    end_to_end: float = 0.0
    """Seconds from its creation to the stored outcome; a delay that its caller chose is part of them."""
    result_size: int | None = None
    """Bytes of its result as JSON; `None` unless it has succeeded."""
    undecodable: bool = False
    """Whether its handler was not called, since the payload did not fit it."""
    dispatcher_id: UUID | None = None
    """The dispatcher of the run."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TaskRetried(TaskEvent):
    """An attempt ended, and another attempt will follow."""

    attempt: int
    took: float
    delay: float | None
    """Seconds until the task may run again; `None` if it keeps its place, since a shutdown returned it to the queue."""
    reason: str
    """`"error"`, `"snooze"` or `"shutdown"`."""
    error: BaseException | None = None
    undecodable: bool = False
    """Whether the handler was not called, since the payload did not fit it."""
    dispatcher_id: UUID | None = None
    """The dispatcher of the run."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ClaimLost(TaskEvent):
    """The outcome of a run was dropped, since another dispatcher has claimed the task, or an operator changed it."""

    attempt: int
    dispatcher_id: UUID | None = None
    """The dispatcher of the run."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TaskRescued(TaskEvent):
    """This process rescued a task of a dead dispatcher; where `status` is a finished one, that has ended the task."""

    status: TaskStatus
    dispatcher_id: UUID
    """The dead dispatcher."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ScheduleFired(TaskEvent):
    """A dispatcher of this process has made the task of a schedule's occurrence."""

    schedule_id: UUID
    name: str
    """The schedule's name."""
    occurrence: datetime
    """When the task was planned for."""
    lag: float = 0.0
    """Seconds from the occurrence until a dispatcher looked at it, by the database's clock."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class QueuesMeasured(Event):
    """An open store has measured the queues, as it does every few seconds while somebody listens to this event.

    The counts are of the whole database and have limits, so that millions of tasks cost no more than thousands.
    """

    queues: tuple[QueueMeasurement, ...]
    """The queues that have unfinished tasks, are paused, or are named by a dispatcher; at most 200, by name."""
    dispatchers: int
    """How many dispatchers of all processes are alive."""
    schedule_overdue: float
    """Seconds for which the active schedule that is due the longest has been due; 0 where none is."""
    took: float
    """Seconds that the measurement took."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DispatcherStarted(Event):
    """A dispatcher has started. A single pass, `run_once`, emits neither this nor `DispatcherStopped`."""

    dispatcher_id: UUID
    name: str
    waking: str
    """How the dispatcher learns of new tasks: `"notify"`, `"data_version"`, `"memory"` or `"poll"`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DispatcherStopped(Event):
    """A dispatcher has stopped."""

    dispatcher_id: UUID
    name: str
    drained: bool
    """Whether every run ended by itself, within the grace."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DispatcherOutdated(Event):
    """A dispatcher of any process is alive whose library is older than the tables, so that it ignores what is new.

    Emitted when a queue is paused or a definition cancelled, and by each dispatcher once a minute, until it is gone.
    """

    dispatcher_id: UUID
    name: str
    host: str
    pid: int
    version: str | None
    """The version of its library; `None` for one that did not record it yet."""
    ignored: tuple[str, ...]
    """What the dispatcher ignores, as text for people."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BackgroundFailed(Event):
    """A loop failed and will try again."""

    loop: str
    error: BaseException
    retry_in: float
    """Seconds until the next try; 0 if there is none."""
    queue: str | None = None
    task_id: UUID | None = None
    failures: int = 1
    """The number of failures in a row."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ListenerFailed(Event):
    """A listener, hook or lifespan of the application raised an error, or took too long; nothing else has changed."""

    listener: Callable[..., Any]
    error: BaseException
    queue: str | None = None
    """The queue of the task that it was called for, where there is one."""
    task_id: UUID | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BackgroundRecovered(Event):
    """A loop that had failed works again."""

    loop: str
    failures: int
    took: float
    """Seconds since the first of these failures."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BackgroundEnded(Event):
    """A loop ended by an error, which must not happen. Its dispatcher stops, or the store's own background work.

    A dispatcher returns its running tasks to the queue and stops; its next call raises the error.
    """

    loop: str
    error: BaseException
    dispatcher_id: UUID | None = None
    """`None` for a loop of the store itself."""
