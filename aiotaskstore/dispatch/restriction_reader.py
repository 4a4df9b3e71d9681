"""Reads the restrictions that this dispatcher instance heeds: paused queues and cancelled definitions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf

from aiotaskstore.hooks import Hooks
from aiotaskstore.mechanics.hint import ANY_QUEUE, Hint, queue_hint
from aiotaskstore.mechanics.notifier import Subscriber
from aiotaskstore.mechanics.timed_event import TimedEvent
from aiotaskstore.storage.restrictions import Restrictions, read_restrictions
from aiotaskstore.storage.storage import Storage

HEEDED_WITHIN = 1.0
"""Seconds after which a change is heeded: nothing is claimed by restrictions that were read longer ago."""
READ_EVERY = 0.8
"""Seconds between two reads; with the time of the read itself, a change is heeded within a second."""
WARN_EVERY = 60.0
"""Seconds between two warnings of the same older dispatcher."""


class RestrictionReader:
    """Knows the restrictions as of its last read, and wakes the claimer when one was lifted.

    A read that fails changes nothing of what is known.
    """

    def __init__(
        self, storage: Storage, hooks: Hooks, *, wake: Subscriber, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._storage, self._hooks, self._wake, self._clock = storage, hooks, wake, clock
        self.current: Restrictions = Restrictions()
        self._changes, self._known_changes = 1, 0
        """How often the restrictions have changed, as far as hints say, and how many of these changes were read."""
        self._read_at = -inf
        """When the last read that succeeded began."""
        self._woken = TimedEvent()
        self._reading = asyncio.Lock()
        """One read at a time, or the result of an earlier one could replace that of a later one."""
        self._warned_at = -inf

    def receive(self, hint: Hint) -> None:
        """Read again, soon and before the next claim, if restrictions have changed."""
        if hint.restrictions_changed:
            self._changes += 1
            self.wake()

    def wake(self) -> None:
        """End the rest."""
        self._woken.set()

    async def latest(self) -> Restrictions:
        """Return the restrictions; read them first if they have changed, or were not read lately."""
        while self._known_changes < self._changes or self._clock() - self._read_at > HEEDED_WITHIN:
            await self._read()
            if self._known_changes == self._changes:
                break  # however long the read took
        return self.current

    def differ_from(self, heeded: Restrictions) -> bool:
        """Return whether the restrictions are no longer these, or may have changed, as far as hints say."""
        return self._known_changes < self._changes or self.current != heeded

    async def read_anew(self) -> Restrictions:
        """Return the restrictions as they are now, or later."""
        await self._read()
        return self.current

    async def read_once(self) -> None:
        """Read the restrictions; once a minute, also look for older dispatchers, which ignore them."""
        await self._read()
        if self._clock() - self._warned_at >= WARN_EVERY:
            await self._warn()

    async def rest(self) -> None:
        """Wait for a change, or for the next read."""
        await self._woken.wait(READ_EVERY)
        self._woken.clear()

    async def _read(self) -> None:
        async with self._reading:
            changes, began = self._changes, self._clock()
            found = await self._storage.database.read(read_restrictions)
            before, self.current, self._known_changes, self._read_at = self.current, found, changes, began
        resumed = before.paused_queues - found.paused_queues
        if before.cancelled_aliases - found.cancelled_aliases:
            self._wake(ANY_QUEUE)
        elif resumed:
            self._wake(queue_hint(*resumed))

    async def _warn(self) -> None:
        older = await self._storage.database.read(self._storage.dispatchers.older)
        self._warned_at = self._clock()
        for dispatcher in older:
            self._hooks.emit(dispatcher.outdated(self.current))
