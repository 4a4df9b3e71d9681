"""Follows one task to its end: for `wait`, `result` and `progress`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

from aiotaskstore.errors import ConfigurationError, TaskNotFoundError
from aiotaskstore.manage.ambient_transaction import AmbientTransaction
from aiotaskstore.manage.open_store import OpenStore
from aiotaskstore.manage.waiting import StoredResult
from aiotaskstore.mechanics.duration import Duration, seconds
from aiotaskstore.mechanics.ids import require_id
from aiotaskstore.storage.listing import Listing, page
from aiotaskstore.task import Progress, Task, TaskStatus
from aiotaskstore.task_errors import TaskCancelledError, TaskFailedError


class Following:
    """Reads the status until the task has finished. Then reads the task, or only its result if that is enough."""

    def __init__(self, require_open: Callable[[], OpenStore], connection: Any = None) -> None:
        self._require_open, self._connection = require_open, connection

    async def wait(self, task_id: UUID | str, timeout: Duration | None) -> Task:  # noqa: ASYNC109 - the public face
        """Wait until a task has finished, and return it; see `TaskManager.wait`."""
        found = await self._finished(task_id, timeout, whole=True)
        assert isinstance(found, Task)  # noqa: S101 - since `whole`
        return found

    async def result(self, task_id: UUID | str, timeout: Duration | None) -> str:  # noqa: ASYNC109 - the public face
        """Wait until a task has succeeded, and return its result as JSON text.

        Raises `TaskCancelledError` or `TaskFailedError` if it ends otherwise, and what `wait` raises.
        """
        found = await self._finished(task_id, timeout, whole=False)
        if isinstance(found, StoredResult):
            return found.text or "null"
        if found.status is TaskStatus.CANCELLED:
            raise TaskCancelledError(found)
        if found.status is not TaskStatus.SUCCEEDED:
            raise TaskFailedError(found)
        return json.dumps(found.result)

    async def progress(self, task_id: UUID | str, every: Duration | None = None) -> AsyncIterator[Progress]:
        """Follow a task's progress until it ends; yields each state that a look finds.

        `every` is the time between two looks, by default `wait_interval`.
        """
        store = self._require_open()
        pause = store.settings.wait_interval if every is None else seconds(every, "every", above_zero=True)
        wanted = require_id(task_id)
        tasks, seen = store.storage.tasks, None
        while True:
            progress, status = await store.calls.read(lambda: tasks.progress(wanted), None)
            if progress is not None and progress != seen:
                seen = progress
                yield progress
            if status is None:
                raise TaskNotFoundError(wanted)
            if status.finished:
                return
            await asyncio.sleep(pause)

    async def _finished(
        self,
        task_id: UUID | str,
        timeout: Duration | None,  # noqa: ASYNC109
        *,
        whole: bool,
    ) -> Task | StoredResult:
        store = self._require_open()
        joined = store.calls.joined(self._connection)
        wanted = require_id(task_id)
        limit = None if timeout is None else seconds(timeout, "timeout")
        if joined is not None or limit == 0:
            found = await self._now(store, wanted, joined, whole=whole)
            if not isinstance(found, TaskStatus):
                return found
            if limit == 0:
                raise TimeoutError(f"Task {wanted} has not finished: it is {found}.")
        if joined is not None and await self._status(store, wanted, None) is None:
            raise ConfigurationError(
                f"Task {wanted} was enqueued in this transaction, which has not committed, so it would be waited for "
                "in vain. Commit first, then wait."
            )
        store.calls.refuse_own_lock("Commit first, then wait.")
        ended = await _until_finished(store, wanted, limit, whole=whole)
        if ended is None:
            raise TaskNotFoundError(wanted)
        return ended

    async def _now(
        self, store: OpenStore, task_id: UUID, joined: AmbientTransaction | None, *, whole: bool
    ) -> Task | StoredResult | TaskStatus:
        """Return what has finished, or else the status."""
        while True:
            status = await self._status(store, task_id, joined)
            if status is None:
                raise TaskNotFoundError(task_id)
            if not status.finished:
                return status
            found = await self._read(store, task_id, joined, whole=whole)
            if found is not None:
                return found

    async def _status(self, store: OpenStore, task_id: UUID, joined: AmbientTransaction | None) -> TaskStatus | None:
        return await store.calls.read(lambda: store.storage.tasks.status(task_id), joined)

    async def _read(
        self, store: OpenStore, task_id: UUID, joined: AmbientTransaction | None, *, whole: bool
    ) -> Task | StoredResult | None:
        """Read what has finished; `None` if it was retried or deleted since."""
        tasks = store.storage.tasks
        if not whole:
            results = await store.calls.read(lambda: tasks.results_among([task_id]), joined)
            if task_id in results:
                return StoredResult(results[task_id])
        listing = Listing.parse({"id": task_id})
        for task in await store.calls.read(lambda: page(tasks, listing), joined):
            if task.status.finished:
                return task
        return None


async def _until_finished(
    store: OpenStore, task_id: UUID, limit: float | None, *, whole: bool
) -> Task | StoredResult | None:
    try:
        async with asyncio.timeout(limit) as deadline:
            return await store.waiting.until_finished(task_id, whole=whole)
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise TimeoutError(
            f"Task {task_id} has not finished within {limit:g} s. It goes on all the same: wait again or longer, "
            "look at it with store.tasks.get(…), or cancel it; a dispatcher must run that serves its queue."
        ) from error
