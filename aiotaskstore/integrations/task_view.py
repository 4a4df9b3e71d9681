"""What an HTTP client is shown of a task: never its payload, and its result or its error only where that is wanted."""

from __future__ import annotations

from datetime import UTC
from typing import Any, NotRequired

from typing_extensions import TypedDict

from aiotaskstore.task import Progress, Task, TaskStatus


class ProgressView(TypedDict):
    """What a running handler reported last."""

    text: str
    fraction: float | None
    at: str
    """The instant, in UTC, as ISO 8601 has it."""


class ErrorView(TypedDict):
    """How the last attempt went wrong."""

    type: str
    message: str


class TaskView(TypedDict):
    """A task as JSON."""

    id: str
    alias: str
    status: str
    progress: ProgressView | None
    result: NotRequired[Any]
    """Only with `include_result`; `None` until the task has succeeded."""
    error: NotRequired[ErrorView | None]
    """Only with `include_error`; `None` unless the task has finished otherwise than succeeded."""


def view_progress(progress: Progress) -> ProgressView:
    """Show a progress."""
    return {"text": progress.text, "fraction": progress.fraction, "at": progress.at.astimezone(UTC).isoformat()}


def view_task(task: Task, *, include_result: bool = False, include_error: bool = False) -> TaskView:
    """Show a task."""
    view: TaskView = {
        "id": str(task.id),
        "alias": task.alias,
        "status": str(task.status),
        "progress": None if task.progress is None else view_progress(task.progress),
    }
    if include_result:
        view["result"] = task.result if task.status is TaskStatus.SUCCEEDED else None
    if include_error:
        view["error"] = _error(task)
    return view


def _error(task: Task) -> ErrorView | None:
    if not task.status.finished or task.status is TaskStatus.SUCCEEDED:
        return None
    if task.errors and task.status is not TaskStatus.CANCELLED:
        last = task.errors[-1]
        return {"type": last.type, "message": last.message}
    return {"type": str(task.status), "message": task.cancel_reason or task.error or ""}
