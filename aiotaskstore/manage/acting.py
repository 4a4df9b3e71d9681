"""Runs actions on stored tasks: on one by its id, or on all that match, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from aiotaskstore.errors import DuplicateTaskError, InvalidTransitionError, TaskNotFoundError
from aiotaskstore.events import TaskEnqueued
from aiotaskstore.manage.actions import Action, Results
from aiotaskstore.manage.ambient_transaction import AmbientTransaction
from aiotaskstore.manage.open_store import OpenStore
from aiotaskstore.mechanics.hint import ANY_QUEUE
from aiotaskstore.storage.listing import Listing, aliases, matching, page, still_matching
from aiotaskstore.storage.operation import BEGIN, Operation, Steps
from aiotaskstore.storage.tasks import MOST_ROWS, ActionResult, Still, Tasks
from aiotaskstore.task import Task, TaskStatus

_NO_ID = UUID(int=0)


class Acted(NamedTuple):
    """What an action did to one task."""

    results: Results
    task: Task | None
    """The task as the action left it, or its clone; `None` where no row is kept."""


class Actions:
    """Runs actions on an open store, on the caller's connection if one is given."""

    def __init__(self, require_open: Callable[[], OpenStore], connection: Any = None) -> None:
        self._require_open, self._connection = require_open, connection

    async def on_one(self, task_id: UUID, action: Action) -> tuple[ActionResult, Task]:
        """Act on one task; return also the task as the action left it.

        Raises `TaskNotFoundError` where no row is kept, `InvalidTransitionError` where its status forbids the action,
        and `DuplicateTaskError` where another task has its external id by now.
        """
        tasks = self._require_open().storage.tasks
        acted = await self._write(
            partial(_on_one, tasks, task_id, action, action.start(tasks, [task_id], None)), action
        )
        result = acted.results.get(task_id)
        if result is None or acted.task is None:
            raise TaskNotFoundError(task_id)
        if result.taken_by is not None:
            raise DuplicateTaskError(acted.task.alias, acted.task.external_id or "", result.taken_by)
        if not result.done and result.status not in action.idempotent:
            raise InvalidTransitionError(task_id, action.move, str(result.status), action.refusal(result))
        return result, acted.task

    async def result_on_one(self, task_id: UUID, action: Action) -> ActionResult | None:
        """Act on one task; returns `None` where no row is kept."""
        return (await self._on([task_id], action)).get(task_id)

    async def on_matching(self, where: object, action: Action, *, deleted: bool = False) -> int:
        """Act on every match, each batch in a transaction of its own; returns how many were changed.

        With `deleted`, only soft-deleted tasks match.
        """
        listing = Listing.choose(where)
        if deleted:
            listing = listing.deleted()
        store = self._require_open()
        joined = store.calls.joined(self._connection)
        tasks, done, beyond = store.storage.tasks, 0, _NO_ID
        until = await store.calls.read(tasks.now, joined)
        still = partial(still_matching, tasks, listing)
        clones: set[UUID] = set()  # stored by this call: by the clock's resolution perhaps no younger than it
        while listing.limit is None or done < listing.limit:
            most = MOST_ROWS if listing.limit is None else min(MOST_ROWS, listing.limit - done)
            ids = await store.calls.read(partial(matching, tasks, listing, most, beyond, until), joined)
            if not ids:
                break
            meant = [id_ for id_ in ids if id_ not in clones]
            results = await self._on(meant, action, still) if meant else {}
            done += sum(result.done for result in results.values())
            clones |= {result.copied.id for result in results.values() if result.copied}
            beyond = ids[-1]
        return done

    async def aliases_of(self, task_id: UUID | None, where: object) -> list[str]:
        """List the aliases of the tasks that an action is for."""
        listing = Listing.choose(where) if task_id is None else Listing.parse({"id": task_id})
        store = self._require_open()
        return await store.calls.read(partial(aliases, listing), store.calls.joined(self._connection))

    async def _on(self, ids: Sequence[UUID], action: Action, still: Still | None = None) -> Results:
        operation = action.start(self._require_open().storage.tasks, ids, still)
        return (await self._write(partial(_on_many, operation), action)).results

    async def _write(self, operation: Operation[Acted], action: Action) -> Acted:
        store = self._require_open()
        joined = store.calls.joined(self._connection)
        # What the action changes is known only once it has run: too late for the caller's transaction to say it.
        acted = await store.calls.write(operation, joined, then=store.storage.database.notify_within(ANY_QUEUE))
        hint = action.hint(acted.results)
        if joined is not None:
            await store.calls.notify_after_commit(joined, hint)
        elif hint:
            store.notifier.notify(hint)
        if store.hooks.has_listener(TaskEnqueued):
            for copied in (result.copied for result in acted.results.values() if result.copied):
                store.hooks.emit(
                    TaskEnqueued(copied.id, copied.alias, copied.queue, copied.payload_size, joined is None)
                )
        return await _grant(store, joined, acted)


async def _grant(store: OpenStore, joined: AmbientTransaction | None, acted: Acted) -> Acted:
    """Grant the serialization keys that an action has freed, or that what it placed waits for, after the commit."""
    changed = [result for result in acted.results.values() if result.done]
    keys = {result.serialization_key for result in changed if result.serialization_key is not None}
    if not keys:
        return acted
    if joined is not None:
        joined.wanted_keys |= keys
        return acted
    await store.granter.grant(keys)
    task = acted.task
    if task is not None and task.status is TaskStatus.WAITING:
        return acted._replace(task=await store.calls.read(partial(_read, store.storage.tasks, task.id), None) or task)
    return acted


def _on_many(operation: Operation[Results]) -> Steps[Acted]:
    return Acted((yield from operation()), None)


def _on_one(tasks: Tasks, task_id: UUID, action: Action, operation: Operation[Results]) -> Steps[Acted]:
    """Act, and read what the action left, in one transaction."""
    yield BEGIN
    before = (yield from _read(tasks, task_id)) if action.ended else None
    results = yield from operation()
    result = results.get(task_id)
    if result is None:
        return Acted(results, None)
    task = yield from _read(tasks, result.copied.id if result.copied else task_id)
    if task is None and before is not None and action.ended:
        task = action.ended(before)
    return Acted(results, task)


def _read(tasks: Tasks, task_id: UUID) -> Steps[Task | None]:
    found = yield from page(tasks, Listing.parse({"id": task_id, "include_deleted": True}))
    return found[0] if found else None
