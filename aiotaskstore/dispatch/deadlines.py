"""When runs must have ended: one timer for all of them.

A timer a run cost a busy worker 3 of 20 µs a task, and until its time came it kept the context of the ended run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextvars import Context
from math import inf
from typing import Protocol


class Timed(Protocol):
    """A run, as far as its time goes."""

    deadline: float
    """On the loop's clock; `inf` for none."""

    def overrun(self) -> None:
        """Hear that the deadline has passed."""


class Deadlines:
    """Tells runs that their time is over. One that ends before is simply not there when the timer looks."""

    def __init__(self, runs: Callable[[], Collection[Timed]]) -> None:
        self._runs = runs
        self._loop = asyncio.get_running_loop()
        self._next = inf
        self._timer: asyncio.TimerHandle | None = None

    def arm(self, run: Timed, seconds: float) -> None:
        """Give a run so many seconds from now."""
        run.deadline = self._loop.time() + seconds
        if run.deadline < self._next:
            self._look_at(run.deadline)

    def _look_at(self, instant: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = instant
        self._timer = self._loop.call_at(instant, self._look, context=Context())

    def _look(self) -> None:
        now, self._next = max(self._next, self._loop.time()), inf
        for run in [run for run in self._runs() if run.deadline <= now]:
            run.deadline = inf
            run.overrun()
        nearest = min((run.deadline for run in self._runs()), default=inf)
        if nearest < self._next:
            self._look_at(nearest)
