"""Stores drafts in the background, for callers that do not wait: `enqueue_soon` and `flush`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from typing import Any
from uuid import UUID

from aiotaskstore.definition import Draft
from aiotaskstore.errors import ConfigurationError, TaskStoreError
from aiotaskstore.events import BackgroundFailed
from aiotaskstore.hooks import Hooks
from aiotaskstore.manage.calls import CLOSED, Calls
from aiotaskstore.manage.enqueuing import Enqueuing
from aiotaskstore.manage.preparing import Preparing
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.prepared_task import PreparedTask
from aiotaskstore.queue import DEFAULT_QUEUE


class EnqueuingSoon:
    """Enqueues each draft in its own asyncio task. An error becomes a `BackgroundFailed` event."""

    def __init__(
        self,
        preparing: Preparing,
        enqueuing: Enqueuing,
        calls: Calls,
        hooks: Hooks,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._preparing, self._enqueuing, self._calls = preparing, enqueuing, calls
        self._hooks, self._spawn = hooks, spawn
        self._storing: set[asyncio.Task[None]] = set()
        self._closing = False

    def submit(self, draft: Draft[Any]) -> UUID:
        """Store a draft soon; returns its id to be."""
        self._calls.check()
        if self._closing:
            raise ConfigurationError(CLOSED)
        task_id = draft.options.get("id") or new_id()
        task = self._spawn(self._store(draft, task_id, self._preparing.prepare_now(draft, task_id), copy_context()))
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)
        task.add_done_callback(partial(self._check_uncancelled, draft, task_id))
        return task_id

    @property
    def pending(self) -> bool:
        """Whether anything submitted is not stored yet."""
        return bool(self._storing)

    async def flush(self) -> None:
        """Wait until everything submitted so far is stored, or has failed."""
        if self._storing:
            self._calls.refuse_own_lock("Call flush() after the block.")
            await asyncio.wait(set(self._storing))

    async def close(self) -> None:
        """Accept nothing more while what was submitted is stored."""
        self._closing = True
        try:
            await self.flush()
        finally:
            self._closing = False

    async def _store(
        self, draft: Draft[Any], task_id: UUID, prepared: PreparedTask | None, enqueued_in: Context
    ) -> None:
        try:
            if prepared is None:
                prepared = await self._preparing.prepare(draft, task_id=task_id, enqueued_in=enqueued_in)
            await self._enqueuing.enqueue(await self._preparing.identify(draft, prepared))
        except Exception as error:  # noqa: BLE001 - reported to the application, which is not waiting here
            self._report(draft, task_id, error)

    def _check_uncancelled(self, draft: Draft[Any], task_id: UUID, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            lost = TaskStoreError(
                f"The asyncio task that stores {draft.alias} {task_id} was cancelled: it may be stored or not."
            )
            self._report(draft, task_id, lost)

    def _report(self, draft: Draft[Any], task_id: UUID, error: Exception) -> None:
        self._hooks.emit(BackgroundFailed(f"enqueue_soon of {draft.alias}", error, 0, _queue(draft), task_id))


def _queue(draft: Draft[Any]) -> str:
    """Return the queue that a draft goes to, as far as it is known here."""
    own: str | None = draft.options.get("queue")
    return own or (draft.definition and draft.definition.defaults.queue) or DEFAULT_QUEUE
