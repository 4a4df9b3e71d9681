"""Makes tasks of schedules: each occurrence becomes exactly one, whoever and how many look."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from uuid import UUID

from aiotaskstore.dispatch.dependencies import KeyGrants, PrepareOccurrence
from aiotaskstore.dispatch.dispatcher_settings import DispatcherSettings
from aiotaskstore.dispatch.firing_writer import FiringWriter
from aiotaskstore.dispatch.loops import jittered
from aiotaskstore.dispatch.schedule_planner import Decide, SchedulePlanner
from aiotaskstore.dispatch.schedule_reports import ScheduleReports
from aiotaskstore.errors import InvalidRecurrenceError, TaskStoreError
from aiotaskstore.function_calls import FunctionHangsError
from aiotaskstore.hooks import Hooks
from aiotaskstore.mechanics.hint import Hint
from aiotaskstore.mechanics.timed_event import TimedEvent
from aiotaskstore.recurrence import FunctionRecurrence
from aiotaskstore.schedule_registry import ScheduleRegistry
from aiotaskstore.storage.operation import Steps
from aiotaskstore.storage.schedule_rows import ScheduleRow
from aiotaskstore.storage.storage import Storage

_AT_ONCE = 250
"""Schedules in one transaction."""
_BARELY = 0.002
"""Seconds added to a wait for the next occurrence, so that it is due by the database's clock when we look."""


class Scheduler:
    """Sleeps until the next occurrence, at most until the next poll. The database's clock alone decides what is due.

    A schedule with a function is carried out apart from the others, which need not wait for it.
    """

    def __init__(  # noqa: PLR0913 - a schedule may need anything of these
        self,
        storage: Storage,
        hooks: Hooks,
        settings: DispatcherSettings,
        *,
        registry: ScheduleRegistry,
        prepare: PrepareOccurrence,
        notify: Callable[[Hint], None],
        key_grants: KeyGrants,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._database, self._schedules = storage.database, storage.schedules
        self._poll_interval, self._lease = settings.schedule_every or settings.poll_interval, settings.lease
        self._registry, self._spawn = registry, spawn
        self._reports = ScheduleReports(hooks)
        self._planner = SchedulePlanner(registry, prepare, self._reports, lease=settings.lease)
        self._writer = FiringWriter(storage, hooks, self._reports, notify=notify, key_grants=key_grants)
        self._changed = TimedEvent()
        self._next_in: float | None = None
        self._started = False
        self._apart: dict[UUID, asyncio.Task[None]] = {}
        """Schedules with functions that are being carried out."""

    def receive(self, hint: Hint) -> None:
        """Wake if a schedule was created or changed."""
        if hint.schedules:
            self.look()

    def look(self) -> None:
        """Wake, and ask the database again when the next schedule is due: a new one may be the first."""
        self._changed.set()

    async def schedule_once(self) -> bool:
        """Make the tasks of every schedule that is due, and of those that run when a dispatcher starts.

        Returns whether more is due at once: of a schedule with many missed occurrences, some become tasks at a time.
        """
        self._changed.clear()
        await self._writer.resolve_doubts()
        before = self._writer.written
        seen = await self._database.read(self._schedules.look)
        if seen.without_next:
            await self._all(self._schedules.without_next, self._planner.advancing(seen.now))
        if not self._started:
            await self._all(partial(self._schedules.to_start, self._lease), self._planner.starting(seen.now))
            self._started = True
        if seen.due:
            await self._all(partial(self._schedules.due, seen.now), self._planner.advancing(seen.now))
        if seen.without_next or seen.due:
            seen = await self._database.read(self._schedules.look)
        more = seen.due and self._writer.written > before
        self._next_in = 0 if more else seen.next_in
        return more

    async def rest(self) -> None:
        """Wait until the next schedule is due, one is changed, or it is time to poll."""
        poll = jittered(self._poll_interval)
        await self._changed.wait(poll if self._next_in is None else min(poll, self._next_in + _BARELY))

    async def idle(self) -> bool:
        """Wait until no schedule with a function is being carried out; return whether one was."""
        waited = bool(self._apart)
        while self._apart:
            await asyncio.wait(list(self._apart.values()))
        return waited

    # ── batches ───────────────────────────────────────────────────────────────────────────────────────────

    async def _all(
        self,
        fetch: Callable[[ScheduleRow | None, int], Steps[list[ScheduleRow]]],
        decide: Decide,
    ) -> None:
        """Carry out what is decided for every schedule that is fetched, a batch at a time."""
        after: ScheduleRow | None = None
        while rows := await self._database.read(partial(fetch, after, _AT_ONCE)):
            decided = []
            for row in rows:
                await asyncio.sleep(0)  # many schedules that are far behind must not keep the event loop
                if self._writer.is_refused(row):
                    continue
                if self._is_code(row):
                    self._carry_out_apart(row, decide)
                elif (one := await self._planner.decided(row, decide)) is not None:
                    decided.append(one)
            await self._writer.write(decided)
            after = rows[-1]

    # ── with functions ────────────────────────────────────────────────────────────────────────────────────

    def _is_code(self, row: ScheduleRow) -> bool:
        """Return whether a schedule needs a function."""
        if row.payload is None:
            return True
        try:
            return isinstance(row.stored_recurrence(), FunctionRecurrence)
        except InvalidRecurrenceError:
            return False

    def _carry_out_apart(self, row: ScheduleRow, decide: Decide) -> None:
        """Carry out what is decided for a schedule with a function, if this process has that function."""
        if row.id in self._apart or not self._has_code(row):
            return
        if self._registry.calls.hangs(row.name):
            self._reports.tell_once(
                row, "it is left alone until the call returns", FunctionHangsError("its function hangs")
            )
            return

        async def carry_out() -> None:
            try:
                decided = await self._planner.decided(row, decide)
                if decided is not None:
                    await self._writer.write([decided])
            except TaskStoreError as error:  # the next poll tries again
                self._reports.tell(row, "it is tried again", error)

        task = self._apart[row.id] = self._spawn(carry_out())
        task.add_done_callback(lambda _task: self._apart.pop(row.id, None))

    def _has_code(self, row: ScheduleRow) -> bool:
        if row.payload is None and self._registry.payload_function(row.name) is None:
            return False
        try:
            recurrence = self._registry.recurrence(row.name, row.stored_recurrence())
        except InvalidRecurrenceError:  # it needs no more than to be stopped with this error
            return True
        return not (isinstance(recurrence, FunctionRecurrence) and recurrence.function is None)
