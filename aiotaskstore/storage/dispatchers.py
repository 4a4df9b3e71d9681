"""The rows by which dispatchers are known to be alive."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from aiotaskstore.storage.steps import BEGIN, Call, Unit

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database


class DispatcherRow(NamedTuple):
    """One dispatcher, as the database knows it."""

    id: UUID
    name: str
    host: str
    pid: int
    idle: bool
    started_at: datetime
    heartbeat_at: datetime
    silent_for: float
    """Seconds since its last heartbeat."""


class Dispatchers:
    """The operations on dispatchers, as generators of steps."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def register(self, dispatcher: UUID, *, name: str, host: str, pid: int, lease: float) -> Unit[None]:
        """Make a dispatcher known, alive from now on."""
        yield Call("register_dispatcher", {"id": dispatcher, "name": name, "host": host, "pid": pid, "lease": lease})

    def beat(self, dispatcher: UUID) -> Unit[bool]:
        """Give a sign of life; false if the row is gone (declared dead and rescued, or deleted)."""
        yield BEGIN
        yield Call("beat", {"id": dispatcher})
        return bool((yield Call("known_dispatcher", {"id": dispatcher})))

    def set_idle(self, dispatcher: UUID, *, idle: bool) -> Unit[None]:
        """Mark a dispatcher asleep or awake, for those who would wake it."""
        yield Call("set_idle", {"id": dispatcher, "idle": idle})

    def leave(self, dispatcher: UUID) -> Unit[None]:
        """Forget a dispatcher."""
        yield Call("leave", {"id": dispatcher})

    def dead(self, me: UUID) -> Unit[list[tuple[UUID, str]]]:
        """List the dispatchers that have been silent for longer than their lease: `(id, name)` each."""
        rows = yield Call("dead_dispatchers", {"me": me})
        return [(self.database.uid(row[0]), row[1]) for row in rows]

    def list(self) -> Unit[list[DispatcherRow]]:
        """List every dispatcher that has not left, oldest first."""
        rows = yield Call("dispatchers")
        instant = self.database.instant
        return [
            DispatcherRow(
                self.database.uid(row[0]),
                row[1],
                row[2],
                row[3],
                bool(row[4]),
                instant(row[5]),
                instant(row[6]),
                (instant(row[7]) - instant(row[6])).total_seconds(),
            )
            for row in rows
        ]
