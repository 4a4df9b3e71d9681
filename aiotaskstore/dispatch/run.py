"""One attempt: payload, context, timeout, handler, outcome."""

from __future__ import annotations

import asyncio
import time
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aiotaskstore.backoff import exponential
from aiotaskstore.context import TaskContext, running_context
from aiotaskstore.definition import AnyDefinition
from aiotaskstore.directives import Cancel, Fail, Snooze, find_retry
from aiotaskstore.duration import seconds
from aiotaskstore.errors import ClaimLostError, ConfigurationError
from aiotaskstore.events import TaskStarted
from aiotaskstore.outcome import (
    EMPTY,
    LOST,
    RELEASED,
    Cancelled,
    Failed,
    Outcome,
    Retrying,
    Snoozed,
    Succeeded,
)
from aiotaskstore.storage.rows import running_task
from aiotaskstore.task import Claim, Task
from aiotaskstore.text import printable

if TYPE_CHECKING:
    from aiotaskstore.dispatch.shift import Shift

_DEFAULT_BACKOFF = exponential()


class StopReason(Enum):
    """Why we cancel a handler; written down before the cancellation is sent."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    SHUTDOWN = "shutdown"
    LOST = "lost"


class Run:
    """One attempt under way. `claim` is its right to write; `reason` is why it was asked to stop."""

    __slots__ = (
        "_definition",
        "_lines",
        "_number",
        "_shift",
        "_timer",
        "abandoned",
        "begun",
        "claim",
        "deadline",
        "error",
        "reason",
        "started",
        "task",
        "took",
    )  # fmt: skip

    def __init__(self, shift: Shift, claim: Claim, definition: AnyDefinition) -> None:
        self._shift, self._definition = shift, definition
        self.claim: Claim = claim
        self.reason: StopReason | None = None
        self.error: BaseException | None = None
        self.task: asyncio.Task[None] | None = None
        self.begun: float = time.monotonic()
        self.started: float = 0.0
        self.took: float = 0.0
        self.deadline: float = inf
        self._timer: asyncio.TimerHandle | None = None
        self.abandoned: bool = False
        self._lines: list[tuple[int, str]] | None = None
        self._number = 0

    # ── the attempt ───────────────────────────────────────────────────────────────────────────────────────

    async def carry_out(self) -> None:
        """Run the handler and hand its outcome over; nothing that a handler raises comes out."""
        outcome = await self._attempt()
        if self._timer is not None:
            self._timer.cancel()
        if not self.abandoned:
            self.took = time.perf_counter() - self.started
            self.task = None  # or task, context and run keep each other for the garbage collector: 7 µs a task
            self._shift.ended(self, outcome)

    async def _attempt(self) -> Outcome:
        self.started = time.perf_counter()
        if self.reason is not None:  # asked to stop before the first step
            return self._stopped(asyncio.CancelledError())
        try:
            arguments = self._definition.payload.decode(self.claim.payload)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - the types' validators are the application's code too
            return self._undecodable(error)
        context = TaskContext(self, self._shift.store)
        running_context.set(context)
        if self.claim.timeout is not None:
            self._shift.deadlines.arm(self, self.claim.timeout)
        hooks = self._shift.hooks
        if hooks.hears(TaskStarted):
            hooks.emit(TaskStarted(self.claim.id, self.claim.alias, self.claim.queue, self.claim.attempt))
        try:
            value = await self._definition.invoke(context, arguments, self._shift.threads)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is how this attempt ended
            return self._raised(error)
        return self._returned(value, context)

    def _returned(self, value: Any, context: TaskContext) -> Outcome:
        if self.reason is StopReason.LOST:
            return LOST
        if value is None:
            value = context.output
            if value is None:
                return EMPTY
        try:
            return Succeeded(self._definition.result.encode(value, self._shift.result_limit))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - and so are their serializers
            return self._failed(error, "error")

    def _raised(self, error: BaseException) -> Outcome:
        self.error = error
        if self.reason is not None:
            return self._stopped(error)
        match error:
            case Snooze(delay=delay):
                return Snoozed(delay)
            case Cancel(reason=why):
                return Cancelled("handler", printable(why))
            case Fail(reason=why):
                return Failed("Fail", printable(why), "handler")
            case _:
                return self._judge(error)

    def _stopped(self, error: BaseException) -> Outcome:
        """Choose the outcome of a run that ended with an exception after we asked it to stop."""
        match self.reason:
            case StopReason.LOST:
                return LOST
            case StopReason.CANCEL:
                return Cancelled("request")
            case StopReason.SHUTDOWN:
                return RELEASED
            case _ if isinstance(error, asyncio.CancelledError):
                self.error = TimeoutError(f"the handler took longer than its timeout of {self.claim.timeout:g} s")
                return self._judge(self.error)
            case _:
                self.reason = None
                return self._raised(error)

    def _judge(self, error: BaseException) -> Outcome:
        """Decide whether an error is worth another attempt, and when."""
        claim, options = self.claim, self._definition.defaults
        retry = find_retry(error)
        if retry is None and not options.retries(error):
            return self._failed(error, "error")
        if claim.attempt >= claim.max_attempts:
            timed_out = isinstance(error, TimeoutError) and error is self.error and claim.max_attempts == 1
            return self._failed(error, "timeout" if timed_out else "exhausted" if claim.max_attempts > 1 else "error")
        if retry is not None and retry.delay is not None:
            delay = retry.delay
        else:
            try:
                delay = seconds(self._backoff()(claim.attempt, error), "backoff")
            except KeyboardInterrupt:
                raise
            except BaseException as broken:  # noqa: BLE001 - a broken backoff must not lose the attempt's outcome
                broken.__context__ = error
                self.error = broken
                why = f"{type(broken).__name__}: {printable(broken, limit=500)}"
                message = f"{printable(error, limit=9_000)} (no further attempt, since the backoff failed with {why})"
                return Failed(type(error).__name__, message, "error")
        return Retrying(type(error).__name__, printable(error), delay)

    def _backoff(self) -> Any:
        return self._definition.defaults.backoff or self._shift.queue_backoff(self.claim.queue) or _DEFAULT_BACKOFF

    def _failed(self, error: BaseException, reason: str) -> Failed:
        self.error = error
        return Failed(type(error).__name__, printable(error), reason)

    def _undecodable(self, error: BaseException) -> Outcome:
        self.error = error
        match self._definition.defaults.on_decode_error:
            case "cancel":
                return Cancelled("handler", printable(error))
            case "fail":
                return self._failed(error, "error")
            case _:
                return self._failed(error, "error") if isinstance(error, ConfigurationError) else self._judge(error)

    # ── stopping ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def stopping(self) -> bool:
        """Whether the run was asked to end."""
        return self.reason is not None

    def stop(self, reason: StopReason) -> None:
        """Ask the handler to end, and remember why. A lost claim outweighs every other reason."""
        if self.reason is not None:
            if reason is StopReason.LOST:
                self.reason = reason
            return
        self.reason = reason
        if not self._definition.is_async or self.task is None or not self.started:
            return  # a thread cannot be stopped; what has not begun sees the reason when it does
        self.task.cancel()
        grace = self._shift.settings.stuck_grace
        self._timer = asyncio.get_running_loop().call_later(grace, self._give_up)

    def overrun(self) -> None:
        """Hear that the timeout is over."""
        self.stop(StopReason.TIMEOUT)

    def _give_up(self) -> None:
        """Take the slot from a handler that ignores its cancellation; it is not retried, since it may go on."""
        self.abandoned = True
        self.took = time.perf_counter() - self.started
        assert self.reason is not None  # noqa: S101 - only a stopped run is given up
        message = f"the handler ignored its cancellation ({self.reason.value}) and may still be running"
        self.error = TimeoutError(message)
        self._shift.ended(self, LOST if self.reason is StopReason.LOST else Failed("Stuck", message, "stuck"))

    # ── what the context tells ────────────────────────────────────────────────────────────────────────────

    def snapshot(self) -> Task:
        """Make the Task as it was claimed."""
        return running_task(self.claim, self._shift.dispatcher_id, self._shift.database)

    async def tell_progress(self, text: str, fraction: float | None) -> None:
        """Store progress; raises `ClaimLostError` if this run no longer owns the task."""
        if not await self._shift.recorder.progress(self, text, fraction):
            self.stop(StopReason.LOST)
            raise ClaimLostError(self.claim.id)

    def tell_detail(self, text: str) -> None:
        """Keep a line of details until the next batch; callable from the handler's thread."""
        self._number += 1
        line = (self._number, text)
        if self._lines is None:
            self._lines = [line]
        else:
            self._lines.append(line)
        self._shift.recorder.detail(self)

    def take_lines(self) -> tuple[tuple[int, str], ...]:
        """Give the lines that are not on their way yet."""
        lines, self._lines = self._lines, None
        return tuple(lines or ())

    @property
    def id(self) -> UUID:
        """The task's id."""
        return self.claim.id
