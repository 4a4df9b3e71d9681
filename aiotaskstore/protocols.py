"""What an application's code needs of this library, as protocols: annotate with these, and fake them in tests.

`TaskStore`, `store.using(…)`, `TaskDefinition`, `TaskHandle` and `TaskContext` satisfy them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, Protocol, TypeVar, Unpack
from uuid import UUID

from aiotaskstore.definition import Draft
from aiotaskstore.mechanics.duration import Duration
from aiotaskstore.options import TaskOptions
from aiotaskstore.storage.filters import TaskFilters
from aiotaskstore.task import Progress, Task, TaskStatus

P = ParamSpec("P")
S = TypeVar("S")
R_co = TypeVar("R_co", covariant=True)


class EnqueuedTask(Protocol[R_co]):
    """What enqueuing returns: a `TaskHandle`."""

    @property
    def id(self) -> UUID:
        """The task's id."""

    async def result(self, timeout: Duration | None = None) -> R_co:  # noqa: ASYNC109 - the public face
        """Wait for the task's end and return its result."""

    async def wait(self, timeout: Duration | None = None) -> Task:  # noqa: ASYNC109 - the public face
        """Wait for the task's end; return the task."""

    async def task(self) -> Task:
        """Return the task as it is now."""

    async def status(self) -> TaskStatus | None:
        """Return the task's status as it is now."""

    async def cancel(self, reason: str = "") -> None:
        """Cancel the task."""

    def progress(self) -> AsyncIterator[Progress]:
        """Yield each progress that the handler reports."""


class EnqueueableTask(Protocol[P, R_co]):
    """A task that can be enqueued with its own arguments: a `TaskDefinition`, or one with options."""

    async def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> EnqueuedTask[R_co]:
        """Store a task for these arguments."""


class TaskEnqueuer(Protocol):
    """What code needs that enqueues by alias, such as a web handler: a `TaskStore`, or `store.using(connection)`."""

    async def enqueue(
        self,
        alias: str,
        payload: Mapping[str, Any] | None = None,
        *,
        unchecked: bool = False,
        **options: Unpack[TaskOptions],
    ) -> EnqueuedTask[Any]:
        """Store a task by alias."""

    async def enqueue_many(self, drafts: Sequence[Draft[Any]]) -> list[UUID]:
        """Store drafts, all or none; return their ids in order."""


class TaskReader(Protocol):
    """What code needs that looks at tasks, and cancels them: `store.tasks`."""

    async def get(self, id: UUID | str, /) -> Task | None:
        """Return a task; `None` where no row is kept."""

    async def require(self, id: UUID | str, /) -> Task:
        """Return a task; raise `TaskNotFoundError` where no row is kept."""

    async def status(self, id: UUID | str, /) -> TaskStatus | None:
        """Return a task's status; `None` where no row is kept."""

    async def list(self, **filters: Unpack[TaskFilters]) -> Sequence[Task]:
        """List tasks."""

    async def count(self, **filters: Unpack[TaskFilters]) -> int:
        """Count tasks."""

    async def wait(self, id: UUID | str, /, timeout: Duration | None = None) -> Task:  # noqa: ASYNC109 - the public face
        """Wait until a task has finished, and return it."""

    async def cancel(self, id: UUID | str, /, reason: str = "") -> Any:
        """Cancel a task."""


class HandlerStore(TaskEnqueuer, Protocol):
    """What a handler needs of `context.store`: to enqueue further tasks, and to look at tasks."""

    @property
    def tasks(self) -> TaskReader:
        """The stored tasks."""

    def metadata(self, **values: Any) -> AbstractContextManager[None]:
        """Add metadata to every task enqueued inside the block."""


class HandlerContext(Protocol):
    """What a handler needs of its context: a `TaskContext`, for the functions that it hands its context to."""

    output: str | None
    last_info: str
    last_success: str
    last_error: str

    @property
    def task(self) -> Task:
        """The task as it was claimed."""

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""

    @property
    def metadata(self) -> dict[str, Any]:
        """The task's metadata."""

    @property
    def state(self) -> Any:
        """What the function under `@store.lifespan` yielded."""

    def state_as(self, kind: type[S]) -> S:
        """Return `state` as a `kind`."""

    @property
    def cancelled(self) -> bool:
        """Whether the end of this run was requested."""

    async def progress(self, text: str = "", *, fraction: float | None = None) -> None:
        """Report how far the work is."""

    def info(self, message: str) -> None:
        """Append a line to the task's details."""

    def success(self, message: str) -> None:
        """Append a line about a success to the task's details."""

    def error(self, message: str) -> None:
        """Append a line about an error to the task's details."""

    def param(self, name: str, default: Any = "") -> Any:
        """Return an argument as the JSON value that is stored."""

    def param_list(self, name: str) -> list[str]:
        """Return an argument's text, split at each `;`."""
