"""One attempt: payload, context, timeout, handler, outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Any, Protocol
from uuid import UUID

import anyio

from aiotaskstore.carrier import Carriers
from aiotaskstore.context import TaskContext, running_context
from aiotaskstore.definition import AnyDefinition
from aiotaskstore.dispatch.deadlines import Deadlines
from aiotaskstore.dispatch.dependencies import LifespanUse
from aiotaskstore.dispatch.details import LOCK, Details
from aiotaskstore.dispatch.foreign_cancellation import let_others_run
from aiotaskstore.dispatch.handler_transaction import HandlerTransaction
from aiotaskstore.dispatch.retry_policy import Decision, RetryPolicy
from aiotaskstore.errors import ClaimLostError
from aiotaskstore.events import TaskStarted
from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.hooks import Hooks
from aiotaskstore.middleware import MiddlewareStack
from aiotaskstore.outcome import EMPTY, LOST, RELEASED, Cancelled, Failed, Outcome, Succeeded
from aiotaskstore.queue import Queue
from aiotaskstore.run_hooks import RunHooks
from aiotaskstore.run_transaction import RunTransaction, check_opening
from aiotaskstore.storage.database import Database
from aiotaskstore.storage.rows import running_task
from aiotaskstore.storage.tasks import Line, Note, Tasks
from aiotaskstore.task import Claim, Task


class StopReason(Enum):
    """Why we cancel a handler; set before the handler is cancelled."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    SHUTDOWN = "shutdown"
    LOST = "lost"
    TRANSACTION = "transaction_timeout"


class RunRecorder(Protocol):
    """Writes the reports and the outcomes of runs."""

    @property
    def unwritten(self) -> list[Run]:
        """The runs with a report or an outcome that is not written yet."""

    def ended(self, run: Run, outcome: Outcome) -> None:
        """Write an outcome soon."""

    async def progress(self, run: Run, text: str, fraction: float | None) -> bool:
        """Write progress; false if the claim was lost."""

    def detail(self, run: Run) -> None:
        """Write the run's new lines of details soon; callable from any thread."""

    async def reported(self, run: Run) -> bool:
        """Return once the run's lines of details so far are written; false if the claim was lost."""

    def keep(self, run: Run, note: Note) -> None:
        """Keep lines that are taken from the run already, to be written before its outcome."""


@dataclass(frozen=True, slots=True)
class RunDependencies:
    """The dependencies that all runs of a dispatcher instance share."""

    dispatcher_id: UUID
    database: Database
    hooks: Hooks
    run_hooks: RunHooks
    carriers: Carriers
    middleware: MiddlewareStack
    lifespan: LifespanUse
    recorder: RunRecorder
    deadlines: Deadlines
    threads: anyio.CapacityLimiter
    store: Any
    """The object that handlers see as `context.store`."""
    queues: Mapping[str, Queue]
    """Queue defaults by name."""
    result_limit: int
    stuck_grace: float
    tasks: Tasks
    """The operations that record a success in the handler's own transaction."""
    run_transaction: Callable[[Callable[[], None]], RunTransaction]
    """Makes the transaction of one run; calls what it is given if the transaction takes too long."""


class Run:
    """One attempt under way. `claim` allows it to write; `reason` says why it was asked to stop, if it was."""

    __slots__ = (
        "_cancellable",
        "_decode_error",
        "_definition",
        "_dependencies",
        "_details",
        "_ended",
        "_over",
        "_timer",
        "_transaction",
        "abandoned",
        "begun",
        "claim",
        "context",
        "deadline",
        "error",
        "maybe_committed",
        "reason",
        "recorded",
        "started",
        "task",
        "took",
        "undecodable",
    )  # fmt: skip

    def __init__(
        self,
        dependencies: RunDependencies,
        claim: Claim,
        definition: AnyDefinition,
        ended: Callable[[Run, Outcome], None],
    ) -> None:
        self._dependencies, self._definition, self._ended = dependencies, definition, ended
        self.claim: Claim = claim
        self.reason: StopReason | None = None
        self.error: BaseException | None = None
        self.task: asyncio.Task[None] | None = None
        self.context: TaskContext | None = None
        """Kept for the hooks after the run; `None` without any."""
        self.begun: float = time.monotonic()
        self.started: float = 0.0
        self.took: float = 0.0
        self.deadline: float = inf
        self._timer: asyncio.TimerHandle | None = None
        self.abandoned: bool = False
        self.undecodable: bool = False
        """Whether the handler was not called, since the payload did not fit it."""
        self._details: Details | None = None
        self._cancellable = definition.is_async
        self._transaction: HandlerTransaction | None = None
        self._over: bool = False
        self._decode_error: BaseException | None = None
        self.recorded: bool = False
        """Whether the outcome is stored already: its handler's transaction has committed it."""
        self.maybe_committed: Succeeded | None = None
        """The success that the handler's transaction may have committed, though the reply was lost."""

    # ── the attempt ───────────────────────────────────────────────────────────────────────────────────────

    async def carry_out(self) -> None:
        """Run the handler and pass its outcome on. An exception of the handler becomes an outcome and is not raised."""
        outcome = await self._attempt()
        if self._transaction is not None:
            outcome = await self._end_transaction(self._transaction, outcome)
        if self._timer is not None:
            self._timer.cancel()
        if not self.abandoned:
            self.took = time.perf_counter() - self.started
            self.task = None  # else task, context and run are a cycle, which costs the garbage collector 7 µs a task
            self._ended(self, outcome)
        elif self.reason is StopReason.LOST and isinstance(outcome, Succeeded):
            # The slot was freed when the run was abandoned, and no outcome is written yet.
            self._dependencies.recorder.ended(self, outcome)

    def check_begun(self, task: asyncio.Task[None]) -> None:
        """End the run if its asyncio task was cancelled before the first step: then `carry_out` has never begun."""
        if task.cancelled() and not self.started:
            self.task = None
            self._ended(self, self._raised(asyncio.CancelledError()))

    async def _attempt(self) -> Outcome:
        self.started = time.perf_counter()
        if self.reason is not None:  # asked to stop before the first step
            return self._stopped(asyncio.CancelledError())
        context = self._enter()
        call = self._call_through_middleware if self._dependencies.middleware.stack else self._inner_call
        try:
            value = await call(context)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - any exception of the handler is an outcome
            if error is self._decode_error:
                self.undecodable = True
                return self._decided(self._policy.undecodable(error))
            if isinstance(error, asyncio.CancelledError) and self.reason is None:
                await let_others_run()
            return self._raised(error)
        return self._returned(value, context)

    @property
    def _inner_call(self) -> Callable[[TaskContext], Coroutine[Any, Any, Any]]:
        """What middleware is around: the handler, and the hooks before it if there are any."""
        return self._call_within_hooks if self._dependencies.run_hooks.has_before else self._call_handler

    def _call_handler(self, context: TaskContext) -> Coroutine[Any, Any, Any]:
        """Decode the payload, and return the coroutine that calls the handler."""
        try:
            arguments = self._definition.payload.decode(self.claim.payload)
        except BaseException as error:  # validators of the argument types are code of the application
            self._decode_error = error
            raise
        self._emit_started()
        return self._definition.invoke(context, arguments, self._dependencies.threads)

    async def _call_through_middleware(self, context: TaskContext) -> Any:
        self._cancellable = True  # whatever the handler is
        return await self._dependencies.middleware.call(context, self._call_within_middleware)

    async def _call_within_middleware(self, context: TaskContext) -> Any:
        """Call hooks and handler, unless the run was asked to end before: a middleware may have swallowed that."""
        if self.reason is not None:
            raise asyncio.CancelledError
        self._cancellable = self._definition.is_async
        try:
            return await self._inner_call(context)
        finally:
            if self.reason is not None and not self._cancellable:  # asked to end while its thread could not be stopped
                self._timer = self._later(self._cancel)
            self._cancellable = True

    async def _end_transaction(self, transaction: HandlerTransaction, outcome: Outcome) -> Outcome:
        """Commit the handler's transaction together with its success; roll it back with any other outcome."""
        self._over = True  # from here on no stop cancels
        if self._timer is not None:
            self._timer.cancel()
        reply = await transaction.end(outcome)
        if not isinstance(outcome, Succeeded):
            return outcome
        self.recorded = reply.committed
        if reply.committed:
            return outcome
        for note in transaction.notes:
            self._dependencies.recorder.keep(self, note)
        if reply.refused:
            return LOST
        if reply.error is None:  # rolled back before: its block raised, and the handler has handled that
            return LOST if self.abandoned else outcome
        self.maybe_committed = outcome if reply.maybe_committed else None
        return self._decided(self._policy.uncommitted(reply.error))

    def _enter(self) -> TaskContext:
        context, dependencies = TaskContext(self, self._dependencies.store), self._dependencies
        running_context.set(context)
        if dependencies.carriers:
            dependencies.carriers.restore(context, self.claim.metadata, self.claim.queue)
        if self.claim.timeout is not None:
            dependencies.deadlines.arm(self, self.claim.timeout)
        if dependencies.run_hooks.has_after:
            self.context = context
        return context

    async def _call_within_hooks(self, context: TaskContext) -> Any:
        """Call the hooks before the handler, then the handler, unless the run was asked to end meanwhile."""
        self._cancellable = True  # whatever the handler is
        await self._dependencies.run_hooks.call_before(context, self.claim.queue)
        if self.reason is not None:
            raise asyncio.CancelledError
        self._cancellable = self._definition.is_async
        return await self._call_handler(context)

    def _emit_started(self) -> None:
        claim, hooks = self.claim, self._dependencies.hooks
        if hooks.has_listener(TaskStarted):
            hooks.emit(TaskStarted(claim.id, claim.alias, claim.queue, claim.attempt, self.dispatcher_id))

    def _returned(self, value: Any, context: TaskContext) -> Outcome:
        # Also if the claim was taken for lost: a late success counts, unless the task was claimed again.
        result, limit = self._definition.result, self._dependencies.result_limit
        try:
            if value is None and context.output is None and result.may_be_none:
                return EMPTY
            return Succeeded(result.encode_returned(value, context.output, limit))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - serializers of the result type are code of the application
            return self._raised(error)

    def _raised(self, error: BaseException) -> Outcome:
        if self.reason is not None:
            return self._stopped(error)
        return self._decided(self._policy.raised(error))

    def _stopped(self, error: BaseException) -> Outcome:
        """Choose the outcome of a run that ended with an exception after we asked it to stop."""
        self.error = error
        match self.reason:
            case StopReason.LOST:
                return LOST
            case StopReason.CANCEL:
                return Cancelled(FinishReason.REQUEST)
            case StopReason.SHUTDOWN:
                return RELEASED
            case StopReason.TRANSACTION:
                assert self._transaction is not None  # noqa: S101 - it has expired
                late = self._transaction.overtime().with_traceback(error.__traceback__)
                return self._decided(self._policy.raised(late))
            case _ if isinstance(error, asyncio.CancelledError):
                message = f"the handler took longer than its timeout of {self.claim.timeout:g} s"
                where = error.__traceback__  # shows where the handler was when its time was over
                return self._decided(self._policy.timed_out(TimeoutError(message).with_traceback(where)))
            case _:
                self.reason = None
                return self._raised(error)

    def _decided(self, decision: Decision) -> Outcome:
        self.error = decision.error
        return decision.outcome

    @property
    def _policy(self) -> RetryPolicy:
        queue = self._dependencies.queues.get(self.claim.queue)
        return RetryPolicy(self.claim, self._definition.defaults, queue)

    # ── stopping ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def stopping(self) -> bool:
        """Whether the run was asked to end."""
        return self.reason is not None

    def stop(self, reason: StopReason) -> None:
        """Ask the handler to end, and keep the reason. A lost claim replaces every other reason."""
        if self.reason is not None or self._over:
            if reason is StopReason.LOST:
                self.reason = reason
            return
        self.reason = reason
        if not self._cancellable or self.task is None or not self.started:
            return  # a thread cannot be stopped; a run that has not begun sees the reason when it begins
        self._cancel()

    def _cancel(self) -> None:
        """Cancel the run's asyncio task; give the run up if that is ignored."""
        if self.task is not None:
            self.task.cancel()
            self._timer = self._later(self._give_up)

    def _later(self, act: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._dependencies.stuck_grace, act)

    def overrun(self) -> None:
        """Stop the run, since its timeout has passed."""
        self.stop(StopReason.TIMEOUT)

    def _transaction_expired(self) -> None:
        """Stop the run, since its transaction was rolled back: it took too long."""
        self.stop(StopReason.TRANSACTION)

    def _give_up(self) -> None:
        """End the run of a handler that ignores its cancellation. The task is not retried: the handler may go on."""
        self.abandoned = True
        self.took = time.perf_counter() - self.started
        assert self.reason is not None  # noqa: S101 - the timer is started by stop()
        message = f"the handler ignored its cancellation ({self.reason.value}) and may still be running"
        self.error = TimeoutError(message)
        if self._transaction is not None:
            self._transaction.take_away()
        stuck = Failed("Stuck", message, FinishReason.STUCK)
        self._ended(self, LOST if self.reason is StopReason.LOST else stuck)

    # ── for the context ───────────────────────────────────────────────────────────────────────────────────

    def snapshot(self) -> Task:
        """Return the task as it was claimed."""
        return running_task(self.claim, self._dependencies.dispatcher_id, self._dependencies.database)

    async def report_progress(self, text: str, fraction: float | None) -> None:
        """Store progress. Raises `ClaimLostError` if the claim is lost."""
        if not await self._dependencies.recorder.progress(self, text, fraction):
            self.stop(StopReason.LOST)
            raise ClaimLostError(self.claim.id)

    def append_detail(self, text: str) -> None:
        """Keep a line of details until it is written with the next batch; callable from the handler's thread."""
        if self._details is None:
            with LOCK:  # a handler may append from several threads
                self._details = self._details or Details(later_attempt=self.claim.fence > 1)
        if self._details.add(text) and self._transaction is None:  # else it is written with the success, or the outcome
            self._dependencies.recorder.detail(self)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """Open the run's transaction. It is committed, or rolled back, when the handler has ended."""
        check_opening(self._transaction, None if self._over else self.task)
        given = self._dependencies
        begun = given.run_transaction(self._transaction_expired)
        transaction = HandlerTransaction(begun, given.tasks, self.claim, self.take_lines)
        if self._details is not None and not await given.recorder.reported(self):
            self.stop(StopReason.LOST)
            raise ClaimLostError(self.claim.id)
        self._transaction = transaction
        async with transaction.block() as connection:
            yield connection

    @property
    def waiting_characters(self) -> int:
        """How many characters of details `take_lines` would return."""
        return self._details.characters if self._details is not None else 0

    def take_lines(self) -> tuple[tuple[Line, ...], bool]:
        """Return the lines that no batch contains yet, and whether the task may have too many lines with them."""
        return self._details.take() if self._details is not None else ((), False)

    @property
    def age(self) -> float:
        """Seconds since the task was created: until the claim by the database's clock, from then on by ours."""
        instant = self._dependencies.database.instant
        claimed_after = (instant(self.claim.started_at) - instant(self.claim.created_at)).total_seconds()
        return max(0.0, claimed_after) + time.monotonic() - self.begun

    @property
    def state(self) -> Any:
        """What the store's lifespan function yielded."""
        return self._dependencies.lifespan.state

    @property
    def task_id(self) -> UUID:
        """The task's id."""
        return self.claim.id

    @property
    def dispatcher_id(self) -> UUID:
        """The dispatcher whose run it is."""
        return self._dependencies.dispatcher_id

    @property
    def stop_reason(self) -> str | None:
        """Why the end of the run was requested."""
        return None if self.reason is None else self.reason.value

    @property
    def log_fields(self) -> dict[str, Any]:
        """What the log records of this run are marked with."""
        claim, dispatcher = self.claim, str(self.dispatcher_id)
        return {
            "task_id": str(claim.id), "alias": claim.alias, "queue": claim.queue, "attempt": claim.attempt,
            "dispatcher": dispatcher,
        }  # fmt: skip

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self.claim.attempt

    @property
    def metadata(self) -> str | None:
        """The task's metadata as JSON text."""
        return self.claim.metadata
