"""The tasks in flight: claimed tasks until their runs have ended, and the slots that they take."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from uuid import UUID

from aiotaskstore.dispatch.run import Run, RunDependencies, StopReason
from aiotaskstore.dispatch.slots import Slots
from aiotaskstore.errors import UnknownAliasError
from aiotaskstore.events import TaskClaimed, TasksClaimed
from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.mechanics.text import size_in_bytes
from aiotaskstore.mechanics.timed_event import TimedEvent
from aiotaskstore.noop_task import noop
from aiotaskstore.outcome import Failed, Outcome
from aiotaskstore.registry import Registry
from aiotaskstore.task import Claim

_AT_ONCE = 50
"""Runs begun in one turn of the event loop."""


class InFlight:
    """The claims and runs of one dispatcher instance. `emptied` is called when the last of them has ended."""

    def __init__(
        self,
        slots: Slots,
        dependencies: RunDependencies,
        *,
        registry: Registry,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        emptied: Callable[[], None],
    ) -> None:
        self.slots: Slots = slots
        self.runs: dict[tuple[UUID, int], Run] = {}
        """The runs of this dispatcher instance, by task and fence."""
        self.abandoned: int = 0
        """Handlers that ignored their cancellation and may still be running."""
        self.empty: TimedEvent = TimedEvent()
        """Set while nothing is claimed or running."""
        self.empty.set()
        self._dependencies, self._recorder, self._hooks = dependencies, dependencies.recorder, dependencies.hooks
        self._registry, self._spawn, self._emptied = registry, spawn, emptied
        self._claimed: deque[Claim] = deque()
        self._ended = self.ended  # one bound method for every run

    def begin(self, claims: Sequence[Claim], took: float = 0.0) -> None:
        """Run the tasks of a claim that took so many seconds, some in each turn of the event loop.

        So other tasks of the event loop get their turn, and the objects of a short run are freed before the garbage
        collector takes them for long-lived: 19 instead of 24 µs a task.
        """
        if claims and self._hooks.has_listener(TasksClaimed):
            queues = tuple(sorted({claim.queue for claim in claims}))
            self._hooks.emit(TasksClaimed(self._dependencies.dispatcher_id, queues, len(claims), took))
        for claim in claims:
            self.slots.take(claim.queue)
        under_way = bool(self._claimed)
        self._claimed.extend(claims)
        if claims and not under_way:
            self.empty.clear()
            self._begin_some()

    def ended(self, run: Run, outcome: Outcome) -> None:
        """Free the run's slot, and let the recorder write its outcome."""
        self.runs.pop((run.claim.id, run.claim.fence), None)
        self.slots.release(run.claim.queue)
        self._recorder.ended(run, outcome)
        if run.abandoned:
            self.abandoned += 1
        if not (self.runs or self._claimed):
            self.empty.set()
            self._emptied()

    def stop(self, reason: StopReason) -> None:
        """Stop all runs. The reason is `LOST` if other dispatchers have claimed the tasks, or soon may."""
        self._begin_some(len(self._claimed))
        for run in list(self.runs.values()):
            run.stop(reason)

    def stop_unlisted(self, listed: frozenset[tuple[UUID, int]], at: float) -> None:
        """Stop as lost each run begun before `at` whose claim is not in `listed`, the list of the database."""
        for claim, run in list(self.runs.items()):
            if run.begun < at and claim not in listed:
                run.stop(StopReason.LOST)

    def claims(self) -> frozenset[tuple[UUID, int]]:
        """Return the claims that wait to run, run, or have an outcome that is not written yet: (id, fence) each."""
        runs = [*self.runs.values(), *self._recorder.unwritten]
        return frozenset((claim.id, claim.fence) for claim in [*self._claimed, *(run.claim for run in runs)])

    def runs_current_task(self) -> bool:
        """Return whether the caller is the handler of one of the runs."""
        task = asyncio.current_task()
        return any(run.task is task for run in self.runs.values())

    def _begin_some(self, most: int = _AT_ONCE) -> None:
        for _ in range(min(most, len(self._claimed))):
            self._begin(self._claimed.popleft())
        if self._claimed:
            asyncio.get_running_loop().call_soon(self._begin_some)

    def _begin(self, claim: Claim) -> None:
        definition = self._registry.get(claim.alias)
        if self._hooks.has_listener(TaskClaimed):
            self._hooks.emit(self._claimed_event(claim))
        if definition is None:
            self._missing(claim)
            return
        run = Run(self._dependencies, claim, definition, self._ended)
        earlier = self.runs.get((claim.id, claim.fence - 1))
        if earlier is not None:  # its task was rescued by another dispatcher, and claimed here again
            earlier.stop(StopReason.LOST)
        self.runs[claim.id, claim.fence] = run
        run.task = self._spawn(run.carry_out())
        run.task.add_done_callback(run.check_begun)

    def _claimed_event(self, claim: Claim) -> TaskClaimed:
        dispatcher_id, instant = self._dependencies.dispatcher_id, self._dependencies.database.instant
        wait = (instant(claim.started_at) - instant(claim.run_at)).total_seconds()
        size = size_in_bytes(claim.payload)
        return TaskClaimed(claim.id, claim.alias, claim.queue, claim.attempt, dispatcher_id, max(0.0, wait), size)

    def _missing(self, claim: Claim) -> None:
        """Fail a task that no handler here can run (`on_missing="fail"`)."""
        run = Run(self._dependencies, claim, noop, self._ended)
        run.error = UnknownAliasError(claim.alias, self._registry.aliases)
        self.ended(run, Failed("UnknownAliasError", f'no task is registered as "{claim.alias}"', FinishReason.MISSING))
