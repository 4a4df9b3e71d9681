"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from datetime import datetime, timedelta
from weakref import WeakSet

from aiotaskstore.mechanics.clock import SYSTEM_CLOCK, Clock, Timer, Timers


class MovingClock(Clock):
    """Stands still until it is moved. Heartbeats have the system's clock, so that no live dispatcher looks dead."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self.moved: timedelta = timedelta()
        """By how much it was moved so far."""
        self._timers: WeakSet[MovedTimers] = WeakSet()

    def now(self) -> datetime:
        """Return the instant that it was moved to."""
        return self._now

    def heartbeat_now(self) -> datetime:
        """Return the system's instant."""
        return SYSTEM_CLOCK.now()

    def timers(self) -> Timers:
        """Return timers on the running event loop that also count the time by which the clock is moved."""
        timers = MovedTimers(self)
        self._timers.add(timers)
        return timers

    def move(self, by: timedelta) -> None:
        """Move it; what its timers wait for and is due now is called before this returns."""
        self._now += by
        self.moved += by
        for timers in list(self._timers):
            timers.look()


class MovedTimers:
    """Timers of an event loop that runs ahead by as much as a clock was moved."""

    def __init__(self, clock: MovingClock) -> None:
        self._clock, self._loop = clock, asyncio.get_running_loop()
        self.pending: set[MovedTimer] = set()
        """The calls that are to come."""

    def time(self) -> float:
        """Return the seconds so far: those that went by, and those that the clock was moved by."""
        return self._loop.time() + self._clock.moved.total_seconds()

    def call_at(self, when: float, call: Callable[[], object], /, *, context: Context) -> Timer:
        """Call `call` when `time()` is `when`."""
        timer = MovedTimer(when, call, context, self.pending)
        timer.start(self._loop, when - self.time())
        return timer

    def look(self) -> None:
        """Make the calls that are due now, and let the others come sooner."""
        now = self.time()
        for timer in sorted(self.pending, key=lambda timer: timer.when):
            if timer.when <= now:
                timer.fire()
            else:
                timer.start(self._loop, timer.when - now)


class MovedTimer:
    """One call that is to come."""

    def __init__(self, when: float, call: Callable[[], object], context: Context, pending: set[MovedTimer]) -> None:
        self.when: float = when
        self._call, self._context, self._pending = call, context, pending
        self._handle: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop, delay: float) -> None:
        """Let it come in so many seconds."""
        self.cancel()
        self._pending.add(self)
        self._handle = loop.call_later(delay, self.fire, context=self._context)

    def fire(self) -> None:
        """Make the call now."""
        self.cancel()
        self._context.copy().run(self._call)

    def cancel(self) -> None:
        """Let it not come."""
        self._pending.discard(self)
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
