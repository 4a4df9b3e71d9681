"""Calls the application's after hooks, once the outcome of their run is stored."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from math import inf
from typing import NamedTuple
from uuid import UUID

from aiotaskstore.dispatch.run import Run
from aiotaskstore.errors import TaskStoreError
from aiotaskstore.events import BackgroundFailed
from aiotaskstore.hooks import Hooks
from aiotaskstore.mechanics.background_tasks import BackgroundTasks
from aiotaskstore.mechanics.timed_event import TimedEvent
from aiotaskstore.outcome import Cancelled, Failed, Outcome, Retrying, Snoozed, Succeeded
from aiotaskstore.run_hooks import AFTER_LIMIT, RunHooks
from aiotaskstore.storage.listing import Listing, page
from aiotaskstore.storage.storage import Storage
from aiotaskstore.task import Task, TaskStatus

MOST_WAITING = 10_000
"""With more runs whose hooks have not returned, nothing is claimed."""
TELL_EVERY = 60.0
"""Seconds between two reports that nothing is claimed for that reason."""
_READ_AT_ONCE = 200
"""Tasks that are read together."""
_NAME = "after hooks"
"""What events call this."""


class EndedRun(NamedTuple):
    """A run whose outcome is stored."""

    run: Run
    outcome: Outcome
    cancelled: bool
    """Whether its task ended as cancelled, whatever the outcome."""


class AfterHooks:
    """Calls the hooks of each run in an asyncio task of its own, so that a slow hook keeps nobody waiting.

    The tasks are read again for the hooks, many at a time. Where no row is kept, none can be read, or the row has
    gone on since (its next attempt runs already), the hooks get the task as it was recorded.
    """

    def __init__(self, run_hooks: RunHooks, storage: Storage, hooks: Hooks, tasks: BackgroundTasks) -> None:
        self._run_hooks, self._storage, self._hooks, self._tasks = run_hooks, storage, hooks, tasks
        self._waiting: deque[EndedRun] = deque()
        self._reading = self._closed = False
        self._told_at = -inf
        self.backlog: int = 0
        """The number of runs whose hooks have not returned."""
        self.idle: TimedEvent = TimedEvent()
        """Set while every hook has returned."""
        self.idle.set()

    def has_room(self) -> bool:
        """Return whether tasks may be claimed: not too many runs wait for their hooks. If not, say so once a minute."""
        if self.backlog <= MOST_WAITING:
            return True
        if time.monotonic() - self._told_at >= TELL_EVERY:
            self._told_at = time.monotonic()
            error = TaskStoreError(
                f"{self.backlog} runs have ended whose hooks have not returned, so no task is claimed until they are "
                f"{MOST_WAITING} or fewer. A hook is cancelled after {AFTER_LIMIT:g} s; make the hooks quicker."
            )
            self._hooks.emit(BackgroundFailed(_NAME, error, 0))
        return False

    def call(self, run: Run, outcome: Outcome, *, cancelled: bool) -> None:
        """Call the hooks of a run soon."""
        if run.context is None:
            return
        self._waiting.append(EndedRun(run, outcome, cancelled))
        self.backlog += 1
        self.idle.clear()
        self._read_soon()

    def close(self) -> None:
        """Begin to call no more hooks: what calls them is about to be cancelled."""
        self._closed = True

    def _read_soon(self) -> None:
        if not self._reading:
            self._reading = True
            self._tasks.spawn(self._read()).add_done_callback(self._read_ended)

    def _read_ended(self, task: asyncio.Task[None]) -> None:
        self._reading = False
        failed = not task.cancelled() and task.exception() is not None
        if self._waiting and not (self._closed or failed):  # it was cancelled, or they came at its very end
            self._read_soon()

    async def _read(self) -> None:
        while self._waiting:
            some = list(islice(self._waiting, _READ_AT_ONCE))
            stored = await self._stored([ended.run.task_id for ended in some])
            for ended in some:
                self._waiting.popleft()
                calling = self._tasks.spawn(self._call(ended, stored.get(ended.run.task_id)))
                calling.add_done_callback(partial(self._over, ended))

    async def _stored(self, ids: Sequence[UUID]) -> dict[UUID, Task]:
        listing = Listing.parse({"id_in": list(set(ids)), "include_deleted": True})
        try:
            tasks = await self._storage.database.read(partial(page, self._storage.tasks, listing))
        except Exception as error:  # noqa: BLE001 - of one row that cannot be read, too: the hooks are called all the same
            self._hooks.emit(BackgroundFailed(_NAME, error, 0))
            return {}
        return {task.id: task for task in tasks}

    async def _call(self, ended: EndedRun, stored: Task | None) -> None:
        context, task = ended.run.context, self._left(ended, stored)
        if context is not None and task is not None:
            await self._run_hooks.call_after(context, task, ended.run.error, self._tasks)

    def _over(self, ended: EndedRun, calling: asyncio.Task[None]) -> None:
        ended.run.context = None  # which refer to each other
        self.backlog -= 1
        if not self.backlog:
            self.idle.set()
        if calling.cancelled() and not self._closed:
            claim = ended.run.claim
            error = asyncio.CancelledError("the asyncio task that calls them was cancelled")
            self._hooks.emit(BackgroundFailed(_NAME, error, 0, claim.queue, claim.id))

    def _left(self, ended: EndedRun, stored: Task | None) -> Task | None:
        """Return the task as this run has left it."""
        if stored is None or not _gone_on(stored, ended.run.claim.attempt):
            return stored or self._recorded(ended)
        recorded = self._recorded(ended)
        errors = [one for one in stored.errors if one.attempt <= ended.run.claim.attempt]
        return recorded and replace(recorded, errors=errors, details=stored.details)

    def _recorded(self, ended: EndedRun) -> Task | None:
        try:
            return _recorded(ended)
        except ValueError as error:  # its payload is no JSON, whoever has written it; then nothing can be shown
            claim = ended.run.claim
            self._hooks.emit(BackgroundFailed(_NAME, error, 0, claim.queue, claim.id))
            return None


def _gone_on(stored: Task, attempt: int) -> bool:
    """Whether a task has been claimed again since the outcome of this attempt was stored."""
    return stored.status is TaskStatus.RUNNING or stored.attempt > attempt


def _recorded(ended: EndedRun) -> Task:
    """Return a task as its outcome has left it, as far as that can be told without the database."""
    task = ended.run.snapshot()
    match ended.outcome:
        case _ if ended.cancelled:
            return replace(task, status=TaskStatus.CANCELLED)
        case Succeeded(result=result):
            return replace(task, status=TaskStatus.SUCCEEDED, result=json.loads(result), finish_reason="ok")
        case Failed(error_type=kind, message=message, reason=reason):
            return replace(task, status=TaskStatus.FAILED, error=f"{kind}: {message}", finish_reason=reason)
        case Cancelled(reason=reason, why=why):
            return replace(task, status=TaskStatus.CANCELLED, cancel_reason=why, finish_reason=reason)
        case Retrying(error_type=kind, message=message, delay=delay):
            return replace(task, status=_placed(delay), error=f"{kind}: {message}")
        case Snoozed(delay=delay):
            return replace(task, status=_placed(delay))
        case _:
            return replace(task, status=TaskStatus.PENDING)


def _placed(delay: float) -> TaskStatus:
    return TaskStatus.SCHEDULED if delay else TaskStatus.PENDING
