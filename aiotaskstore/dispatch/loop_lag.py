"""How late the event loop is: what a handler that blocks it shows by, also while it does."""

from __future__ import annotations

import time
from math import inf

from aiotaskstore.mechanics.timed_event import TimedEvent

_PERIOD = 0.5
"""Seconds between two turns of the event loop that are looked at."""


class LoopLag:
    """Compares when the event loop turned with when it should have."""

    def __init__(self) -> None:
        self._due = inf
        self._last = 0.0

    @property
    def seconds(self) -> float:
        """How late the event loop is now, or was at its last turn, whichever is more; callable from any thread."""
        return max(self._last, time.monotonic() - self._due, 0.0)

    async def run(self, closing: TimedEvent) -> None:
        """Look until `closing`."""
        try:
            ended = False
            while not ended:
                self._due = time.monotonic() + _PERIOD
                ended = await closing.wait(_PERIOD)
                self._last = 0.0 if ended else max(0.0, time.monotonic() - self._due)
        finally:
            self._due = inf  # nobody looks any more, which is no lag
