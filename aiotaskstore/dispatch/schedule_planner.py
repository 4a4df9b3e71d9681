"""Decides what becomes of a schedule: which tasks it makes, and when it is due again. Writes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial

from aiotaskstore import occurrences
from aiotaskstore.dispatch.dependencies import PrepareOccurrence
from aiotaskstore.dispatch.firing_writer import Decided
from aiotaskstore.dispatch.schedule_reports import ScheduleReports
from aiotaskstore.errors import (
    DatabaseUnavailableError,
    DefinitionInactiveError,
    PayloadFunctionError,
    SchemaOutdatedError,
    TaskStoreError,
    UnknownAliasError,
)
from aiotaskstore.function_calls import FunctionHangsError
from aiotaskstore.occurrences import Plan, Timing
from aiotaskstore.prepared_task import PreparedTask
from aiotaskstore.recurrence import FunctionRecurrence
from aiotaskstore.schedule import ScheduleStatus
from aiotaskstore.schedule_registry import ScheduleRegistry
from aiotaskstore.storage.schedule_rows import ScheduleRow
from aiotaskstore.storage.schedules import Firing

_MOST_MISSED = 50
"""Missed occurrences of one schedule that become tasks in one transaction; the others follow in the next."""
_LIMIT = 30.0
"""Seconds that a function may take to tell the next occurrence."""

Decide = Callable[[ScheduleRow], Awaitable[Decided | None]]
"""Takes a schedule as it was read, and returns what is decided for it; `None` where it is left as it is."""


class SchedulePlanner:
    """Plans the occurrences of schedules by the database's clock, and prepares their tasks."""

    def __init__(
        self, registry: ScheduleRegistry, prepare: PrepareOccurrence, reports: ScheduleReports, *, lease: float
    ) -> None:
        self._registry, self._prepare, self._reports, self._lease = registry, prepare, reports, lease

    def advancing(self, now: datetime) -> Decide:
        """Return what decides for a schedule that is due, or has no next instant yet."""

        async def decide(row: ScheduleRow) -> Decided | None:
            timing = self._timing(row)
            plan = await self._plan(row.name, timing, row.next_run_at, now)
            tasks = {at: task for at in plan.due if (task := await self._task(row, at)) is not None}
            return self._firing(row, plan.having_made(len(tasks), timing.left), tasks, now)

        return decide

    def starting(self, now: datetime) -> Decide:
        """Return what decides for a schedule that runs when a dispatcher starts."""

        async def decide(row: ScheduleRow) -> Decided | None:
            timing = self._timing(row)
            if timing.left == 0 or not occurrences.is_open(timing, now):
                return None
            task = await self._task(row, now, f"start:{now.isoformat()}")
            tasks = {} if task is None else {now: task}
            plan = Plan((), row.next_run_at, ScheduleStatus(row.status), row.error)
            return self._firing(row, plan.having_made(len(tasks), timing.left), tasks, now, started=True)

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
                self._reports.tell(row, f"the occurrence of {occurrence} is skipped", error)
            return None

    @staticmethod
    def _firing(
        row: ScheduleRow, plan: Plan, tasks: dict[datetime, PreparedTask], now: datetime, *, started: bool = False
    ) -> Decided:
        keyed = tuple(task.keyed_row for task in tasks.values())
        firing = Firing(row.id, row.revision, plan.next_run_at, plan.status, plan.error, keyed, started)
        return Decided(row, firing, tasks, now)

    async def decided(self, row: ScheduleRow, decide: Decide) -> Decided | None:
        """Return what is decided for a schedule; `None` where it is left as it is."""
        try:
            decided = await decide(row)
        except (UnknownAliasError, DefinitionInactiveError) as error:
            self._reports.tell_once(row, "it waits until its task is known and active", error)
            return None
        except (DatabaseUnavailableError, SchemaOutdatedError):
            raise
        except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:  # what is stored is void
            decided = Decided(row, _stopped(row, error), {})
        except TaskStoreError as error:  # of this schedule alone: the others need not wait for it
            self._reports.tell_once(row, "it is tried again", error)
            return None
        if decided is not None and decided.firing.status == ScheduleStatus.INACTIVE:
            self._reports.tell(row, "it is inactive now", TaskStoreError(decided.firing.error or ""))
        return decided


def _is_function(timing: Timing) -> bool:
    """Return whether the application's own code decides when a schedule occurs."""
    return not type(timing.recurrence).__module__.startswith("aiotaskstore.recurrence.") or isinstance(
        timing.recurrence, FunctionRecurrence
    )


def _stopped(row: ScheduleRow, error: Exception) -> Firing:
    """Return what makes a schedule inactive by an error."""
    return Firing(row.id, row.revision, None, ScheduleStatus.INACTIVE, occurrences.described(error))
