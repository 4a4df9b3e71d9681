"""How loops wait after failures, such as while the database is unavailable."""

from __future__ import annotations

import random
import time

from aiotaskstore.events import BackgroundFailed, BackgroundRecovered
from aiotaskstore.hooks import Hooks
from aiotaskstore.mechanics.timed_event import TimedEvent

FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0
"""Seconds to wait after the first failure in a row, and at most."""


class LoopBackoffs:
    """Creates the backoffs of all loops of one dispatcher instance. One success ends the waits of all of them."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks, self._retry_now = hooks, TimedEvent()

    def create(self, loop: str) -> LoopBackoff:
        """Create the backoff of the loop with this name."""
        return LoopBackoff(loop, self._hooks, self)

    def retry_now(self) -> None:
        """End the waits of all loops: the database has replied to one of them, or the instance stops."""
        self._retry_now.set()
        self._retry_now.clear()

    async def wait(self, limit: float) -> None:
        """Wait for the next `retry_now`, at most `limit` seconds."""
        await self._retry_now.wait(limit)


class LoopBackoff:
    """Emits an event for each failure of one loop, and waits: longer after each failure in a row."""

    def __init__(self, name: str, hooks: Hooks, backoffs: LoopBackoffs) -> None:
        self._name, self._hooks, self._backoffs = name, hooks, backoffs
        self._failures = 0
        self._since = 0.0

    def failed(self, error: BaseException, wait: float) -> None:
        """Emit `BackgroundFailed`: the loop failed and tries again in `wait` seconds."""
        if not self._failures:
            self._since = time.monotonic()
        self._failures += 1
        self._hooks.emit(BackgroundFailed(self._name, error, wait, failures=self._failures))

    def reset(self) -> None:
        """Record a success. If it follows a failure, emit `BackgroundRecovered`, and let all loops retry now."""
        if self._failures:
            self._hooks.emit(BackgroundRecovered(self._name, self._failures, time.monotonic() - self._since))
            self._failures = 0
            self._backoffs.retry_now()

    async def wait(self, error: BaseException) -> None:
        """Emit the failure and wait, with jitter, until the next try. A success of any other loop ends the wait."""
        longest = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(self._failures, 10))
        wait = longest * random.uniform(0.5, 1)  # noqa: S311 - jitter
        self.failed(error, wait)
        await self._backoffs.wait(wait)
