"""Rescue: any dispatcher's healer ends the runs of dead dispatchers."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from aiotaskstore.dispatch.dependencies import KeyGrants
from aiotaskstore.dispatch.dispatcher_settings import DispatcherSettings
from aiotaskstore.dispatch.lease import Lease
from aiotaskstore.errors import TaskStoreError
from aiotaskstore.events import BackgroundFailed, TaskRescued
from aiotaskstore.hooks import Hooks
from aiotaskstore.mechanics.hint import Hint
from aiotaskstore.storage.storage import Storage
from aiotaskstore.storage.tasks import MOST_ROWS
from aiotaskstore.task import TaskStatus

_HEARTBEATS_BEFORE_RESCUE = 2
"""How many of our heartbeats in a row need a reply before we rescue: after an outage, all dispatchers look dead."""


class SeenHeartbeat(NamedTuple):
    """The last heartbeat of another dispatcher, as this healer has seen it."""

    at: datetime | None
    """On the database's clock; `None` if tasks name the dispatcher as theirs, but it has no row."""
    first_seen: float
    """When this healer first saw this value, on our monotonic clock."""


class Healer:
    """Finds dispatchers without a heartbeat for longer than their lease, and rescues their tasks.

    The database's clock alone is not enough, since it may jump: then every dispatcher looks dead until its next
    heartbeat. So this healer must also have seen the same last heartbeat for a whole lease, by our own clock.
    """

    def __init__(
        self,
        dispatcher_id: UUID,
        settings: DispatcherSettings,
        storage: Storage,
        hooks: Hooks,
        *,
        lease: Lease,
        notify: Callable[[Hint], None],
        key_grants: KeyGrants,
    ) -> None:
        self._dispatcher_id, self._settings, self._hooks = dispatcher_id, settings, hooks
        self._key_grants = key_grants
        self._storage, self._database = storage, storage.database
        self._lease, self._notify = lease, notify
        self._seen_heartbeats: dict[UUID, SeenHeartbeat] = {}

    async def rescue_once(self, *, at_once: bool = False) -> int:
        """Rescue every task of every dead dispatcher; return how many tasks.

        With `at_once` the database's clock alone decides. If the rescue of one dispatcher's tasks fails, the others are
        rescued all the same.
        """
        if self._lease.replies_in_a_row == 0:  # the database was unavailable, so no dispatcher could send a heartbeat
            self._seen_heartbeats.clear()
        rescued = 0
        for dispatcher, heartbeat_at in await self._dead(at_once=at_once):
            try:
                rescued += await self._rescue(dispatcher, heartbeat_at)
            except TaskStoreError as error:
                self._hooks.emit(BackgroundFailed("healer", error, self._settings.rescue_every or 0))
        return rescued

    async def _dead(self, *, at_once: bool) -> list[tuple[UUID, datetime | None]]:
        """Return the dead dispatchers, each with its last heartbeat."""
        me = self._dispatcher_id
        heartbeats = await self._database.read(lambda: self._storage.dispatchers.heartbeats(me))
        orphans = await self._database.read(self._storage.tasks.orphaned_dispatchers)
        now, earlier = time.monotonic(), self._seen_heartbeats
        others: dict[UUID, datetime | None] = {one.dispatcher: one.at for one in heartbeats}
        others |= {orphan: None for orphan in orphans if orphan != me and orphan not in others}
        self._seen_heartbeats = {
            dispatcher: last if (last := earlier.get(dispatcher)) and last.at == at else SeenHeartbeat(at, now)
            for dispatcher, at in others.items()
        }
        if self._lease.replies_in_a_row < _HEARTBEATS_BEFORE_RESCUE:
            return []
        leases = {one.dispatcher: one.lease for one in heartbeats}
        lapsed = {one.dispatcher for one in heartbeats if one.lapsed} | (others.keys() - leases.keys())
        return [
            (dispatcher, last.at)
            for dispatcher, last in self._seen_heartbeats.items()
            if dispatcher in lapsed
            and (at_once or now - last.first_seen >= leases.get(dispatcher, self._settings.lease))
        ]

    async def _rescue(self, dispatcher: UUID, heartbeat_at: datetime | None) -> int:
        tasks = self._storage.tasks
        total = 0
        while True:
            rescued = await self._database.write(
                lambda: tasks.rescue(dispatcher, MOST_ROWS, last_heartbeat=heartbeat_at)
            )
            for one in rescued:
                self._hooks.emit(TaskRescued(one.id, one.alias, one.queue, one.status, dispatcher))
            pending = frozenset(one.queue for one in rescued if one.status is TaskStatus.PENDING)
            if pending:
                self._notify(Hint(pending))
            self._key_grants.grant_soon({key for one in rescued if (key := one.serialization_key) is not None})
            total += len(rescued)
            if len(rescued) < MOST_ROWS:
                return total
