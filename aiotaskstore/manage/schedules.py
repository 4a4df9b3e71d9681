"""`store.schedules`: the stored schedules, to make, read, change, pause and run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Unpack, cast
from uuid import UUID

from aiotaskstore import occurrences
from aiotaskstore.errors import (
    ConfigurationError,
    InvalidQueryError,
    PayloadError,
    ScheduleNotFoundError,
    UnknownAliasError,
)
from aiotaskstore.handle import TaskHandle
from aiotaskstore.manage import schedule_changes
from aiotaskstore.manage.ambient_transaction import AmbientTransaction
from aiotaskstore.manage.open_store import OpenStore
from aiotaskstore.mechanics.hint import SCHEDULES
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.queue import check_count
from aiotaskstore.registry import Registry
from aiotaskstore.schedule import Schedule, ScheduleChanges, ScheduleStatus, is_id
from aiotaskstore.schedule_registry import ScheduleRegistry
from aiotaskstore.storage.operation import Operation, T
from aiotaskstore.storage.record_listing import RecordFilters, RecordListing
from aiotaskstore.storage.schedule_rows import (
    CHANGEABLE,
    ScheduleRow,
    schedule_from,
    schedule_row,
    timing_of,
)
from aiotaskstore.storage.schedules import SCHEDULES as TABLE
from aiotaskstore.storage.schedules import Decision

_UPDATED = (*CHANGEABLE, "status")
_PREVIEWED = 1_000
Key = UUID | str
"""A schedule's id or its name."""


class ScheduleFilters(RecordFilters, total=False):
    """What `store.schedules.list` and `count` take; all given must hold."""

    name: str | Sequence[str]
    queue: str | Sequence[str]


class ScheduleManager:
    """`store.schedules`: one schedule is named by its id or by its name.

    Whatever concerns a schedule that is not there raises `ScheduleNotFoundError`, but `get` and `get_by_name`, which
    return `None`, and `delete`, which returns false. A soft-deleted schedule is there for `restore`, `delete` and
    `include_deleted` alone.
    """

    def __init__(
        self,
        require_open: Callable[[], OpenStore],
        registry: Registry,
        known: ScheduleRegistry,
        handle: Callable[[UUID], TaskHandle[Any]],
    ) -> None:
        self._require_open, self._registry, self._known, self._handle = require_open, registry, known, handle

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────

    async def get(self, key: Key) -> Schedule | None:
        """Return a schedule; `None` where there is none."""
        row = await self._find(key)
        return None if row is None else schedule_from(row, self._known)

    async def get_by_name(self, name: str) -> Schedule | None:
        """Return the schedule with this name; `None` where there is none."""
        return None if is_id(_text(name)) else await self.get(name)

    async def list(self, **filters: Unpack[ScheduleFilters]) -> Sequence[Schedule]:
        """List schedules, newest first by default; raises `InvalidQueryError`."""
        listing = RecordListing.parse(TABLE, filters)
        rows = await self._read(partial(self._require_open().storage.schedules.page, listing))
        return [schedule_from(row, self._known) for row in rows]

    async def count(self, **filters: Unpack[ScheduleFilters]) -> int:
        """Count schedules; order and page do not matter."""
        listing = RecordListing.parse(TABLE, filters)
        return await self._read(partial(self._require_open().storage.schedules.total, listing))

    async def preview(self, name: Key | Schedule, n: int = 10) -> Sequence[datetime]:
        """Return the next `n` occurrences, also of one that is not stored, or not active: as if it became so now.

        Raises `InvalidRecurrenceError` where a function decides that this process does not know.
        """
        most = check_count(n, "n")
        if most > _PREVIEWED:
            raise ConfigurationError(f"A preview shows at most {_PREVIEWED} occurrences, not {most}.")
        seen = name if isinstance(name, Schedule) else schedule_from(await self._require(name), self._known)
        now = await self._read(self._require_open().storage.tasks.now)
        timing = timing_of(seen)
        planned = seen.next_run_at if seen.status == ScheduleStatus.ACTIVE else None
        if planned is None and timing.left != 0:
            planned = occurrences.first(timing, now)
        if planned is not None and planned <= now:  # an overdue one, or the only one, which is past
            planned = occurrences.after(timing, planned, now)
        return occurrences.preview(timing, planned, most)

    # ── writing ───────────────────────────────────────────────────────────────────────────────────────────

    async def create(self, schedule: Schedule, *, unchecked: bool = False) -> Schedule:
        """Store a schedule; it makes tasks once its status is active.

        Raises `DuplicateScheduleError` for a name that is taken, `UnknownAliasError` for a task that nobody knows
        (unless `unchecked`), `PayloadError` for a payload that does not fit it, and `InvalidRecurrenceError` for an
        active one that would never occur. A function as payload or recurrence is known to this process alone, so
        declare such a schedule in code.
        """
        if not isinstance(schedule, Schedule):
            raise ConfigurationError(f"create() takes a Schedule, not {schedule!r:.100}.")
        checked = await self._checked(replace(schedule, code_owned=False), unchecked=unchecked)
        row = schedule_row(checked, self._limit)
        schedules = self._require_open().storage.schedules
        stored = await self._write(partial(schedules.create, row))
        self._known.know(checked)
        return schedule_from(stored, self._known)

    async def update(
        self, key: Key | Schedule, /, *, unchecked: bool = False, **changes: Unpack[ScheduleChanges]
    ) -> Schedule:
        """Write what is named, or of a `Schedule` all that a caller decides; its next occurrence follows from it.

        Raises what `create` raises, and `ConfigurationError` for a schedule that code declares: change it there.
        """
        if isinstance(key, Schedule):
            if changes:
                raise ConfigurationError("update() takes a whole Schedule, or an id and what to change, not both.")
            changes = _all_of(key)
            key = key.id
        unknown = changes.keys() - set(_UPDATED)
        if unknown:
            raise ConfigurationError(
                f"update() cannot write {', '.join(sorted(unknown))}; it writes {', '.join(_UPDATED)}."
            )
        before = await self._require(key)
        _check_updatable(before, changes)
        whole = schedule_from(before, self._known)
        if before.payload is None and whole.payload is None and "payload" not in changes:
            whole = replace(whole, payload=_elsewhere)
        whole = replace(whole, **changes)
        if {"alias", "payload", "options"} & changes.keys():
            whole = await self._checked(whole, unchecked=unchecked)
        written = schedule_row(whole, self._limit)
        columns = {name: getattr(written, name) for name in changes}
        after = await self._change(before.id, partial(schedule_changes.updated, columns=columns))
        if whole.payload is not _elsewhere:
            self._known.know(whole)
        return after

    async def pause(self, key: Key) -> Schedule:
        """Make a schedule inactive; its tasks that exist already run.

        Raises `InvalidTransitionError` for a completed one.
        """
        return await self._change((await self._require(key)).id, schedule_changes.paused)

    async def resume(self, key: Key) -> Schedule:
        """Make a schedule active: a draft, a paused one, or one that an error has stopped.

        What it would have done meanwhile is not made up for. Raises `InvalidTransitionError` for one that was
        completed and has nothing left, `InvalidRecurrenceError` for one that would never occur.
        """
        return await self._change((await self._require(key)).id, schedule_changes.resumed)

    async def run_now(self, key: Key) -> TaskHandle[Any]:
        """Make a task at once, whatever the status, and count it; when the schedule is due next stays as it is.

        Raises `PayloadError` where the payload function returned `None`, or is not known to this process.
        """
        store = self._require_open()
        joined = store.calls.joined()
        row = await self._require(key)
        now = await self._read(store.storage.tasks.now)
        prepared = await store.schedule_tasks.prepare(row, now, f"now:{new_id()}", joined)
        if prepared is None:
            raise PayloadError(
                f'The payload of the schedule "{row.name}" is a function, which returned None, or which this process '
                "does not know: there is nothing to run. Call it where its code is loaded."
            )
        if joined is not None:
            prepared = prepared.placed_after_commit
        operation = partial(store.storage.schedules.run_now, row.id, prepared.keyed_row, joined=joined is not None)
        if not await store.enqueuing.store_with(prepared, operation, joined):
            raise ScheduleNotFoundError(row.name)
        return self._handle(prepared.row.id)

    async def delete(self, key: Key) -> bool:
        """Delete a schedule for good, also a soft-deleted one; its tasks stay. False where there is none.

        A name is that of the schedule which has it; where none has, of the one soft-deleted last.
        """
        row = await self._find(key, deleted=True)
        return row is not None and await self._write(partial(self._require_open().storage.schedules.delete, row.id))

    async def soft_delete(self, key: Key) -> Schedule:
        """Hide a schedule, which makes no tasks then; its name is free, its status stays."""
        return await self._change((await self._require(key)).id, schedule_changes.soft_deleted)

    async def restore(self, key: Key) -> Schedule:
        """Show a soft-deleted schedule again (of a name the one deleted last); one that is not deleted stays as it is.

        What it would have done meanwhile is not made up for. Raises `DuplicateScheduleError` if another schedule has
        its name by now.
        """
        row = await self._find(key, deleted=True)
        if row is None:
            raise ScheduleNotFoundError(key)
        return await self._change(row.id, schedule_changes.restored)

    # ── within ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _limit(self) -> int:
        return self._require_open().settings.payload_limit

    async def _find(self, key: Key, *, deleted: bool = False) -> ScheduleRow | None:
        schedules = self._require_open().storage.schedules
        if isinstance(key, UUID) or is_id(_text(key)):
            wanted = key if isinstance(key, UUID) else UUID(key)
            row = await self._read(partial(schedules.get, wanted))
            return row if row is not None and (deleted or row.deleted_at is None) else None
        row = (await self._read(partial(schedules.named, [key]))).get(key)
        if row is not None or not deleted:
            return row
        hidden = RecordListing.parse(
            TABLE, {"name": key, "include_deleted": True, "order_by": "deleted_at", "limit": 1}
        )
        return next(iter(await self._read(partial(schedules.page, hidden))), None)

    async def _require(self, key: Key) -> ScheduleRow:
        row = await self._find(key)
        if row is None:
            raise ScheduleNotFoundError(key)
        return row

    async def _checked(self, schedule: Schedule, *, unchecked: bool) -> Schedule:
        """Return a schedule whose payload fits its task, as far as that is known here."""
        definition = self._registry.get(schedule.alias)
        if definition is None:
            await self._check_alias(schedule.alias, unchecked=unchecked)
            return schedule
        if callable(schedule.payload):
            return schedule
        values = dict(schedule.payload or {})
        text = definition.payload.encode_values(values, self._limit)
        definition.keyed(dict(schedule.options), (), values)  # made anew for each task: here only to see that it can be
        return replace(schedule, payload=json.loads(text))

    async def _check_alias(self, alias: str, *, unchecked: bool) -> None:
        definitions = self._require_open().storage.definitions
        if unchecked or await self._read(partial(definitions.get_by_alias, alias)) is not None:
            return
        raise UnknownAliasError(alias, {*await self._read(definitions.known), *self._registry.aliases})

    async def _change(self, schedule_id: UUID, decide: Decision) -> Schedule:
        schedules = self._require_open().storage.schedules
        row = await self._write(partial(schedules.change, schedule_id, decide))
        if row is None:
            raise ScheduleNotFoundError(schedule_id)
        return schedule_from(row, self._known)

    async def _read(self, operation: Operation[T]) -> T:
        store = self._require_open()
        await self._write_declared(store)
        return await store.calls.read(operation, store.calls.joined())

    async def _write(self, operation: Operation[T]) -> T:
        store = self._require_open()
        joined: AmbientTransaction | None = store.calls.joined()
        result = await store.calls.write(operation, joined, then=store.storage.database.notify_within(SCHEDULES))
        if joined is not None:
            await store.calls.notify_after_commit(joined, SCHEDULES)
        else:
            store.notifier.notify(SCHEDULES)
        return result

    async def _write_declared(self, store: OpenStore) -> None:
        """Write what code has declared a moment ago, unless the caller keeps all others from writing."""
        if store.calls.own_lock() is None:
            await store.schedule_publishing.write()


def _text(key: object) -> str:
    if not isinstance(key, str) or not key:
        raise InvalidQueryError(f"A schedule is named by its id, a UUID, or by its name, not {key!r:.100}.")
    return key


def _elsewhere() -> None:
    """Stand for a payload function that only another process knows."""


def _check_updatable(before: ScheduleRow, changes: ScheduleChanges) -> None:
    if before.code_owned:
        raise ConfigurationError(
            f'The schedule "{before.name}" is declared in code, which would write it again; change it there.'
        )
    if not changes:
        raise ConfigurationError(f"update() changes what is named: {', '.join(_UPDATED)}. Nothing was.")


def _all_of(schedule: Schedule) -> ScheduleChanges:
    """Return all that a caller decides of a schedule, but a payload that only another process knows."""
    changes = {name: getattr(schedule, name) for name in _UPDATED}
    if schedule.payload is None:
        del changes["payload"]
    return cast(ScheduleChanges, changes)
