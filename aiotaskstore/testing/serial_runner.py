"""Runs tasks one at a time, in the test's own event loop: claimed, run and recorded as a dispatcher does it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aiotaskstore.dispatch.after_hooks import AfterHooks
from aiotaskstore.dispatch.assembly import run_dependencies
from aiotaskstore.dispatch.canceller import Canceller
from aiotaskstore.dispatch.dependencies import DispatcherDependencies
from aiotaskstore.dispatch.outcome_events import OutcomeEvents
from aiotaskstore.dispatch.run import Run, StopReason
from aiotaskstore.events import TaskClaimed, TaskRescued
from aiotaskstore.manage.calls import Calls
from aiotaskstore.mechanics.background_tasks import BackgroundTasks
from aiotaskstore.mechanics.hint import Hint
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.outcome import RELEASED, Lost, Outcome
from aiotaskstore.storage.operation import Operation, T
from aiotaskstore.storage.restrictions import read_restrictions
from aiotaskstore.storage.tasks import MOST_ROWS, Note, Recorded
from aiotaskstore.task import Claim, Task

if TYPE_CHECKING:
    from aiotaskstore.storage.tasks import Tasks

_STUCK_GRACE = 5.0
"""Seconds that a cancelled handler has to end."""


class SerialRunner:
    """Claims, runs and records one task after another, each of them through the store's own operations.

    All of it happens where the calls of the store do: on connections of the store's, or in the one transaction that
    the store is confined to. Nothing goes on in the background between two calls.
    """

    def __init__(self, given: DispatcherDependencies, calls: Calls) -> None:
        self._given, self._calls, self._tasks = given, calls, given.storage.tasks
        self.id: UUID = new_id()
        self._runs: dict[tuple[UUID, int], Run] = {}
        self._background = BackgroundTasks("The tester")
        self._canceller = Canceller(self.id, given.storage, self._runs)
        self._after_hooks = AfterHooks(given.run_hooks, given.storage, given.hooks, self._background)
        self._events = OutcomeEvents(given.hooks, lambda _queue, _delay: None, self._after_hooks.call)
        self._recorder = SerialRecorder(self._tasks, given, self._write)
        self._dependencies = run_dependencies(
            given, self.id, self._recorder, self._runs.values, stuck_grace=_STUCK_GRACE, lock_for=inf
        )

    def receive(self, hint: Hint) -> None:
        """Stop a run whose cancellation was requested."""
        if hint.cancel_requested and self._runs:
            self._background.spawn(self._canceller.cancel_once())

    async def promote(self) -> None:
        """Place what has become due, and grant the keys that tasks wait for and nobody holds."""
        while len(await self._write(partial(self._tasks.promote, MOST_ROWS))) == MOST_ROWS:
            pass
        after = ""
        while waiting := await self._calls.read(partial(self._tasks.waiting_keys, after), None):
            free = [one.key for one in waiting if one.free]
            if free:
                await self._write(partial(self._tasks.grant, free))
            after = waiting[-1].key

    async def claim_next(self, queues: Collection[str] | None) -> Claim | None:
        """Claim the task that comes first of all queues, or of these: by priority, then by due time."""
        restrictions = await self._calls.read(read_restrictions, None)
        pending = await self._calls.read(self._tasks.pending_queues, None)
        fronts: list[tuple[int, Any, UUID, str]] = []
        for queue in pending:
            if queue in restrictions.paused_queues or (queues is not None and queue not in queues):
                continue
            front = await self._calls.read(partial(self._tasks.peek, queue), None)
            if front is not None:
                fronts.append((front.priority, front.run_at, front.id, queue))
        aliases = [alias for alias in self._given.registry.aliases if alias not in restrictions.cancelled_aliases]
        for *_, queue in sorted(fronts):
            claims = await self._claim(self.id, queue, aliases)
            if claims:
                return claims[0]
        return None

    async def claim_one(self, task: Task, *, dispatcher: UUID | None = None) -> Claim | None:
        """Claim this one task; `None` if it is not pending, or held back. What comes before it is released again."""
        restrictions = await self._calls.read(read_restrictions, None)
        if task.queue in restrictions.paused_queues or task.alias in restrictions.cancelled_aliases:
            return None
        before: list[Claim] = []
        found: Claim | None = None
        while found is None:
            claims = await self._claim(dispatcher or self.id, task.queue, [task.alias])
            if not claims:
                break
            if claims[0].id == task.id:
                found = claims[0]
            else:
                before.append(claims[0])
        if before:
            await self.release(*before)
        return found

    async def release(self, *claims: Claim) -> None:
        """Return claimed tasks to the queue, as if they had not been claimed."""
        await self._write(partial(self._tasks.record, [(claim, RELEASED) for claim in claims]))

    async def run(self, claim: Claim) -> tuple[Outcome, BaseException | None]:
        """Run a claimed task and record how that ended; return the outcome, and the error that the run ended with.

        A caller who is cancelled stops the run and has its task released.
        """
        definition = self._given.registry.get(claim.alias)
        assert definition is not None  # noqa: S101 - only known aliases are claimed
        ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def end(_run: Run, outcome: Outcome) -> None:
            if not ended.done():
                ended.set_result(outcome)

        hooks = self._given.hooks
        if hooks.has_listener(TaskClaimed):
            hooks.emit(TaskClaimed(claim.id, claim.alias, claim.queue, claim.attempt, self.id))
        run = Run(self._dependencies, claim, definition, end)
        self._runs[claim.id, claim.fence] = run
        run.task = self._background.spawn(run.carry_out())
        run.task.add_done_callback(run.check_begun)
        try:
            outcome = await asyncio.shield(ended)
        except asyncio.CancelledError:
            run.stop(StopReason.SHUTDOWN)
            with suppress(TimeoutError):  # a handler in a thread cannot be stopped: it is left behind
                async with asyncio.timeout(2 * _STUCK_GRACE):
                    await self._record(run, await asyncio.shield(ended))
            raise
        finally:
            self._runs.pop((claim.id, claim.fence), None)
        self._background.check()
        await self._record(run, outcome)
        await self._after_hooks.idle.wait()
        return outcome, run.error

    async def crash(self, task: Task) -> bool:
        """Claim a task as a dispatcher that is dead, and rescue it; false if it could not be claimed."""
        dead = new_id()
        claim = await self.claim_one(task, dispatcher=dead)
        if claim is None:
            return False
        for one in await self._write(partial(self._tasks.rescue, dead, MOST_ROWS)):
            self._given.hooks.emit(TaskRescued(one.id, one.alias, one.queue, one.status, dead))
        await self.promote()
        return True

    def close(self) -> None:
        """Cancel what is left in the background."""
        self._after_hooks.close()
        self._background.cancel()

    async def _claim(self, dispatcher: UUID, queue: str, aliases: Sequence[str]) -> list[Claim]:
        return await self._write(partial(self._tasks.claim, dispatcher, [(queue, 1)], aliases))

    async def _record(self, run: Run, outcome: Outcome) -> None:
        claim = run.claim
        await self._recorder.reported(run)
        if isinstance(outcome, Lost):
            self._events.lost(run)
            return
        recorded = Recorded()
        if not run.recorded:
            recorded = await self._write(partial(self._tasks.record, [(claim, outcome)]))
        self._events.written(run, outcome, recorded)
        if claim.serialization_key is not None:
            await self._write(partial(self._tasks.grant, [claim.serialization_key]))

    async def _write(self, operation: Operation[T]) -> T:
        return await self._calls.write(operation, None)


class SerialRecorder:
    """Writes what runs report at once; what they append to their details, at the latest with the outcome."""

    def __init__(self, tasks: Tasks, given: DispatcherDependencies, write: Any) -> None:
        self._tasks, self._given, self._write = tasks, given, write
        self._kept: dict[Run, list[Note]] = {}

    @property
    def unwritten(self) -> list[Run]:
        """The runs with lines that are not written yet."""
        return list(self._kept)

    def ended(self, run: Run, outcome: Outcome) -> None:
        """Do nothing: a run that was given up ends here, and its outcome is recorded already."""

    async def progress(self, run: Run, text: str, fraction: float | None) -> bool:
        """Write progress, in the handler's own transaction where that keeps all others from writing."""
        note = Note(run.claim.id, run.claim.fence, (text, fraction), ())
        own = self._given.own_lock()
        if own is None:
            return await self._report([note])
        return not (await self._given.storage.database.run_on(own, lambda: self._tasks.report([note]))).lost

    def detail(self, run: Run) -> None:
        """Do nothing: the lines are written with the outcome."""

    async def reported(self, run: Run) -> bool:
        """Write the run's lines so far; false if the claim was lost."""
        notes = self._kept.pop(run, [])
        lines, bounding = run.take_lines()
        if lines:
            notes.append(Note(run.claim.id, run.claim.fence, None, lines, bounding))
        return not notes or await self._report(notes)

    def keep(self, run: Run, note: Note) -> None:
        """Keep lines that are taken from the run already."""
        self._kept.setdefault(run, []).append(note)

    async def _report(self, notes: Sequence[Note]) -> bool:
        return not (await self._write(lambda: self._tasks.report(notes))).lost
