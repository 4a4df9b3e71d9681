"""Calls the application's after hooks, once the outcome of their run is stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from aiotaskstore.dispatch.run import Run
from aiotaskstore.events import BackgroundFailed
from aiotaskstore.hooks import Hooks
from aiotaskstore.mechanics.timed_event import TimedEvent
from aiotaskstore.outcome import Cancelled, Failed, Outcome, Retrying, Snoozed, Succeeded
from aiotaskstore.run_hooks import RunHooks
from aiotaskstore.storage.listing import Listing, page
from aiotaskstore.storage.storage import Storage
from aiotaskstore.task import Task, TaskStatus

_READ_AT_ONCE = 200
"""Tasks that are read together."""


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

    def __init__(
        self,
        run_hooks: RunHooks,
        storage: Storage,
        hooks: Hooks,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._run_hooks, self._storage, self._hooks, self._spawn = run_hooks, storage, hooks, spawn
        self._waiting: list[EndedRun] = []
        self._reading = False
        self.backlog: int = 0
        """The number of runs whose hooks have not returned."""
        self.idle: TimedEvent = TimedEvent()
        """Set while every hook has returned."""
        self.idle.set()

    def call(self, run: Run, outcome: Outcome, *, cancelled: bool) -> None:
        """Call the hooks of a run soon."""
        if run.context is None:
            return
        self._waiting.append(EndedRun(run, outcome, cancelled))
        self.backlog += 1
        self.idle.clear()
        if not self._reading:
            self._reading = True
            self._spawn(self._read())

    async def _read(self) -> None:
        try:
            while self._waiting:
                some, self._waiting = self._waiting[:_READ_AT_ONCE], self._waiting[_READ_AT_ONCE:]
                stored = await self._stored([ended.run.task_id for ended in some])
                for ended in some:
                    self._spawn(self._call(ended, stored.get(ended.run.task_id)))
        finally:
            self._reading = False

    async def _stored(self, ids: Sequence[UUID]) -> dict[UUID, Task]:
        listing = Listing.parse({"id_in": list(set(ids)), "include_deleted": True})
        try:
            tasks = await self._storage.database.read(partial(page, self._storage.tasks, listing))
        except Exception as error:  # noqa: BLE001 - of one row that cannot be read, too: the hooks are called all the same
            self._hooks.emit(BackgroundFailed("after hooks", error, 0))
            return {}
        return {task.id: task for task in tasks}

    async def _call(self, ended: EndedRun, stored: Task | None) -> None:
        run = ended.run
        context, run.context = run.context, None  # which refer to each other
        try:
            task = self._left(ended, stored)
            if context is not None and task is not None:
                await self._run_hooks.call_after(context, task, run.error)
        finally:
            self.backlog -= 1
            if not self.backlog:
                self.idle.set()

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
            self._hooks.emit(BackgroundFailed("after hooks", error, 0, claim.queue, claim.id))
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
