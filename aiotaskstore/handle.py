"""A handle: where a caller follows its task."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from uuid import UUID

from aiotaskstore.duration import Duration
from aiotaskstore.errors import TaskCancelledError, TaskFailedError
from aiotaskstore.task import Progress, Task, TaskStatus

if TYPE_CHECKING:
    from aiotaskstore.payload import Result

R = TypeVar("R")


class TaskDesk(Protocol):
    """What a handle asks: the store's `tasks`."""

    async def require(self, task_id: UUID) -> Task:
        """Give the task."""

    async def status(self, task_id: UUID) -> TaskStatus | None:
        """Give its status."""

    async def wait(self, task_id: UUID, timeout: Duration | None = None) -> Task:  # noqa: ASYNC109 - the public face
        """Wait for its end."""

    async def cancel(self, task_id: UUID, reason: str = "") -> Any:
        """Cancel it."""

    def watch(self, task_id: UUID) -> AsyncIterator[Progress]:
        """Follow its progress."""


class TaskHandle(Generic[R]):
    """One task, seen from outside. Of use once the transaction that enqueued it has committed."""

    __slots__ = ("_desk", "_result", "id")

    def __init__(self, task_id: UUID, desk: TaskDesk, result: Result | None = None) -> None:
        self.id: UUID = task_id
        self._desk, self._result = desk, result

    def __repr__(self) -> str:
        return f"<TaskHandle {self.id}>"

    async def result(self, timeout: Duration | None = None) -> R:  # noqa: ASYNC109 - the public face
        """Wait for the end and give what the handler returned.

        Raises `TaskFailedError`, `TaskCancelledError`, `TimeoutError`, and `TaskNotFoundError` where no row is
        kept.
        """
        task = await self._desk.wait(self.id, timeout)
        if task.status is TaskStatus.CANCELLED:
            raise TaskCancelledError(task)
        if task.status is not TaskStatus.SUCCEEDED:
            raise TaskFailedError(task)
        if self._result is None:
            value: R = task.result
        else:
            value = self._result.decode(json.dumps(task.result))
        return value

    async def wait(self, timeout: Duration | None = None) -> Task:  # noqa: ASYNC109 - the public face
        """Wait for the end, whatever it is. Raises `TimeoutError`, and `TaskNotFoundError` where no row is kept."""
        return await self._desk.wait(self.id, timeout)

    async def task(self) -> Task:
        """Give the task as it is now; `TaskNotFoundError` where no row is kept."""
        return await self._desk.require(self.id)

    async def status(self) -> TaskStatus | None:
        """Give the status as it is now; `None` where no row is kept."""
        return await self._desk.status(self.id)

    async def cancel(self, reason: str = "") -> None:
        """Cancel the task; a running one is asked, and ends when its handler does.

        Raises `NotCancellableError` once it has finished, `TaskNotFoundError` where no row is kept.
        """
        await self._desk.cancel(self.id, reason)

    async def progress(self) -> AsyncIterator[Progress]:
        """Follow what the handler tells, from now until the task ends."""
        async for progress in self._desk.watch(self.id):
            yield progress
