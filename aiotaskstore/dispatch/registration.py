"""Registers and deregisters the dispatcher in the database."""

from __future__ import annotations

import os
import socket
from functools import partial
from uuid import UUID

from aiotaskstore.dispatch.claim_releaser import ClaimReleaser, Spawn, UnseenClaim
from aiotaskstore.dispatch.dispatcher_settings import DispatcherSettings
from aiotaskstore.dispatch.in_flight import InFlight
from aiotaskstore.dispatch.wakeup import Wakeup
from aiotaskstore.errors import TaskStoreError
from aiotaskstore.events import BackgroundFailed
from aiotaskstore.hooks import Hooks
from aiotaskstore.registry import Registry
from aiotaskstore.storage.dispatchers import Served
from aiotaskstore.storage.operation import Operation
from aiotaskstore.storage.storage import Storage
from aiotaskstore.storage.tasks import MOST_ROWS


class Registration:
    """Writes and deletes the row of this dispatcher instance."""

    def __init__(  # noqa: PLR0913 - a row is made of what the dispatcher is
        self,
        dispatcher_id: UUID,
        settings: DispatcherSettings,
        storage: Storage,
        hooks: Hooks,
        *,
        registry: Registry,
        wakeup: Wakeup,
        releaser: ClaimReleaser,
        spawn: Spawn,
    ) -> None:
        self._dispatcher_id, self._settings, self._hooks = dispatcher_id, settings, hooks
        self._storage, self._database = storage, storage.database
        self._registry, self._wakeup, self._releaser, self._spawn = registry, wakeup, releaser, spawn
        self._registered = False

    async def register(self) -> None:
        """Write the row of this dispatcher instance."""
        self._registered = True  # set before the write: if only its reply is lost, the row exists
        await self._database.write(self._registration())

    def register_again(self) -> None:
        """Write the row again, soon: other dispatchers have rescued our tasks and deleted it."""
        self._spawn(self._register_again(), name="aiotaskstore registration")

    async def deregister(self, in_flight: InFlight, *, all_written: bool) -> None:
        """Release the claims that have no run here, and delete the row of this dispatcher instance.

        The row stays if running tasks still name it: then its lease lapses, and other dispatchers rescue the tasks.
        """
        if not self._registered:
            return
        storage, me = self._storage, self._dispatcher_id
        try:
            running = await self._database.write(lambda: storage.tasks.running_of(me, MOST_ROWS))
            unseen = set(running) - in_flight.claims()
            if unseen:
                await self._releaser.release([UnseenClaim(*claim) for claim in unseen])
            if all_written and not in_flight.runs:
                await self._database.write(lambda: storage.dispatchers.deregister(me))
        except TaskStoreError as error:
            self._hooks.emit(BackgroundFailed("leave", error, 0))

    async def _register_again(self) -> None:
        try:
            await self._database.write(self._registration())
        except TaskStoreError as error:  # the reply to the next heartbeat says again that we are not registered
            self._hooks.emit(BackgroundFailed("registration", error, self._settings.heartbeat))
        else:
            self._wakeup.registered_again()

    def _registration(self) -> Operation[None]:
        register, settings = self._storage.dispatchers.register, self._settings
        host, pid = socket.gethostname(), os.getpid()
        served = Served(None if settings.queues is None else sorted(settings.queues), self._registry.aliases)
        return partial(
            register, self._dispatcher_id, name=settings.name, host=host, pid=pid, lease=settings.lease, served=served
        )
