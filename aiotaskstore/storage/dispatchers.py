"""The table of dispatchers: which are alive, since when they sent no heartbeat, what they serve and heed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Self
from uuid import UUID

from aiotaskstore.events import DispatcherOutdated
from aiotaskstore.mechanics.library_version import library_version
from aiotaskstore.storage import migrations
from aiotaskstore.storage.operation import BEGIN, Call, Steps
from aiotaskstore.storage.restrictions import Restrictions

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database


_RESTRICTIONS = "queues_and_versions"
_BROUGHT = {"serialization_keys": "serialization keys", "soft_delete": "soft deletion"}
"""What a dispatcher ignores that is older than the migration of this name."""


class Served(NamedTuple):
    """What a dispatcher runs."""

    queues: Sequence[str] | None
    """The queues that it was given; `None` for every queue."""
    aliases: Sequence[str]

    def dump(self) -> str:
        """Return it as the text that is stored."""
        return json.dumps(self._asdict())

    @classmethod
    def load(cls, text: str) -> Self:
        """Return what a text says that `dump` made, perhaps that of a later version, which says more."""
        values = json.loads(text)
        return cls(values.get("queues"), values.get("aliases", ()))


class OlderDispatcher(NamedTuple):
    """A dispatcher that is alive, and whose library is older than the tables."""

    id: UUID
    name: str
    host: str
    pid: int
    version: str | None
    schema_version: int

    def outdated(self, restrictions: Restrictions) -> DispatcherOutdated:
        """Return the event that says what the dispatcher ignores."""
        later = {one.name for one in migrations.migrations("sqlite") if one.version > self.schema_version}
        ignored = restrictions.described() if _RESTRICTIONS in later else []
        ignored += [what for name, what in _BROUGHT.items() if name in later]
        return DispatcherOutdated(self.id, self.name, self.host, self.pid, self.version, tuple(ignored))


class DispatcherRow(NamedTuple):
    """One row of the table of dispatchers."""

    id: UUID
    name: str
    host: str
    pid: int
    idle: bool
    started_at: datetime
    heartbeat_at: datetime
    silent_for: float
    """Seconds since its last heartbeat."""
    lapsed: bool
    """Whether its last heartbeat is older than its lease, by the database's clock."""
    version: str | None
    """The version of its library; `None` for one that did not record it yet."""
    served: Served | None
    """What it serves; `None` if it did not record that."""


class Heartbeat(NamedTuple):
    """When a dispatcher sent its last heartbeat."""

    dispatcher: UUID
    at: datetime
    lease: float
    lapsed: bool
    """Whether its last heartbeat is older than its lease, by the database's clock."""


class Dispatchers:
    """The operations on dispatchers."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def register(
        self, dispatcher: UUID, *, name: str, host: str, pid: int, lease: float, served: Served | None = None
    ) -> Steps[None]:
        """Insert a dispatcher's row, with its first heartbeat and the version of this library."""
        yield Call(
            "register",
            {
                "id": dispatcher, "name": name, "host": host, "pid": pid, "lease": lease,
                "library_version": library_version(), "schema_version": migrations.LATEST,
                "serves": None if served is None else served.dump(),
            },
        )  # fmt: skip

    def older(self) -> Steps[list[OlderDispatcher]]:
        """List the dispatchers that are alive and whose library is older than this one's tables."""
        rows = yield Call("older_dispatchers", {"schema_version": migrations.LATEST})
        return [OlderDispatcher(self.database.uid(row[0]), *row[1:]) for row in rows]

    def heartbeat(self, dispatcher: UUID) -> Steps[bool]:
        """Record a heartbeat; return false if the row was deleted, by a rescue or by hand."""
        yield BEGIN
        yield Call("heartbeat", {"id": dispatcher})
        return bool((yield Call("known_dispatcher", {"id": dispatcher})))

    def set_idle(self, dispatcher: UUID, *, idle: bool) -> Steps[None]:
        """Record whether a dispatcher sleeps; hints of work are sent only while one does."""
        yield Call("set_idle", {"id": dispatcher, "idle": idle})

    def deregister(self, dispatcher: UUID) -> Steps[None]:
        """Delete a dispatcher's row."""
        yield Call("deregister", {"id": dispatcher})

    def heartbeats(self, me: UUID) -> Steps[list[Heartbeat]]:
        """List the last heartbeat of every other dispatcher."""
        rows = yield Call("heartbeats", {"me": me})
        return [
            Heartbeat(self.database.uid(row[0]), self.database.instant(row[1]), row[2], bool(row[3])) for row in rows
        ]

    def list(self) -> Steps[list[DispatcherRow]]:
        """List every dispatcher that has a row, oldest first."""
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
                bool(row[8]),
                row[9],
                None if row[10] is None else Served.load(row[10]),
            )
            for row in rows
        ]
