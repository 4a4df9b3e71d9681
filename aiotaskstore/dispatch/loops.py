"""The loops of a dispatcher instance: each one works, rests, and works again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from aiotaskstore.dispatch.loop_backoff import LoopBackoff, LoopBackoffs
from aiotaskstore.errors import TaskStoreError
from aiotaskstore.mechanics.background_tasks import BackgroundTasks
from aiotaskstore.mechanics.timed_event import TimedEvent


class Loops:
    """Starts the loops of one dispatcher instance. If a loop ends before `closing`, the instance stops."""

    def __init__(self, tasks: BackgroundTasks, backoffs: LoopBackoffs) -> None:
        self._tasks, self._backoffs = tasks, backoffs
        self._kept: list[asyncio.Task[Any]] = []
        self.closing: TimedEvent = TimedEvent()
        """Set when the loops must end."""
        self.fail: Callable[[str, BaseException], None] = tasks.fail

    def keep(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a loop that ends by itself after `closing` is set."""
        task = self._tasks.keep(coroutine, name)
        self._kept.append(task)
        return task

    def repeat(
        self,
        name: str,
        once: Callable[[], Awaitable[object]],
        rest: Callable[[], Awaitable[object]],
        first: float = 0,
    ) -> None:
        """After `first` seconds, start a loop that calls `once` and `rest` in turn."""

        async def run() -> None:
            await self.closing.wait(first)
            await repeat(once, rest, self._backoffs.create(name), self.closing)

        self.keep(run(), name)

    def every(self, period: float, name: str, once: Callable[[], Awaitable[object]]) -> None:
        """Call `once` about every `period` seconds, first at a random time: so dispatchers do not stay in step."""
        self.repeat(name, once, lambda: self.closing.wait(jittered(period)), random_part_of(period))

    async def ended(self, limit: float) -> None:
        """Wait until every loop has ended, at most `limit` seconds."""
        left = [loop for loop in self._kept if not loop.done()]
        if left:
            await asyncio.wait(left, timeout=limit)


async def repeat(
    once: Callable[[], Awaitable[object]],
    rest: Callable[[], Awaitable[object]],
    backoff: LoopBackoff,
    ended: TimedEvent,
) -> None:
    """Call `once` and `rest` in turn until `ended`. A `TaskStoreError` is retried; any other error ends the loop."""
    while not ended.is_set():
        try:
            await once()
            backoff.reset()
            await rest()
        except TaskStoreError as error:
            await backoff.wait(error)


def jittered(period: float) -> float:
    """Return a wait around `period`, so that processes started together do not stay in step."""
    return period * random.uniform(0.9, 1.1)  # noqa: S311 - jitter


def random_part_of(period: float) -> float:
    """Return a random number of seconds between 0 and `period`."""
    return random.uniform(0, period)  # noqa: S311 - jitter
