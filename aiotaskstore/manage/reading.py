"""The calls of `store.tasks` that read, and those that wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, Unpack
from uuid import UUID

from aiotaskstore.errors import TaskNotFoundError
from aiotaskstore.manage.explaining import explain
from aiotaskstore.manage.following import Following
from aiotaskstore.manage.open_store import OpenStore
from aiotaskstore.manage.task_calls import TaskCalls
from aiotaskstore.mechanics.duration import Duration
from aiotaskstore.mechanics.ids import find_id, require_id
from aiotaskstore.queue import queue_name
from aiotaskstore.storage.filters import TaskFilters
from aiotaskstore.storage.listing import Listing, page, total
from aiotaskstore.task import Progress, Task, TaskStatus


class Reading(TaskCalls):
    """Reads tasks, and waits for them. Soft-deleted ones are not seen, unless a list is told to include them."""

    def __init__(self, require_open: Callable[[], OpenStore], connection: Any = None) -> None:
        super().__init__(require_open, connection)
        self._following = Following(require_open, connection)

    async def get(self, id: UUID | str) -> Task | None:
        """Return a task; `None` where no row is kept, or it is soft-deleted."""
        wanted = find_id(id)
        if wanted is None:
            self._require_open()
            return None
        found = await self._read(partial(page, listing=Listing.parse({"id": wanted})))
        return found[0] if found else None

    async def require(self, id: UUID | str) -> Task:
        """Return a task; raises `TaskNotFoundError` where no row is kept, or it is soft-deleted."""
        task = await self.get(id)
        if task is None:
            raise TaskNotFoundError(id)
        return task

    async def list(self, **filters: Unpack[TaskFilters]) -> Sequence[Task]:
        """List tasks, unfinished and finished, newest first by default; raises `InvalidQueryError`."""
        return await self._read(partial(page, listing=Listing.parse(filters)))

    async def count(self, **filters: Unpack[TaskFilters]) -> int:
        """Count tasks; order and page do not matter."""
        Listing.parse(filters)  # a page that cannot be meant is refused all the same
        filters.pop("after", None)
        listing = Listing.parse(filters)
        return await self._read(lambda _tasks: total(listing))

    async def peek(self, queue: str | None = None) -> Task | None:
        """Return the task that a dispatcher would claim next of a queue, without claiming it; `None` for none.

        That is the pending one of the smallest priority, and of those the one that has been due for longest.
        """
        name = queue_name(queue)
        return await self._read(lambda tasks: tasks.peek(name))

    async def status(self, id: UUID | str) -> TaskStatus | None:
        """Return a task's status; `None` where no row is kept, or it is soft-deleted."""
        wanted = find_id(id)
        if wanted is None:
            self._require_open()
            return None
        return await self._read(lambda tasks: tasks.status(wanted))

    async def why(self, id: UUID | str) -> str:
        """Tell in a sentence why a task does not run: when it is due, who holds its key, what is paused or missing.

        Raises `TaskNotFoundError` where no row is kept, or it is soft-deleted.
        """
        wanted = require_id(id)
        store = self._require_open()
        told = await store.calls.read(partial(explain, store.storage, wanted), store.calls.joined(self._connection))
        if told is None:
            raise TaskNotFoundError(wanted)
        return told

    async def wait(self, id: UUID | str, timeout: Duration | None = None) -> Task:  # noqa: ASYNC109 - the public face
        """Wait until a task has finished, and return it; a `timeout` of 0 returns what has finished already.

        Any number may wait: they take no connection each, and all are looked for in one statement. Raises
        `TimeoutError`, `TaskNotFoundError` where no row is kept or it is soft-deleted, and `ConfigurationError` inside
        the very transaction that enqueued the task, since nobody runs it before that has committed.
        """
        return await self._following.wait(id, timeout)

    def watch(self, id: UUID | str, *, every: Duration | None = None) -> AsyncIterator[Progress]:
        """Follow a task's progress until it ends; yields each state that it finds.

        `every` is the time between two looks; without it, the store's `wait_interval`.
        """
        return self._following.progress(id, every)
