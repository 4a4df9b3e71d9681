"""What is read of single tasks; lists are read by `listing.py`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from aiotaskstore.storage.operation import Call, Rows, Steps
from aiotaskstore.storage.rows import STATUSES, task_from
from aiotaskstore.storage.side_rows import SideRows, read_side_rows
from aiotaskstore.storage.tasks.rows import TaskRows
from aiotaskstore.task import Progress, Task, TaskStatus


class Queries(TaskRows):
    """The operations that read, and lock nothing."""

    def now(self) -> Steps[datetime]:
        """Return the time by the database's clock."""
        rows = yield Call("now")
        return self.database.instant(rows[0][0])

    def status(self, task_id: UUID) -> Steps[TaskStatus | None]:
        """Return one task's status; `None` where no row is kept, or it is soft-deleted."""
        rows = yield Call("status", {"id": task_id})
        return STATUSES[rows[0][0]] if rows else None

    def peek(self, queue: str) -> Steps[Task | None]:
        """Return the task that a claim of this queue would take first; claims nothing."""
        rows = yield Call("peek", {"queue": queue})
        if not rows:
            return None
        side_rows = yield from self.side_rows([self.database.uid(rows[0][0])])
        return task_from(rows[0], self.database, side_rows)

    def finished_among(self, ids: Sequence[UUID]) -> Steps[set[UUID]]:
        """Return which of these are not waiting to end any more: finished, soft-deleted, or without a row."""
        rows = yield Call("unfinished_among", {"ids": list(ids)})
        return set(ids) - {self.database.uid(row[0]) for row in rows}

    def results_among(self, ids: Sequence[UUID]) -> Steps[dict[UUID, str | None]]:
        """Return the results, as JSON text, of those of these tasks that have succeeded."""
        rows = yield Call("results_among", {"ids": list(ids)})
        return {self.database.uid(row[0]): row[1] for row in rows}

    def progress(self, task_id: UUID) -> Steps[tuple[Progress | None, TaskStatus | None]]:
        """Return what a task's handler reported last, and the task's status."""
        rows = yield Call("progress_of", {"ids": [task_id]})
        progress = None
        if rows:
            _, text, fraction, at = rows[0]
            progress = Progress(text, fraction, self.database.instant(at))
        return progress, (yield from self.status(task_id))

    def side_rows(self, ids: Sequence[UUID]) -> Steps[SideRows]:
        """Read the errors, progress and details of these tasks."""
        if not ids:
            return SideRows()
        found: list[Rows] = []
        for statement in ("errors_of", "progress_of", "details_of"):
            found.append((yield Call(statement, {"ids": list(ids)})))
        return read_side_rows(self.database, *found)
