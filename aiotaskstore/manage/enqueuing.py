"""Stores prepared tasks: together with others, or in the caller's transaction; then dispatchers are notified."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from aiotaskstore.errors import DatabaseUnavailableError, DuplicateTaskError
from aiotaskstore.events import TaskEnqueued
from aiotaskstore.hooks import Hooks
from aiotaskstore.manage.ambient_transaction import AmbientTransaction
from aiotaskstore.manage.calls import ONE_TASK, Calls
from aiotaskstore.manage.granting import KeyGranter
from aiotaskstore.manage.held_external_ids import HeldIds
from aiotaskstore.manage.inserting import Inserting, distinct, may_be_stored
from aiotaskstore.mechanics.batching import Batcher
from aiotaskstore.mechanics.hint import Hint, queue_hint
from aiotaskstore.mechanics.notifier import Notifier
from aiotaskstore.prepared_task import PreparedTask, enqueued
from aiotaskstore.storage.database import Database
from aiotaskstore.storage.external_ids import KeyedRow, Taken
from aiotaskstore.storage.faults import AlreadyStored
from aiotaskstore.storage.operation import Operation, Step
from aiotaskstore.storage.tasks import MOST_ROWS
from aiotaskstore.task import NewTask

_HEAVIEST = 8_000_000
"""Letters of payloads and metadata that are inserted together, unless a single task has more."""


class Enqueuing:
    """Stores prepared tasks; concurrent calls share an insert.

    Rows with external ids, and rows whose ids their callers chose, need more statements, so they are inserted
    separately. If another open transaction holds such an id, its row leaves the batch and waits in `HeldIds`.
    """

    def __init__(
        self,
        inserting: Inserting,
        calls: Calls,
        granter: KeyGranter,
        *,
        database: Database,
        notifier: Notifier,
        hooks: Hooks,
        enqueue_timeout: float,
    ) -> None:
        self._inserting, self._calls, self._granter, self._database = inserting, calls, granter, database
        self._notifier, self._hooks, self._limit = notifier, hooks, enqueue_timeout
        self._plain: Batcher[NewTask, None] = Batcher(
            inserting.insert_plain, most=MOST_ROWS, heaviest=_HEAVIEST, weigh=_letters, wait_limit=enqueue_timeout
        )
        self._keyed: Batcher[KeyedRow, UUID | None] = Batcher(
            inserting.insert_keyed, most=MOST_ROWS, heaviest=_HEAVIEST, weigh=_keyed_letters, wait_limit=enqueue_timeout
        )
        self._held = HeldIds(
            self._keyed,
            Batcher(inserting.insert_held, most=MOST_ROWS, heaviest=_HEAVIEST, weigh=_keyed_letters),
            wait_limit=enqueue_timeout,
            check=calls.check,
        )
        chosen: Batcher[PreparedTask, UUID | None] = Batcher(
            inserting.insert_chosen,
            most=MOST_ROWS,
            heaviest=_HEAVIEST,
            weigh=_chosen_letters,
            wait_limit=enqueue_timeout,
        )
        self._chosen = HeldIds(
            chosen,
            Batcher(inserting.insert_chosen, most=MOST_ROWS, heaviest=_HEAVIEST, weigh=_chosen_letters),
            wait_limit=enqueue_timeout,
            check=calls.check,
        )
        self._batchers = (self._plain, self._keyed, chosen)
        self._held_ids = (self._held, self._chosen)

    async def run(self) -> None:
        """Insert batches until cancelled."""
        async with asyncio.TaskGroup() as group:
            for inserter in (*self._batchers, *self._held_ids):
                group.create_task(inserter.run(), name="aiotaskstore inserter")

    async def drain(self) -> None:
        """Wait until every row so far is stored or refused, at most `enqueue_timeout`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limit):
                while any(one.backlog for one in self._batchers) or any(held.waiting for held in self._held_ids):
                    for one in (*self._batchers, *self._held_ids):
                        await one.drain()

    async def enqueue(self, prepared: PreparedTask, joined: AmbientTransaction | None = None) -> UUID:
        """Store one row; returns its id, or the id of the task that has its external id already."""
        if joined is not None:
            taken = await self._enqueue_joined([prepared], joined)
            return taken.owners.get(prepared.row.id, prepared.row.id)
        self._calls.check_open()
        self._calls.refuse_own_lock(ONE_TASK)
        row = prepared.row
        try:
            task_id = await self._submit(prepared)
        except TimeoutError as error:
            raise may_be_stored(
                f"The task was not stored within enqueue_timeout ({self._limit:g} s); with an external id, or an id of "
                "your own, somebody's open transaction may hold it; on SQLite any open transaction does, also one of "
                "your own (then enqueue with .using(connection))",
                [row.id],
            ) from error
        except DuplicateTaskError as error:
            if not prepared.returns or error.external_id is None:
                raise
            return error.existing_id
        if task_id == row.id:
            await self._stored([prepared])
        elif not prepared.returns:
            raise DuplicateTaskError(row.alias, row.external_id or "", task_id)
        return task_id

    async def store_with(
        self, prepared: PreparedTask, operation: Operation[bool], joined: AmbientTransaction | None
    ) -> bool:
        """Run an operation that stores a row among other things, and returns whether it did."""
        hint = _hint([prepared])
        then = None if joined is None else self._notification([prepared], hint)
        if not await self._calls.write(operation, joined, then=then, limit=self._limit):
            return False
        if joined is None:
            await self._stored([prepared])
        else:
            if prepared.waits_for is not None:
                joined.wanted_keys.add(prepared.waits_for)
            await self._calls.notify_after_commit(joined, hint)
            self._emit([prepared], committed=False)
        return True

    async def enqueue_many(
        self, prepared: Sequence[PreparedTask], joined: AmbientTransaction | None = None
    ) -> list[UUID]:
        """Store all or nothing in one transaction; returns the ids in order."""
        if not prepared:
            return []
        rows = distinct(prepared)
        if joined is not None:
            taken = await self._enqueue_joined(rows, joined)
        else:
            await asyncio.sleep(0)  # a caller that is cancelled already stores nothing
            taken = await self._inserting.insert_all(rows)
            await self._stored([one for one in rows if one.row.id not in taken.owners])
        return [taken.owners.get(one.row.id, one.row.id) for one in prepared]

    async def _submit(self, prepared: PreparedTask) -> UUID:
        """Add a row to the batch of its kind; returns its id, or that of the task that has its external id."""
        if prepared.chosen:
            return await self._chosen.submit(prepared)
        if prepared.row.external_id is not None:
            return await self._held.submit(prepared.keyed_row)
        await self._plain.submit(prepared.row)
        return prepared.row.id

    async def _enqueue_joined(self, prepared: Sequence[PreparedTask], joined: AmbientTransaction) -> Taken:
        """Store rows in the caller's transaction; the hint is sent by its commit where the database can do that."""
        prepared = [one.placed_after_commit for one in prepared]
        hint = _hint(prepared)
        then = self._notification(prepared, hint)
        operation = self._inserting.operation(prepared, joined=True)
        try:
            taken = await self._calls.write(operation, joined, then=then, limit=self._limit)
        except AlreadyStored as error:
            taken_row = await self._inserting.taken_among(prepared, joined)
            if taken_row is None:
                raise
            raise DuplicateTaskError(taken_row.alias, None, taken_row.id) from error
        except DatabaseUnavailableError as error:
            if not error.timed_out:
                raise
            raise DatabaseUnavailableError(
                f"Within enqueue_timeout ({self._limit:g} s) your transaction could not store {len(prepared)} task(s); "
                f"with an external id, another open transaction may hold it. {error}"
            ) from error
        await self._calls.notify_after_commit(joined, hint)
        self._emit([one for one in prepared if one.row.id not in taken.owners], committed=False)
        return taken

    def _notification(self, prepared: Sequence[PreparedTask], hint: Hint) -> Step | None:
        """Return what the caller's transaction sends with its commit: of what is due by then, not of what is later."""
        keyed = any(one.row.serialization_key is not None for one in prepared)
        return self._database.notify_within(hint) if hint.work or keyed else None

    async def _stored(self, prepared: Sequence[PreparedTask]) -> None:
        """Notify whoever can run what is now committed; what has a serialization key, once that is granted."""
        hint = _hint(prepared)
        if hint:
            self._notifier.notify(hint)
        self._emit(prepared, committed=True)
        keys = {one.waits_for for one in prepared if one.waits_for is not None}
        if keys:
            await self._granter.grant(keys)

    def _emit(self, prepared: Sequence[PreparedTask], *, committed: bool) -> None:
        if self._hooks.has_listener(TaskEnqueued):
            for one in prepared:
                self._hooks.emit(enqueued(one.row, committed=committed))


def _hint(prepared: Sequence[PreparedTask]) -> Hint:
    due = {one.row.queue for one in prepared if one.due and one.row.serialization_key is None}
    hint = queue_hint(*due)
    return hint if all(one.due for one in prepared) else hint._replace(scheduled=True)


def _letters(row: NewTask) -> int:
    return len(row.payload) + len(row.metadata or "")


def _chosen_letters(prepared: PreparedTask) -> int:
    return _letters(prepared.row)


def _keyed_letters(keyed: KeyedRow) -> int:
    return _letters(keyed.row)
