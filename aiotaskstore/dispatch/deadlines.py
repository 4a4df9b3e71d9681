"""The deadlines of runs, watched by one timer.

One timer for each run cost a busy worker 3 of 20 µs for each task, and kept the context of an ended run until the
timer fired.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextvars import Context
from math import inf
from typing import Protocol

from aiotaskstore.mechanics.clock import Timer, Timers


class RunWithDeadline(Protocol):
    """A run that may have a deadline."""

    deadline: float
    """By the timers of the `Deadlines`; `inf` for no deadline."""

    def overrun(self) -> None:
        """Stop the run, since its deadline has passed."""


class Deadlines:
    """Stops runs whose deadline has passed. Runs that have ended are not in `runs` any more when the timer fires."""

    def __init__(self, runs: Callable[[], Collection[RunWithDeadline]], timers: Timers) -> None:
        self._runs, self._timers = runs, timers
        self._next = inf
        self._timer: Timer | None = None

    def arm(self, run: RunWithDeadline, seconds: float) -> None:
        """Set the deadline of a run to so many seconds from now."""
        run.deadline = self._timers.time() + seconds
        if run.deadline < self._next:
            self._look_at(run.deadline)

    def _look_at(self, instant: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = instant
        self._timer = self._timers.call_at(instant, self._look, context=Context())

    def _look(self) -> None:
        now, self._next = max(self._next, self._timers.time()), inf
        for run in [run for run in self._runs() if run.deadline <= now]:
            run.deadline = inf
            run.overrun()
        nearest = min((run.deadline for run in self._runs()), default=inf)
        if nearest < self._next:
            self._look_at(nearest)
