"""What a diagnosis reads of our tables: unfinished tasks, claims, outcomes and schedules, each as numbers."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from aiotaskstore.storage.operation import Call, Steps
from aiotaskstore.storage.rows import STATUSES
from aiotaskstore.task import TaskStatus

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database


class Backlog(NamedTuple):
    """The unfinished tasks of a queue that have the same alias and status."""

    queue: str
    alias: str
    status: TaskStatus
    tasks: int
    due: int
    """How many of them are due."""
    oldest_due: datetime | None
    now: datetime
    """When this was read, by the database's clock."""


class Claims(NamedTuple):
    """The tasks that a dispatcher runs, or that it has left behind."""

    dispatcher: UUID | None
    tasks: int
    oldest: datetime | None


class Outcomes(NamedTuple):
    """How many of the newest finished tasks have this alias and status."""

    status: TaskStatus
    alias: str
    tasks: int


class ScheduleState(NamedTuple):
    """A schedule, as far as a diagnosis looks at it."""

    name: str
    alias: str
    status: str
    next_run_at: datetime | None
    code_owned: bool
    error: str | None
    now: datetime
    """When this was read, by the database's clock."""


class Inspection:
    """The operations; each reads, and some read every unfinished task, so no loop may call them."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def backlog(self) -> Steps[list[Backlog]]:
        """Count the unfinished tasks by queue, alias and status."""
        rows = yield Call("backlog")
        at = self.database
        return [
            Backlog(
                row[0], row[1], STATUSES[row[2]], int(row[3]), int(row[4]), at.maybe_instant(row[5]), at.instant(row[6])
            )
            for row in rows
        ]

    def claims(self) -> Steps[list[Claims]]:
        """Count the running tasks by dispatcher."""
        rows = yield Call("claims")
        at = self.database
        return [Claims(at.maybe_uid(row[0]), int(row[1]), at.maybe_instant(row[2])) for row in rows]

    def newest_outcomes(self) -> Steps[list[Outcomes]]:
        """Count the newest 2,000 finished tasks by status and alias."""
        rows = yield Call("newest_outcomes")
        return [Outcomes(STATUSES[row[0]], row[1], int(row[2])) for row in rows]

    def schedules(self) -> Steps[list[ScheduleState]]:
        """List the schedules by name."""
        rows = yield Call("schedule_states")
        at = self.database
        return [
            ScheduleState(row[0], row[1], row[2], at.maybe_instant(row[3]), bool(row[4]), row[5], at.instant(row[6]))
            for row in rows
        ]
