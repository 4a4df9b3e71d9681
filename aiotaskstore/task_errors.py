"""The errors that carry a task: what awaiting its result raises."""

from __future__ import annotations

from aiotaskstore.errors import TaskStoreError
from aiotaskstore.task import Task


class TaskFailedError(TaskStoreError):
    """The awaited task failed, or was interrupted."""

    def __init__(self, task: Task) -> None:
        self.task = task
        super().__init__(f"Task {task.id} ({task.alias}) {task.status}: {task.error or task.finish_reason}")


class TaskCancelledError(TaskStoreError):
    """The awaited task was cancelled."""

    def __init__(self, task: Task) -> None:
        self.task = task
        reason = f": {task.cancel_reason}" if task.cancel_reason else ""
        super().__init__(f"Task {task.id} ({task.alias}) was cancelled{reason}")
