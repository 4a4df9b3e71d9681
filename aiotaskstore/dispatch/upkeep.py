"""The loop that every duty shares: do it once, rest, do it again; back off while the database is away."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from aiotaskstore.errors import TaskStoreError
from aiotaskstore.events import LoopTroubled
from aiotaskstore.hooks import Hooks

FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0
"""Seconds to wait after the first trouble in a row, and at most."""


async def repeat(
    name: str, once: Callable[[], Awaitable[object]], rest: Callable[[], Awaitable[object]], hooks: Hooks
) -> None:
    """Do `once` and `rest` for ever. An error of ours is told and tried again; another one is a bug and ends us."""
    backoff = Backoff(name, hooks)
    while True:
        try:
            await once()
            backoff.reset()
            await rest()
        except TaskStoreError as error:
            await backoff.wait(error)


class Backoff:
    """Waits longer after each failure in a row, with jitter, and tells each."""

    def __init__(self, name: str, hooks: Hooks) -> None:
        self._name, self._hooks, self._failures = name, hooks, 0

    def reset(self) -> None:
        """It went well."""
        self._failures = 0

    async def wait(self, error: BaseException) -> None:
        """Tell the failure and wait before the next try."""
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2**self._failures) * random.uniform(0.5, 1)  # noqa: S311 - jitter
        self._failures = min(self._failures + 1, 10)
        self._hooks.emit(LoopTroubled(self._name, error, wait))
        await asyncio.sleep(wait)


def jittered(period: float) -> float:
    """Give a wait around `period`, so that processes started together do not stay in step."""
    return period * random.uniform(0.9, 1.1)  # noqa: S311 - jitter


async def every(period: float) -> None:
    """Rest for about `period` seconds."""
    await asyncio.sleep(jittered(period))
