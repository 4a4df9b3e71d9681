"""The clock by which tasks are due: the system's, or one that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from datetime import UTC, datetime
from typing import Protocol


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Let it not come."""


class Timers(Protocol):
    """Measures spans of time, in seconds; the event loop is one."""

    def time(self) -> float:
        """Return the seconds so far."""

    def call_at(self, when: float, call: Callable[[], object], /, *, context: Context) -> Timer:
        """Call `call` when `time()` is `when`."""


class Clock:
    """The system's clock. What is handed another one obeys that instead."""

    def now(self) -> datetime:
        """Return the present instant: what is due by it is due."""
        return datetime.now(UTC)

    def heartbeat_now(self) -> datetime:
        """Return the instant of a heartbeat, by which leases lapse."""
        return self.now()

    def timers(self) -> Timers:
        """Return what measures the time that handlers take."""
        return asyncio.get_running_loop()  # type: ignore[return-value] # mypy compares its *args by length


SYSTEM_CLOCK = Clock()
