"""When the claimer looks for work: after a hint, and at each poll."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Protocol

from aiotaskstore.dispatch.loops import jittered
from aiotaskstore.mechanics.hint import ANY_QUEUE, NOTHING, Hint
from aiotaskstore.mechanics.timed_event import TimedEvent

_FIRST_POLL = 0.02
"""Seconds before the first poll if hints of other processes do not arrive; doubles up to `poll_interval`."""
_MOMENT = 0.02
"""Seconds that work which is about to come may take, so that the dispatcher need not be marked as idle."""
_SOON = 0.1
"""Seconds before the first poll if hints arrive: one cheap early poll, in case a hint was lost meanwhile."""


class MarkIdle(Protocol):
    """Marks the dispatcher's row as idle, or removes the mark."""

    async def __call__(self, *, idle: bool) -> None:
        """Write the mark."""


class Wakeup:
    """Which queues may have pending tasks; wakes the claimer when one of them does.

    `listening` returns whether the hints of other processes arrive now, `expects_work` whether this process is about to
    make tasks pending. `mark_idle` is `None` for databases where nothing reads the mark.
    """

    def __init__(
        self,
        poll_interval: float,
        *,
        listening: Callable[[], bool],
        mark_idle: MarkIdle | None,
        expects_work: Callable[[], bool],
    ) -> None:
        self._poll_interval = poll_interval
        self._listening, self._mark_idle, self._expects_work = listening, mark_idle, expects_work
        self._event = TimedEvent()
        self.hinted: Hint = ANY_QUEUE
        """All hints since the last `take`, as one."""
        self._slept = 0
        self._poll_at: float | None = None
        self._look_by = inf
        self._idle = False

    def receive(self, hint: Hint) -> None:
        """Add the queues of a hint to `hinted`, and wake the claimer. A hint without queues is ignored."""
        if hint.work:
            self.hinted = self.hinted | hint if self.hinted else hint
            self.wake()

    def wake(self) -> None:
        """Wake the claimer: a queue may have work, a slot is free, or the claimer must stop."""
        self._event.set()

    def take(self) -> Hint:
        """Return all hints since the last `take`, as one, and clear them."""
        taken, self.hinted = self.hinted, NOTHING
        self._event.clear()
        if taken.any_queue:
            self._look_by = _now() + jittered(self._poll_interval)
        return taken

    def poll_if_due(self) -> None:
        """Hint at any queue if the last look at every queue is `poll_interval` ago.

        This is needed also while one queue is full, or always has more tasks: the hint for another queue may be lost.
        """
        if _now() >= self._look_by:
            self.hinted |= ANY_QUEUE

    def worked(self) -> None:
        """Record that there was work: the next sleep starts with short polls again."""
        self._slept, self._poll_at = 0, None

    async def sleep(self) -> None:
        """Wait for a hint or a free slot; when it is time to poll, hint at any queue."""
        if self._poll_at is None:  # a wake that finds no work, such as after a heartbeat, must not delay the poll
            self._poll_at = _now() + jittered(self._pause())
        if not await self._event.wait(self._poll_at - _now()):
            self.hinted |= ANY_QUEUE
            self._poll_at = None

    def _pause(self) -> float:
        longest = self._poll_interval
        if self._listening():
            pause = longest if self._slept else _SOON
        else:
            pause = _FIRST_POLL * 2**self._slept
        self._slept = min(self._slept + 1, 10)
        return min(pause, longest)

    async def change(self) -> None:
        """Wait for a change: a hint, a free slot, a reply to a heartbeat, or the time to poll."""
        await self._event.wait(min(self._look_by - _now(), self._poll_interval))
        self._event.clear()  # the hint itself stays in `hinted`; without this the next wait would return at once

    async def wait_for_expected_work(self) -> bool:
        """Wait a moment for work that is about to come, since a mark as idle would be removed at once.

        Return false where none is expected, or the mark is there, or not used.
        """
        if self._idle or self._mark_idle is None or not self._expects_work():
            return False
        await self._event.wait(_MOMENT)
        return True

    async def set_idle_mark(self) -> bool:
        """Mark this dispatcher as idle; true if the mark is new, so that the claimer must look once more."""
        if self._idle or self._mark_idle is None or not self._listening():
            return False
        await self._mark_idle(idle=True)
        self._idle = True
        return True

    async def remove_idle_mark(self) -> None:
        """Remove the mark that this dispatcher is idle."""
        if self._idle and self._mark_idle is not None:
            await self._mark_idle(idle=False)
            self._idle = False

    def registered_again(self) -> None:
        """Look for work again: the dispatcher's row is new, and not marked as idle."""
        self._idle = False
        self.receive(ANY_QUEUE)


def _now() -> float:
    return asyncio.get_running_loop().time()
