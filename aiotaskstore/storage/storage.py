"""Storage: one database and the operations on its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aiotaskstore.storage.definitions import Definitions
from aiotaskstore.storage.dispatchers import Dispatchers
from aiotaskstore.storage.rows import STATUSES
from aiotaskstore.storage.steps import Call, Unit
from aiotaskstore.storage.tasks import Tasks
from aiotaskstore.task import TaskStatus

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database


class Count(NamedTuple):
    """How many tasks of a queue have a status."""

    queue: str
    status: TaskStatus
    tasks: int


class Storage:
    """A database with its tables as attributes."""

    def __init__(self, database: Database, tasks: Tasks) -> None:
        self.database = database
        self.tasks = tasks
        self.dispatchers: Dispatchers = Dispatchers(database)
        self.definitions: Definitions = Definitions(database)

    def twin(self) -> Storage | None:
        """Make an unopened copy for another thread's loop; `None` where the database must be shared."""
        database = self.database.twin()
        return None if database is None else Storage(database, type(self.tasks)(database))

    def counts(self) -> Unit[list[Count]]:
        """Count the tasks of every queue by status; reads every row, so it is for people, not for loops."""
        rows = yield Call("counts")
        return sorted(Count(row[0], STATUSES[row[1]], row[2]) for row in rows)
