"""Inserts rows, and finds out for each row whether it was stored, also after a lost reply or a refused batch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar
from uuid import UUID

from aiotaskstore.errors import DatabaseUnavailableError, DuplicateTaskError, TaskStoreError
from aiotaskstore.manage.ambient_transaction import AmbientTransaction
from aiotaskstore.manage.calls import Calls
from aiotaskstore.manage.held_external_ids import pauses
from aiotaskstore.mechanics.bisecting import write_bisecting
from aiotaskstore.prepared_task import PreparedTask
from aiotaskstore.storage.external_ids import Key, KeyedRow, Taken
from aiotaskstore.storage.faults import AlreadyStored, LockHeld, nothing_done
from aiotaskstore.storage.operation import Operation
from aiotaskstore.storage.tasks import NONE_CHOSEN, Chosen, Tasks
from aiotaskstore.task import NewTask

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two looks at what became of a write whose answer was lost: at first, doubling, and at most."""

_ALL_STORED = Taken({})

T = TypeVar("T")


class Inserted(NamedTuple):
    """The rows of one write, as far as they are needed to read back what became of it."""

    ids: Sequence[UUID]
    keyed: Sequence[KeyedRow] = ()
    chosen: Chosen = NONE_CHOSEN


class Inserting:
    """Inserts batches for the batchers, and all of a call's rows in one transaction."""

    def __init__(self, tasks: Tasks, calls: Calls, enqueue_timeout: float) -> None:
        self._tasks, self._calls, self._limit = tasks, calls, enqueue_timeout
        self._chosen_in_doubt: set[UUID] = set()
        """Chosen ids of rows that are held, and may be stored already: the reply to an earlier write was lost."""

    async def insert_plain(self, rows: list[NewTask]) -> list[BaseException | None]:
        """Insert a batch. A row that the database refuses gets its error; the other rows are stored."""
        return [
            _for_one(answer, row.id)
            for row, answer in zip(rows, await write_bisecting(self._insert_plain, rows), strict=True)
        ]

    async def insert_keyed(self, rows: list[KeyedRow]) -> list[UUID | BaseException | None]:
        """Insert a batch; returns each row's id, or the id of the task that has its external id already.

        It is `None` for a row whose external id another open transaction holds.
        """
        return await self._insert_keyed(rows, maybe_stored=False)

    async def insert_held(self, rows: list[KeyedRow]) -> list[UUID | BaseException | None]:
        """Insert rows that were held before, and that an earlier insert may have stored: its reply was lost."""
        return await self._insert_keyed(rows, maybe_stored=True)

    async def insert_all(self, prepared: Sequence[PreparedTask]) -> Taken:
        """Insert all or nothing, as soon as nobody holds any of the external ids; holds none of them meanwhile."""
        return await self._once_free(partial(self._write_mixed, prepared))

    async def insert_chosen(self, prepared: list[PreparedTask]) -> list[UUID | BaseException | None]:
        """Insert a batch of rows with chosen ids, some with external ids too; returns as `insert_keyed` does.

        A row whose id a task has already gets `DuplicateTaskError`, which names the external id where that is the
        same, too.
        """

        async def insert(some: Sequence[PreparedTask]) -> Sequence[UUID | DuplicateTaskError]:
            if len({one.row.id for one in some}) < len(some):
                raise AlreadyStored("several of these rows have the same id")
            taken = await self._write_mixed(some)
            return [_owner(one.row, taken) for one in some]

        answers = await write_bisecting(insert, prepared)
        held = {one.row.id for one, answer in zip(prepared, answers, strict=True) if isinstance(answer, LockHeld)}
        self._chosen_in_doubt.difference_update({one.row.id for one in prepared} - held)
        return [
            None if one.row.id in held else _for_one(answer, one.row.id)
            for one, answer in zip(prepared, answers, strict=True)
        ]

    async def taken_among(self, prepared: Sequence[PreparedTask], joined: AmbientTransaction) -> NewTask | None:
        """Return one of these rows whose chosen id a task has by now: the database refused to store it there."""
        chosen = _chosen(prepared)
        if len(chosen) <= 1:
            return next(iter(chosen.values()), None)
        ids = list(chosen)
        taken = await self._calls.read(lambda: self._tasks.ids_in_use(ids, joined=True), joined, limit=self._limit)
        return next((row for id_, row in chosen.items() if id_ in taken), None)

    def operation(self, prepared: Sequence[PreparedTask], *, joined: bool) -> Operation[Taken]:
        """Return the operation that inserts them all."""
        plain = [one.row for one in prepared if one.row.external_id is None]
        keyed = [one.keyed_row for one in prepared if one.row.external_id is not None]
        returning = frozenset(one.row.id for one in prepared if one.returns)
        chosen = _chosen(prepared)
        return lambda: self._tasks.enqueue_mixed(plain, keyed, returning, chosen=chosen, joined=joined)

    async def _write_mixed(self, prepared: Sequence[PreparedTask], *, maybe_stored: bool = True) -> Taken:
        """Write rows of all kinds in one transaction.

        With `maybe_stored`, an earlier write of the same rows may have stored them. Under a chosen id that is believed
        only if the reply to such a write was lost: else what has the id is somebody else's task, however alike.
        """
        keyed = [one.keyed_row for one in prepared if one.row.external_id is not None]
        inserted = Inserted([one.row.id for one in prepared], keyed, _chosen(prepared))
        maybe_stored &= inserted.chosen.keys() <= self._chosen_in_doubt
        operation = self.operation(prepared, joined=False)
        for _ in range(1 + len(inserted.chosen)):
            try:
                return await self._write_surely(operation, inserted, maybe_stored=maybe_stored)
            except AlreadyStored as error:
                # Somebody stored a chosen id between our look and our insert; the next look finds that task.
                refused = error
        raise refused

    async def _insert_plain(self, rows: Sequence[NewTask]) -> Sequence[None]:
        await self._write_surely(lambda: self._tasks.enqueue(rows), Inserted([row.id for row in rows]))
        return [None] * len(rows)

    async def _insert_keyed(self, rows: list[KeyedRow], *, maybe_stored: bool) -> list[UUID | BaseException | None]:
        async def insert(some: Sequence[KeyedRow]) -> Sequence[UUID | None]:
            inserted = Inserted([one.row.id for one in some], some)
            operation = partial(self._tasks.enqueue_keyed, some)
            taken = await self._write_surely(operation, inserted, maybe_stored=maybe_stored)
            return [None if id_ in taken.held else taken.owners.get(id_, id_) for id_ in inserted.ids]

        answers = await write_bisecting(insert, rows)
        return [
            await self._owner(row) if isinstance(answer, LockHeld) else _for_one(answer, row.row.id)
            for row, answer in zip(rows, answers, strict=True)
        ]

    async def _owner(self, row: KeyedRow) -> UUID | None:
        """Return the task that has a held external id already, if that is so whatever becomes of its lock."""
        if row.live_only:
            return None
        external_ids = self._tasks.external_ids
        seen = await self._calls.read(
            lambda: external_ids.owners([row.key], external_ids.unlocked), None, limit=self._limit
        )
        return seen.get(row.key)

    async def _once_free(self, write: Callable[..., Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        until, pause, maybe_stored = loop.time() + self._limit, pauses(), False
        while True:
            try:
                return await write(maybe_stored=maybe_stored)
            except LockHeld as error:
                if loop.time() >= until:
                    raise nothing_done(
                        f"The tasks were not stored within enqueue_timeout ({self._limit:g} s): {error}. "
                        "Nothing was stored."
                    ) from error
            maybe_stored = True
            await asyncio.sleep(pause())

    async def _write_surely(
        self, operation: Operation[Taken | None], inserted: Inserted, *, maybe_stored: bool = False
    ) -> Taken:
        """Write rows in one transaction; returns which of those with an external id are not stored.

        Where its answer was lost, what became of it is found out, for at most `enqueue_timeout` seconds more. With
        `maybe_stored`, an earlier write of the same rows may have stored them.
        """
        try:
            if maybe_stored:
                stored = await self._calls.read(lambda: self._tasks.read_back(*inserted), None, limit=self._limit)
                if stored is not None:
                    return stored
            return await self._calls.write(operation, None, retry_held=False, limit=self._limit) or _ALL_STORED
        except DatabaseUnavailableError as error:
            if error.nothing_done and not error.timed_out:  # of a connection that is silent: another one may work
                raise
            lost = error
        try:
            async with asyncio.timeout(self._limit) as timeout:
                return await self._find_out(operation, inserted)
        except TimeoutError as error:
            if not timeout.expired():
                raise
            raise may_be_stored(
                f"The database was lost while {_count(inserted.ids)} being stored ({lost}), and did not tell within "
                f"enqueue_timeout ({self._limit:g} s) what became of it",
                inserted.ids,
            ) from error

    async def _find_out(self, operation: Operation[Taken | None], inserted: Inserted) -> Taken:
        """Read back what became of a write, until the database answers.

        It may not have come about yet by then; a second write waits for it, is refused as a duplicate, and what became
        of it is read back once more.
        """
        refused: TaskStoreError | None = None
        pause = _FIRST_PAUSE
        while True:
            try:
                stored = await self._tasks.database.read(lambda: self._tasks.read_back(*inserted), limit=self._limit)
                if stored is not None:
                    return stored
                if refused is not None:
                    self._chosen_in_doubt.update(inserted.chosen)
                    raise refused
                return await self._calls.write(operation, None, retry_held=False, limit=self._limit) or _ALL_STORED
            except DatabaseUnavailableError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            except TaskStoreError as error:
                if refused is not None:
                    raise
                refused = error


def distinct(prepared: Sequence[PreparedTask]) -> list[PreparedTask]:
    """Return what is to be stored of drafts: each once, as one may repeat an earlier one and return what that stores.

    Raises `DuplicateTaskError` for two with the same external id, of which the second does not return the first, and
    for two with the same chosen id.
    """
    with_key: dict[Key, int] = {}
    with_id: dict[UUID, int] = {}
    for at, (row, *_) in enumerate(prepared):
        key = prepared[at].keyed_row.key
        first = at if row.external_id is None else with_key.setdefault(key, at)
        if first != at and not prepared[at].returns:
            raise DuplicateTaskError(row.alias, row.external_id, prepared[first].row.id, positions=(first, at))
        same = with_id.setdefault(row.id, at)
        if same not in {first, at}:
            raise DuplicateTaskError(row.alias, None, row.id, positions=(same, at))
    return [prepared[at] for at in with_id.values()]


def _owner(row: NewTask, taken: Taken) -> UUID | DuplicateTaskError:
    """Return the id of the task that now stands for a row; the error where it is an earlier one of the same id."""
    owner = taken.owners.get(row.id)
    return DuplicateTaskError(row.alias, row.external_id, row.id) if owner == row.id else owner or row.id


def _chosen(prepared: Sequence[PreparedTask]) -> Chosen:
    return {one.row.id: one.row for one in prepared if one.chosen}


def may_be_stored(what: str, ids: Sequence[UUID]) -> DatabaseUnavailableError:
    """Make the error that says: these tasks may be stored although this was raised."""
    named = f"task {ids[0]}" if len(ids) == 1 else "the tasks in this error's task_ids"
    error = DatabaseUnavailableError(f"{what}: {named} may still be stored. Look before you enqueue again.")
    error.task_ids = tuple(ids)
    return error


def _for_one(answer: T | TaskStoreError, task_id: UUID) -> T | TaskStoreError:
    """Say to one caller of a batch what concerns its own task."""
    if not isinstance(answer, DatabaseUnavailableError) or len(answer.task_ids) < 2:  # noqa: PLR2004
        return answer
    alone = may_be_stored(
        "The database was lost while the task was being stored, and did not tell what became of it", [task_id]
    )
    alone.__cause__ = answer
    return alone


def _count(tasks: Sequence[object]) -> str:
    return "the task was" if len(tasks) == 1 else f"{len(tasks)} tasks were"
