"""A handle, by which a caller follows its task."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from aiotaskstore.mechanics.duration import Duration
from aiotaskstore.mechanics.ids import find_id, require_id
from aiotaskstore.payload import Result
from aiotaskstore.task import Progress, Task, TaskStatus

R = TypeVar("R")


class TaskClient(Protocol):
    """The calls of the store that a handle needs."""

    async def require(self, task_id: UUID | str) -> Task:
        """Return the task."""

    async def status(self, task_id: UUID | str) -> TaskStatus | None:
        """Return the task's status."""

    async def wait(self, task_id: UUID | str, timeout: Duration | None) -> Task:  # noqa: ASYNC109 - the public face
        """Wait for the task's end."""

    async def result(self, task_id: UUID | str, timeout: Duration | None) -> str:  # noqa: ASYNC109 - the public face
        """Wait for the task's result, as JSON text."""

    async def cancel(self, task_id: UUID | str, reason: str) -> object:
        """Cancel the task."""

    def progress(self, task_id: UUID | str, every: Duration | None) -> AsyncIterator[Progress]:
        """Yield the task's progress."""


class TaskHandle(Generic[R]):
    """One task, for the code that enqueued it. Use it after the transaction that stores the task has committed."""

    __slots__ = ("_client", "_id", "_result")

    def __init__(self, task_id: UUID | str, client: TaskClient, result: Result | None = None) -> None:
        self._id = find_id(task_id) or task_id
        self._client, self._result = client, result

    def __repr__(self) -> str:
        return f"<TaskHandle {self._id}>"

    @property
    def id(self) -> UUID:
        """The task's id. Raises `TaskNotFoundError` if the handle was made with a text that is not an id."""
        return require_id(self._id)

    async def result(self, timeout: Duration | None = None) -> R:  # noqa: ASYNC109 - the public face
        """Wait for the task's end and return its result.

        Raises `TaskFailedError`, `TaskCancelledError`, `TimeoutError`, and `TaskNotFoundError` if the task's row was
        not kept.
        """
        text = await self._client.result(self._id, timeout)
        value: R = json.loads(text) if self._result is None else self._result.decode(text)
        return value

    async def wait(self, timeout: Duration | None = None) -> Task:  # noqa: ASYNC109 - the public face
        """Wait for the task's end; return the task. Raises `TimeoutError`; without a row `TaskNotFoundError`."""
        return await self._client.wait(self._id, timeout)

    async def task(self) -> Task:
        """Return the task as it is now. Raises `TaskNotFoundError` if its row was not kept."""
        return await self._client.require(self._id)

    async def status(self) -> TaskStatus | None:
        """Return the task's status as it is now; `None` if its row was not kept."""
        return await self._client.status(self._id)

    async def cancel(self, reason: str = "") -> None:
        """Cancel the task. If it is running, its handler is cancelled, and the task ends when the handler has ended.

        Raises `NotCancellableError` if the task has finished, `TaskNotFoundError` if its row was not kept.
        """
        await self._client.cancel(self._id, reason)

    async def progress(self, *, every: Duration | None = None) -> AsyncIterator[Progress]:
        """Yield each progress that a look finds, from now until the task ends.

        `every` is the time between two looks; without it, the store's `wait_interval`. Raises `TaskNotFoundError` if
        the task's row is not kept.
        """
        async for progress in self._client.progress(self._id, every):
            yield progress
