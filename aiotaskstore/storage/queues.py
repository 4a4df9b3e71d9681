"""The table of queues: what operators have decided about them. A queue needs no row here to have tasks."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from aiotaskstore.storage.operation import Call, Steps

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database


class QueueRow(NamedTuple):
    """One row of the table of queues."""

    name: str
    paused_at: datetime | None
    """Since when it is paused; `None` if it is not."""
    pause_reason: str | None


class Queues:
    """The operations on queues."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def list(self) -> Steps[list[QueueRow]]:
        """List every queue that has a row."""
        rows = yield Call("queues")
        return [QueueRow(row[0], self.database.maybe_instant(row[1]), row[2]) for row in rows]

    def pause(self, name: str, reason: str) -> Steps[bool]:
        """Pause a queue, or give another reason why it is paused; return whether it was not paused before."""
        paused = yield Call("queue_paused", {"name": name})
        yield Call("pause_queue", {"name": name, "reason": reason})
        return not paused

    def resume(self, name: str) -> Steps[bool]:
        """Resume a queue; return whether it was paused."""
        paused = yield Call("queue_paused", {"name": name})
        if paused:
            yield Call("resume_queue", {"name": name})
        return bool(paused)
