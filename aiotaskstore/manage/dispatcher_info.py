"""A dispatcher as callers see it, and how its row becomes that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from aiotaskstore.storage.dispatchers import DispatcherRow


@dataclass(frozen=True, slots=True)
class DispatcherInfo:
    """A dispatcher of any process, as the database knows it. One that has stopped is not listed any more."""

    id: UUID
    """The identity of this start; running tasks have it as `dispatcher_id`."""
    name: str
    host: str
    pid: int
    started_at: datetime
    heartbeat_at: datetime
    """Its last heartbeat."""
    silent_for: float
    """Seconds since its last heartbeat, by the database's clock."""
    alive: bool
    """Whether its lease has not run out; the tasks of one that is not alive are about to be rescued."""
    version: str | None = None
    """The version of its library; `None` for one that is too old to record it, and ignores pauses."""
    queues: tuple[str, ...] | None = None
    """The queues that it was given; `None` for every queue, or where `version` is `None`."""
    aliases: tuple[str, ...] = ()
    """What it had registered when it started, former aliases included."""

    def serves(self, queue: str) -> bool:
        """Whether it claims tasks of this queue; one that did not record its queues counts as if it did."""
        return self.queues is None or queue in self.queues


def infos(rows: Iterable[DispatcherRow]) -> list[DispatcherInfo]:
    """Return dispatchers' rows as values for callers."""
    return [_info(row) for row in rows]


def _info(row: DispatcherRow) -> DispatcherInfo:
    queues = row.served.queues if row.served else None
    return DispatcherInfo(
        id=row.id,
        name=row.name,
        host=row.host,
        pid=row.pid,
        started_at=row.started_at,
        heartbeat_at=row.heartbeat_at,
        silent_for=row.silent_for,
        alive=not row.lapsed,
        version=row.version,
        queues=None if queues is None else tuple(queues),
        aliases=tuple(row.served.aliases) if row.served else (),
    )
