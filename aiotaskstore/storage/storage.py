"""Storage: one database and the operations on its tables."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from aiotaskstore.storage.definitions import Definitions
from aiotaskstore.storage.depths import Depths
from aiotaskstore.storage.dispatchers import Dispatchers
from aiotaskstore.storage.inspection import Inspection
from aiotaskstore.storage.operation import Call, Steps
from aiotaskstore.storage.queues import Queues
from aiotaskstore.storage.rows import STATUSES
from aiotaskstore.storage.schedules import Schedules
from aiotaskstore.storage.tasks import Tasks
from aiotaskstore.task import TaskStatus

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database


class Count(NamedTuple):
    """How many tasks of a queue have a status."""

    queue: str
    status: TaskStatus
    tasks: int
    oldest_due: datetime | None
    """When the first of them became due; `None` where none is, or where they have finished."""


class Storage:
    """A database with its tables as attributes."""

    def __init__(self, database: Database, tasks: Tasks) -> None:
        self.database = database
        self.tasks = tasks
        self.dispatchers: Dispatchers = Dispatchers(database)
        self.definitions: Definitions = Definitions(database)
        self.queues: Queues = Queues(database)
        self.depths: Depths = Depths(database)
        self.schedules: Schedules = Schedules(database, tasks)
        self.inspection: Inspection = Inspection(database)

    def unopened_copy(self) -> Storage | None:
        """Return an unopened copy for another thread's loop; `None` where the database must be shared."""
        database = self.database.unopened_copy()
        return None if database is None else Storage(database, type(self.tasks)(database))

    def counts(self) -> Steps[list[Count]]:
        """Count the tasks of every queue by status. It reads every row, so no loop may call it."""
        rows = yield Call("counts")
        instant = self.database.instant
        counts = [Count(row[0], STATUSES[row[1]], row[2], None if row[3] is None else instant(row[3])) for row in rows]
        return sorted(counts, key=lambda count: (count.queue, count.status))
