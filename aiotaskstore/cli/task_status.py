"""A task's status as people see it: a sign, a word, and a colour."""

from __future__ import annotations

from aiotaskstore import Task, TaskStatus

_SIGNS = {
    TaskStatus.SCHEDULED: "·",
    TaskStatus.WAITING: "…",
    TaskStatus.PENDING: "○",
    TaskStatus.RUNNING: "●",
    TaskStatus.PAUSED: "=",
    TaskStatus.SUCCEEDED: "✓",
    TaskStatus.FAILED: "✗",
    TaskStatus.CANCELLED: "-",
    TaskStatus.INTERRUPTED: "!",
}
COLOURS = {
    TaskStatus.RUNNING: "cyan",
    TaskStatus.SUCCEEDED: "green",
    TaskStatus.FAILED: "red",
    TaskStatus.INTERRUPTED: "red",
    TaskStatus.CANCELLED: "yellow",
}


def signed(status: TaskStatus) -> str:
    """Return a status with its sign."""
    return f"{_SIGNS[status]} {status}"


def word(task: Task) -> str:
    """Return a task's status, and that it is soft-deleted where it is."""
    return f"{task.status} (soft-deleted)" if task.deleted_at else str(task.status)
