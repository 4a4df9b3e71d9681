"""When to look for work: hints from this process and others, and the poll beneath them.

A hint is never a promise: losing one costs at most a poll.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiotaskstore.dispatch.upkeep import Backoff, jittered
from aiotaskstore.errors import TaskStoreError
from aiotaskstore.events import LoopTroubled
from aiotaskstore.storage.database import CANCEL

if TYPE_CHECKING:
    from aiotaskstore.dispatch.shift import Shift

_FIRST_POLL = 0.02
"""Seconds before the first poll where no hint arrives from other processes; it doubles up to `poll_interval`."""
_SOON = 0.1
"""Seconds before the first poll where hints do arrive: cheap insurance right after falling asleep."""


class Wakeup:
    """Which queues may have pending tasks; wakes the claimer when one of them does."""

    def __init__(self, shift: Shift) -> None:
        self._shift = shift
        self._event = asyncio.Event()
        self.every_queue: bool = True
        """Whether a hint said that any queue may have work."""
        self.queues: set[str] = set()
        """Which queues hints have named."""
        self.hearing: bool = False
        self.on_cancel: Callable[[], None] = lambda: None
        self._slept = 0
        self._poll_at: float | None = None
        self._idle = False

    def hint(self, queues: frozenset[str]) -> None:
        """Hear that these queues may have work; an empty set means any of them."""
        if queues == CANCEL:
            self.on_cancel()
            return
        if queues:
            self.queues |= queues
        else:
            self.every_queue = True
        self._event.set()

    def stir(self) -> None:
        """Wake the claimer: a slot is free, or it shall stop."""
        self._event.set()

    def take(self) -> tuple[bool, set[str]]:
        """Give what hints said since the last time, and forget it."""
        taken = self.every_queue, self.queues
        self.every_queue, self.queues = False, set()
        self._event.clear()
        return taken

    def worked(self) -> None:
        """There was work: the next sleep starts with short polls again."""
        self._slept, self._poll_at = 0, None

    async def sleep(self) -> None:
        """Wait for a hint or a free slot; when it is time to poll, say that any queue may have work."""
        if self._poll_at is None:  # what stirs us meanwhile, such as a heartbeat, does not put the poll off
            self._poll_at = asyncio.get_running_loop().time() + jittered(self._pause())
        try:
            async with asyncio.timeout_at(self._poll_at):
                await self._event.wait()
        except TimeoutError:
            self.every_queue, self._poll_at = True, None

    def _pause(self) -> float:
        longest = self._shift.settings.poll_interval
        if self.hearing:
            pause = longest if self._slept else _SOON
        else:
            pause = _FIRST_POLL * 2**self._slept
        self._slept = min(self._slept + 1, 10)
        return min(pause, longest)

    async def change(self) -> None:
        """Wait until something changes: a hint, a slot, an answer from the database."""
        await self._event.wait()
        self._event.clear()  # a hint stays in `hinted`; left set, this would not wait the next time

    @property
    def hinted(self) -> bool:
        """Whether a hint has come since the last `take`."""
        return self.every_queue or bool(self.queues)

    async def fall_asleep(self) -> bool:
        """Mark this dispatcher asleep, before its last look; true if it was not marked already."""
        if self._idle or not (self.hearing and self._shift.database.wakes_sleepers):
            return False
        await self._mark(idle=True)
        return True

    async def wake(self) -> None:
        """Unmark it."""
        if self._idle:
            await self._mark(idle=False)

    def unmarked(self) -> None:
        """Hear that the dispatcher's row is a new one, in which nothing says that it sleeps."""
        self._idle = False
        self.hint(frozenset())

    async def listen(self) -> None:
        """Hear other processes for as long as they can be heard; poll while they cannot."""
        backoff = Backoff("listener", self._shift.hooks)
        while True:
            try:
                async with self._shift.database.listen(self.hint) as ear:
                    backoff.reset()
                    self.hearing = ear is not None
                    self._shift.listening.set()
                    if ear is None:
                        self._tell_deafness()
                        return
                    self.hint(frozenset())  # whatever was said while nobody listened
                    await ear.lost()
            except TaskStoreError as error:
                await backoff.wait(error)
            finally:
                self.hearing = False
                self._shift.listening.set()

    def _tell_deafness(self) -> None:
        if self._shift.database.wakes_sleepers:
            error = TaskStoreError(
                "Notifications do not arrive here (a pooler in transaction mode, or a pool of yours): polling instead. "
                "Give listen_url= a direct connection."
            )
            self._shift.hooks.emit(LoopTroubled("listener", error, 0))

    async def _mark(self, *, idle: bool) -> None:
        shift = self._shift
        await shift.database.write(lambda: shift.storage.dispatchers.set_idle(shift.dispatcher_id, idle=idle))
        self._idle = idle
