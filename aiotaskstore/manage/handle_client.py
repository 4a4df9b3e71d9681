"""What a handle needs of its store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from typing import Any
from uuid import UUID

from aiotaskstore.manage.following import Following
from aiotaskstore.manage.tasks import TaskManager
from aiotaskstore.mechanics.duration import Duration
from aiotaskstore.task import Progress, Task, TaskStatus


class HandleClient:
    """Implements `TaskClient` by `store.tasks`. A wait for a result reads only the result."""

    def __init__(self, tasks: TaskManager, following: Following) -> None:
        self._tasks, self._following = tasks, following

    def require(self, task_id: UUID | str) -> Coroutine[Any, Any, Task]:
        """Return the task."""
        return self._tasks.require(task_id)

    def status(self, task_id: UUID | str) -> Coroutine[Any, Any, TaskStatus | None]:
        """Return its status."""
        return self._tasks.status(task_id)

    def wait(self, task_id: UUID | str, timeout: Duration | None) -> Coroutine[Any, Any, Task]:
        """Wait for its end."""
        return self._following.wait(task_id, timeout)

    def result(self, task_id: UUID | str, timeout: Duration | None) -> Coroutine[Any, Any, str]:
        """Wait for its result, as JSON text."""
        return self._following.result(task_id, timeout)

    def progress(self, task_id: UUID | str, every: Duration | None) -> AsyncIterator[Progress]:
        """Follow its progress."""
        return self._following.progress(task_id, every)

    async def cancel(self, task_id: UUID | str, reason: str) -> object:
        """Cancel it."""
        return await self._tasks.cancel(task_id, reason)
