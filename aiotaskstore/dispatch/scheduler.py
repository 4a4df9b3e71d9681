"""Makes tasks of schedules: each occurrence becomes exactly one, whoever and how many look."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from aiotaskstore import occurrences
from aiotaskstore.dispatch.dependencies import KeyGrants, PrepareOccurrence
from aiotaskstore.dispatch.dispatcher_settings import DispatcherSettings
from aiotaskstore.dispatch.loops import jittered
from aiotaskstore.errors import (
    DatabaseUnavailableError,
    DefinitionInactiveError,
    InvalidRecurrenceError,
    PayloadFunctionError,
    SchemaOutdatedError,
    TaskStoreError,
    UnknownAliasError,
)
from aiotaskstore.events import BackgroundFailed, ScheduleFired, TaskEnqueued
from aiotaskstore.function_calls import FunctionHangsError
from aiotaskstore.hooks import Hooks
from aiotaskstore.mechanics.bisecting import write_bisecting
from aiotaskstore.mechanics.hint import Hint
from aiotaskstore.mechanics.text import printable
from aiotaskstore.mechanics.timed_event import TimedEvent
from aiotaskstore.occurrences import Plan, Timing
from aiotaskstore.prepared_task import PreparedTask
from aiotaskstore.recurrence import FunctionRecurrence
from aiotaskstore.schedule import ScheduleStatus
from aiotaskstore.schedule_registry import ScheduleRegistry
from aiotaskstore.storage.faults import Conflict
from aiotaskstore.storage.operation import Steps
from aiotaskstore.storage.schedule_rows import ScheduleRow
from aiotaskstore.storage.schedules import Firing
from aiotaskstore.storage.storage import Storage

_AT_ONCE = 250
"""Schedules in one transaction."""
_MOST_MISSED = 50
"""Missed occurrences of one schedule that become tasks in one transaction; the others follow in the next."""
_BARELY = 0.002
"""Seconds added to a wait for the next occurrence, so that it is due by the database's clock when we look."""
_REFUSED_FOR = 60.0
"""Seconds until a schedule is tried again that the database has refused to carry out."""
_MOST_TOLD = 10_000
"""Schedules of which it is remembered what was told; those that are deleted meanwhile are among them."""
_LIMIT = 30.0
"""Seconds that a function may take to tell the next occurrence."""


class _Decided(NamedTuple):
    """What is to be written for a schedule, and the tasks it makes by their occurrences."""

    row: ScheduleRow
    firing: Firing
    tasks: dict[datetime, PreparedTask]


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
        self._database, self._schedules, self._hooks = storage.database, storage.schedules, hooks
        self._poll_interval, self._lease = settings.schedule_every or settings.poll_interval, settings.lease
        self._registry, self._prepare, self._notify, self._spawn = registry, prepare, notify, spawn
        self._key_grants = key_grants
        self._changed = TimedEvent()
        self._next_in: float | None = None
        self._started = False
        self._apart: dict[UUID, asyncio.Task[None]] = {}
        """Schedules with functions that are being carried out."""
        self._written = 0
        """How many schedules were written by this scheduler."""
        self._told: dict[UUID, str] = {}
        """Why schedules could not be carried out, so that it is told once."""
        self._refused_until: dict[UUID, float] = {}
        """When schedules that the database has refused are tried again, on the event loop's clock."""

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
        before = self._written
        seen = await self._database.read(self._schedules.look)
        if seen.without_next:
            await self._all(self._schedules.without_next, self._advancing(seen.now))
        if not self._started:
            await self._all(partial(self._schedules.to_start, self._lease), self._starting(seen.now))
            self._started = True
        if seen.due:
            await self._all(partial(self._schedules.due, seen.now), self._advancing(seen.now))
        if seen.without_next or seen.due:
            seen = await self._database.read(self._schedules.look)
        more = seen.due and self._written > before
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

    # ── deciding ──────────────────────────────────────────────────────────────────────────────────────────

    async def _all(
        self,
        fetch: Callable[[ScheduleRow | None, int], Steps[list[ScheduleRow]]],
        decide: Callable[[ScheduleRow], Awaitable[_Decided | None]],
    ) -> None:
        """Carry out what is decided for every schedule that is fetched, a batch at a time."""
        after: ScheduleRow | None = None
        while rows := await self._database.read(partial(fetch, after, _AT_ONCE)):
            decided = []
            for row in rows:
                await asyncio.sleep(0)  # many schedules that are far behind must not keep the event loop
                if self._refused_until.get(row.id, 0) > asyncio.get_running_loop().time():
                    continue
                if self._is_code(row):
                    self._carry_out_apart(row, decide)
                elif (one := await self._decided(row, decide)) is not None:
                    decided.append(one)
            await self._write(decided)
            after = rows[-1]

    def _advancing(self, now: datetime) -> Callable[[ScheduleRow], Awaitable[_Decided | None]]:
        async def decide(row: ScheduleRow) -> _Decided | None:
            timing = self._timing(row)
            plan = await self._plan(row.name, timing, row.next_run_at, now)
            tasks = {at: task for at in plan.due if (task := await self._task(row, at)) is not None}
            return self._firing(row, plan.having_made(len(tasks), timing.left), tasks)

        return decide

    def _starting(self, now: datetime) -> Callable[[ScheduleRow], Awaitable[_Decided | None]]:
        async def decide(row: ScheduleRow) -> _Decided | None:
            timing = self._timing(row)
            if timing.left == 0 or not occurrences.is_open(timing, now):
                return None
            task = await self._task(row, now, f"start:{now.isoformat()}")
            tasks = {} if task is None else {now: task}
            plan = Plan((), row.next_run_at, ScheduleStatus(row.status), row.error)
            return self._firing(row, plan.having_made(len(tasks), timing.left), tasks, started=True)

        return decide

    def _timing(self, row: ScheduleRow) -> Timing:
        return row.timing(self._registry.recurrence(row.name, row.stored_recurrence()))

    async def _plan(self, name: str, timing: Timing, planned: datetime | None, now: datetime) -> Plan:
        tolerance = timedelta(seconds=self._lease)
        if planned is None:
            plan = partial(occurrences.begin, timing, now)
        else:
            plan = partial(occurrences.advance, timing, planned, now, tolerance=tolerance, most=_MOST_MISSED)
        if not _is_function(timing):
            return plan()
        try:
            async with asyncio.timeout(_LIMIT):
                return await self._registry.calls.call(name, plan)
        except TimeoutError:
            return Plan((), None, ScheduleStatus.INACTIVE, f"Its recurrence did not answer within {_LIMIT:g} s.")

    async def _task(self, row: ScheduleRow, occurrence: datetime, name: str | None = None) -> PreparedTask | None:
        """Prepare the task of an occurrence; `None` where the occurrence is skipped."""
        try:
            return await self._prepare(row, occurrence, name)
        except PayloadFunctionError as error:
            hangs = isinstance(error.__cause__, FunctionHangsError)  # of several missed ones, the first was told of
            if not hangs:
                self._tell(row, f"the occurrence of {occurrence} is skipped", error)
            return None

    @staticmethod
    def _firing(
        row: ScheduleRow, plan: Plan, tasks: dict[datetime, PreparedTask], *, started: bool = False
    ) -> _Decided:
        keyed = tuple(task.keyed_row for task in tasks.values())
        firing = Firing(row.id, row.revision, plan.next_run_at, plan.status, plan.error, keyed, started)
        return _Decided(row, firing, tasks)

    async def _decided(
        self, row: ScheduleRow, decide: Callable[[ScheduleRow], Awaitable[_Decided | None]]
    ) -> _Decided | None:
        """Return what is decided for a schedule; `None` where it is left as it is."""
        try:
            decided = await decide(row)
        except (UnknownAliasError, DefinitionInactiveError) as error:
            self._tell_once(row, "it waits until its task is known and active", error)
            return None
        except (DatabaseUnavailableError, SchemaOutdatedError):
            raise
        except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:  # what is stored is void
            decided = _Decided(row, _stopped(row, error), {})
        except TaskStoreError as error:  # of this schedule alone: the others need not wait for it
            self._tell_once(row, "it is tried again", error)
            return None
        if decided is not None and decided.firing.status == ScheduleStatus.INACTIVE:
            self._tell(row, "it is inactive now", TaskStoreError(decided.firing.error or ""))
        return decided

    # ── with functions ────────────────────────────────────────────────────────────────────────────────────

    def _is_code(self, row: ScheduleRow) -> bool:
        """Return whether a schedule needs a function."""
        if row.payload is None:
            return True
        try:
            return isinstance(row.stored_recurrence(), FunctionRecurrence)
        except InvalidRecurrenceError:
            return False

    def _carry_out_apart(self, row: ScheduleRow, decide: Callable[[ScheduleRow], Awaitable[_Decided | None]]) -> None:
        """Carry out what is decided for a schedule with a function, if this process has that function."""
        if row.id in self._apart or not self._has_code(row):
            return
        if self._registry.calls.hangs(row.name):
            self._tell_once(row, "it is left alone until the call returns", FunctionHangsError("its function hangs"))
            return

        async def carry_out() -> None:
            try:
                decided = await self._decided(row, decide)
                if decided is not None:
                    await self._write([decided])
            except TaskStoreError as error:  # the next poll tries again
                self._tell(row, "it is tried again", error)

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

    # ── writing ───────────────────────────────────────────────────────────────────────────────────────────

    async def _write(self, decided: Sequence[_Decided]) -> None:
        """Write what was decided; one schedule that the database refuses stops none of the others."""
        if not decided:
            return
        unavailable: TaskStoreError | None = None
        made: list[PreparedTask] = []
        replies = await write_bisecting(self._write_some, decided)
        for one, reply in zip(decided, replies, strict=True):
            if isinstance(reply, DatabaseUnavailableError | SchemaOutdatedError):
                unavailable = reply
            elif isinstance(reply, TaskStoreError):
                self._refused(one.row, reply)
            elif reply is not None:
                made += self._fired(one, reply)
        self._announce(made)
        if unavailable is not None:
            raise unavailable

    async def _write_some(self, decided: Sequence[_Decided]) -> list[list[UUID] | None]:
        operation = partial(self._schedules.fire, [one.firing for one in decided])
        made = await self._database.write(operation, retry_held=False)
        return [made.get(one.row.id) for one in decided]

    def _refused(self, row: ScheduleRow, error: TaskStoreError) -> None:
        """Leave a schedule alone for a while: it is still due, and whoever put it right need not know of it."""
        if isinstance(error, Conflict):  # the next poll tries again
            return
        self._refused_until[row.id] = asyncio.get_running_loop().time() + _REFUSED_FOR
        self._tell_once(row, f"it is tried again in {_REFUSED_FOR:g} s", error)

    def _fired(self, one: _Decided, made: Sequence[UUID]) -> list[PreparedTask]:
        """Tell of the tasks that are stored now, and return them."""
        self._written += 1
        self._told.pop(one.row.id, None)
        self._refused_until.pop(one.row.id, None)
        stored = {occurrence: task for occurrence, task in one.tasks.items() if task.row.id in made}
        for occurrence, task in stored.items():
            row = task.row
            if self._hooks.has_listener(TaskEnqueued):
                self._hooks.emit(TaskEnqueued(row.id, row.alias, row.queue))
            self._hooks.emit(ScheduleFired(row.id, row.alias, row.queue, one.row.id, one.row.name, occurrence))
        return list(stored.values())

    def _announce(self, made: Sequence[PreparedTask]) -> None:
        """Wake whoever can run what is stored now; what has a serialization key, once that is granted."""
        queues = {one.row.queue for one in made if not one.row.delay and one.waits_for is None}
        hint = Hint(frozenset(queues), scheduled=any(one.row.delay for one in made))
        if hint:
            self._notify(hint)
        keys = {one.waits_for for one in made if one.waits_for is not None}
        if keys:
            self._key_grants.grant_soon(keys)

    def _tell_once(self, row: ScheduleRow, what: str, error: Exception) -> None:
        """Report an error that stays the same at each poll."""
        if self._told.get(row.id) != str(error):
            if len(self._told) >= _MOST_TOLD:
                self._told.clear()
            self._told[row.id] = str(error)
            self._tell(row, what, error)

    def _tell(self, row: ScheduleRow, what: str, error: Exception) -> None:
        """Report an error that concerns one schedule."""
        said = TaskStoreError(f'The schedule "{row.name}": {what}: {type(error).__name__}: {printable(error)}')
        said.__cause__ = error
        self._hooks.emit(BackgroundFailed("scheduler", said, 0, row.queue))


def _is_function(timing: Timing) -> bool:
    """Return whether the application's own code decides when a schedule occurs."""
    return not type(timing.recurrence).__module__.startswith("aiotaskstore.recurrence.") or isinstance(
        timing.recurrence, FunctionRecurrence
    )


def _stopped(row: ScheduleRow, error: Exception) -> Firing:
    """Return what makes a schedule inactive by an error."""
    return Firing(row.id, row.revision, None, ScheduleStatus.INACTIVE, occurrences.described(error))
