"""A drain: runs what is due, and what that enqueues, until nothing is due."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from uuid import UUID

from aiotaskstore.directives import Cancel, Retry, Snooze
from aiotaskstore.mechanics.duration import written
from aiotaskstore.outcome import Cancelled, Failed, Outcome, Succeeded
from aiotaskstore.task import Claim
from aiotaskstore.testing.drain_report import DrainReport
from aiotaskstore.testing.serial_runner import SerialRunner


class Drain:
    """One drain, and what it has run so far.

    `pass_time` moves the clock to the next due time if it may, and returns whether anything may be due since.
    """

    def __init__(
        self,
        runner: SerialRunner,
        queues: Collection[str] | None,
        *,
        limit: int,
        timeout: float,
        raises: bool,
        pass_time: Callable[[], Awaitable[bool]],
    ) -> None:
        self._runner, self._queues = runner, queues
        self._limit, self._timeout, self._raises, self._pass_time = limit, timeout, raises, pass_time
        self.report: DrainReport = DrainReport()
        self.ids: list[UUID] = []
        """The tasks that ran, in order."""
        self._ran: Counter[str] = Counter()
        self._running: Claim | None = None

    async def carry_out(self) -> None:
        """Run tasks until nothing is due; raise the first error of a handler, unless that was not wanted.

        Raises `AssertionError` if `limit` runs did not suffice, `TimeoutError` after so many real seconds.
        """
        try:
            async with asyncio.timeout(self._timeout) as deadline:
                while await self._run_due() or await self._pass_time():
                    pass
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise TimeoutError(self._too_slow()) from error

    async def _run_due(self) -> bool:
        """Run what is due; return whether anything was."""
        before = self.report.ran
        await self._runner.promote()
        while claim := await self._runner.claim_next(self._queues):
            if self.report.ran == self._limit:
                await self._runner.release(claim)
                raise AssertionError(self._endless())
            self._running = claim
            await self._count(claim, *await self._runner.run(claim))
            self._running = None
            await self._runner.promote()
        return self.report.ran > before

    async def _count(self, claim: Claim, outcome: Outcome, error: BaseException | None) -> None:
        report = self.report
        self.ids.append(claim.id)
        self._ran[claim.alias] += 1
        self.report = replace(
            report,
            ran=report.ran + 1,
            succeeded=report.succeeded + isinstance(outcome, Succeeded),
            failed=report.failed + isinstance(outcome, Failed),
            cancelled=report.cancelled + isinstance(outcome, Cancelled),
            retried=report.retried + (not isinstance(outcome, Succeeded | Failed | Cancelled)),
            errors=report.errors if error is None else [*report.errors, error],
        )
        if self._raises:
            raise_error(claim, error)

    def _endless(self) -> str:
        most = ", ".join(f"{alias} × {count}" for alias, count in self._ran.most_common(5))
        return (
            f"Something is still due after {self._limit} runs: {most}. A task that enqueues itself, or is retried "
            "without a delay, does so for ever; if it is meant to end, give drain(limit=…)."
        )

    def _too_slow(self) -> str:
        claim = self._running
        what = "nothing" if claim is None else f"{claim.alias} {claim.id}"
        return (
            f"drain() was not done within {written(self._timeout)}; it was running {what}. It runs one task at a time, "
            "so a handler that waits for another task waits for ever: use `async with store.dispatcher():` for such."
        )


def raise_error(claim: Claim, error: BaseException | None) -> None:
    """Raise what ended a run, with its task in a note; not what a handler raises to run again, or to be cancelled."""
    if error is None or isinstance(error, Retry | Snooze | Cancel | asyncio.CancelledError):
        return
    error.add_note(f"raised by the task {claim.alias} {claim.id}, attempt {claim.attempt}")
    raise error
