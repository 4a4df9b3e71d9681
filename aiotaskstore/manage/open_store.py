"""An open store: what it consists of, wired, from one opening to its close."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiotaskstore.carrier import Carriers
from aiotaskstore.errors import TaskStoreError
from aiotaskstore.events import BackgroundEnded, BackgroundFailed
from aiotaskstore.hooks import Hooks
from aiotaskstore.lifespan import Lifespan
from aiotaskstore.manage.ambient_transaction import AmbientTransactions
from aiotaskstore.manage.calls import Calls
from aiotaskstore.manage.enqueuing import Enqueuing
from aiotaskstore.manage.enqueuing_soon import EnqueuingSoon
from aiotaskstore.manage.granting import KeyGranter
from aiotaskstore.manage.inserting import Inserting
from aiotaskstore.manage.known_definitions import KnownDefinitions
from aiotaskstore.manage.lifespan_keeper import LifespanKeeper
from aiotaskstore.manage.measuring import Measuring
from aiotaskstore.manage.notifying import NotificationSender
from aiotaskstore.manage.preparing import Preparing
from aiotaskstore.manage.publishing import Publishing
from aiotaskstore.manage.restricting import Restricting
from aiotaskstore.manage.schedule_publishing import SchedulePublishing
from aiotaskstore.manage.schedule_tasks import ScheduleTasks
from aiotaskstore.manage.settings import StoreSettings
from aiotaskstore.manage.waiting import Waiting
from aiotaskstore.mechanics.affinity import Affinity
from aiotaskstore.mechanics.background_tasks import BackgroundTasks
from aiotaskstore.mechanics.notifier import Notifier
from aiotaskstore.prepared_task import Preparation
from aiotaskstore.registry import Registry
from aiotaskstore.schedule_registry import ScheduleRegistry
from aiotaskstore.storage.storage import Storage

_LAST_CALLS = 5.0
"""Seconds that a closing store waits for calls in progress."""


class OpenStore:
    """The objects of an open store, connected with each other. Each object receives only the objects it needs."""

    def __init__(  # noqa: PLR0913 - what the store was made with, and what code declared on it
        self,
        settings: StoreSettings,
        storage: Storage,
        registry: Registry,
        hooks: Hooks,
        carriers: Carriers,
        *,
        transactions: AmbientTransactions,
        schedules: ScheduleRegistry,
        lifespan: Lifespan,
    ) -> None:
        self.settings: StoreSettings = settings
        self.storage: Storage = storage
        self.hooks: Hooks = hooks
        self.registry: Registry = registry
        limit = settings.enqueue_timeout
        self.affinity: Affinity = Affinity()
        self.background: BackgroundTasks = BackgroundTasks("The store", self._failed)
        self.notifier: Notifier = Notifier()
        self.lifespan: LifespanKeeper = LifespanKeeper(lifespan, hooks)
        self.calls: Calls = Calls(
            storage.database, transactions, check_loops=self.background.check, notify=self.notifier.notify
        )
        self.restricting: Restricting = Restricting(storage, self.calls, self.notifier, hooks)
        self.known_definitions: KnownDefinitions = KnownDefinitions(storage.definitions, self.calls)
        self.publishing: Publishing = Publishing(storage.definitions, registry, self.calls, self.known_definitions)
        self.preparing: Preparing = Preparing(
            Preparation(settings.queues, settings.retention, carriers),
            self.publishing,
            self.known_definitions,
            storage.definitions,
            self.calls,
            registered=lambda: registry.aliases,
            enqueue_timeout=limit,
        )
        self.granter: KeyGranter = KeyGranter(storage.tasks, self.notifier, hooks, limit=limit)
        self.enqueuing: Enqueuing = Enqueuing(
            Inserting(storage.tasks, self.calls, limit),
            self.calls,
            self.granter,
            database=storage.database,
            notifier=self.notifier,
            hooks=hooks,
            enqueue_timeout=limit,
        )
        self.schedule_publishing: SchedulePublishing = SchedulePublishing(
            storage.schedules, schedules, self.calls, self.notifier, payload_limit=settings.payload_limit
        )
        self.schedule_tasks: ScheduleTasks = ScheduleTasks(
            registry, schedules, self.preparing, payload_limit=settings.payload_limit
        )
        self.soon: EnqueuingSoon = EnqueuingSoon(
            self.preparing, self.enqueuing, self.calls, hooks, self.background.spawn
        )
        self.waiting: Waiting = Waiting(storage, hooks, check=self.calls.check, interval=settings.wait_interval)
        self._measuring = Measuring(storage, hooks)
        self._sender = NotificationSender(storage.database, hooks)
        self.notifier.subscribe(self._sender.receive, self.known_definitions.receive)

    async def start(self) -> None:
        """Make the registered definitions known, and start the loops."""
        await self.publishing.open()
        await self.schedule_publishing.open()
        self.background.keep(self.enqueuing.run(), "inserter")
        self.background.keep(self.granter.run(), "key granter")
        self.background.keep(self.waiting.run(), "look for finished tasks")
        self.background.keep(self._sender.run(), "notifier")
        self.background.keep(self._measuring.run(), "measuring")
        self.hooks.spawn_with(self.background.spawn)

    async def publish(self) -> None:
        """Make the registered definitions and the declared schedules known in the database."""
        await self.publishing.publish()
        await self.schedule_publishing.write()

    def publish_schedules_soon(self) -> None:
        """Store in the background what code has just declared; an error is reported, and any later call tries again."""
        self.background.spawn(self._publish_schedules())

    async def _publish_schedules(self) -> None:
        try:
            await self.schedule_publishing.write()
        except TaskStoreError as error:
            self.hooks.emit(BackgroundFailed("schedules", error, 0))

    async def close(self) -> None:
        """Let what is being enqueued be stored, end every wait, and end every loop.

        Cut short, it waits for nothing more, and ends them all the same.
        """
        self.calls.closing = True
        try:
            await self.enqueuing.drain()
            await self.granter.drain()
        finally:
            self.calls.closed = True
            self.waiting.give_up()
            self.background.cancel()
        await self.background.stop(_LAST_CALLS)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_CALLS):
                await self.calls.idle()

    def _failed(self, loop: str, error: BaseException) -> None:
        """One of the loops has ended: end the others, and leave nobody waiting."""
        self.hooks.emit(BackgroundEnded(loop, error))
        self.waiting.give_up(self.background.failure)
        self.background.cancel()
