"""What callers ask an open store for, by the objects that answer: `store.tasks`, `store.queues` and their like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from aiotaskstore.handle import TaskHandle
from aiotaskstore.manage.definitions import DefinitionManager
from aiotaskstore.manage.dispatchers import DispatcherManager
from aiotaskstore.manage.following import Following
from aiotaskstore.manage.handle_client import HandleClient
from aiotaskstore.manage.open_store import OpenStore
from aiotaskstore.manage.queues import QueueManager
from aiotaskstore.manage.schedules import ScheduleManager
from aiotaskstore.manage.tasks import TaskManager
from aiotaskstore.registry import Registry
from aiotaskstore.schedule_registry import ScheduleRegistry


class Managers:
    """The managers of one store, whether it is open or not; each call of theirs needs it open."""

    def __init__(
        self,
        require_open: Callable[[], OpenStore],
        registry: Registry,
        schedules: ScheduleRegistry,
        handle: Callable[[UUID | str], TaskHandle[Any]],
    ) -> None:
        self.tasks: TaskManager = TaskManager(require_open)
        self.handle_client: HandleClient = HandleClient(self.tasks, Following(require_open))
        self.queues: QueueManager = QueueManager(require_open)
        self.dispatchers: DispatcherManager = DispatcherManager(require_open)
        self.definitions: DefinitionManager = DefinitionManager(require_open)
        self.schedules: ScheduleManager = ScheduleManager(require_open, registry, schedules, handle)
        self._require_open = require_open

    def tasks_on(self, connection: Any) -> TaskManager:
        """Return `tasks` on the caller's connection, inside its transaction."""
        return TaskManager(self._require_open, connection)
