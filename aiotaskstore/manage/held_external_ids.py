"""External ids, and chosen ids, that another open transaction holds. Who wants the same one waits; others do not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from aiotaskstore.mechanics.batching import Batcher

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.25
"""Seconds between two tries of a held external id: at first, doubling, and at most."""


def pauses() -> Callable[[], float]:
    """Make a function that returns the seconds until each next try."""
    pause = _FIRST_PAUSE

    def following() -> float:
        nonlocal pause
        seconds = random.uniform(0.5, 1) * pause  # noqa: S311 - jitter
        pause = min(2 * pause, _LONGEST_PAUSE)
        return seconds

    return following


@dataclass(slots=True)
class _Waiters:
    """The calls that want one id, first come, first served."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    count: int = 0


class Holdable(Protocol):
    """A row with an id that somebody else's transaction may hold."""

    @property
    def key(self) -> Hashable:
        """The id."""


Row = TypeVar("Row", bound=Holdable)


class HeldIds(Generic[Row]):
    """Stores rows by a first batcher. Rows whose id is held are tried again by a second one.

    All held rows are tried on one connection, however many there are. A batcher returns `None` for a held row; `check`
    raises if the store has ended meanwhile.
    """

    def __init__(
        self,
        first: Batcher[Row, UUID | None],
        again: Batcher[Row, UUID | None],
        *,
        wait_limit: float,
        check: Callable[[], None],
    ) -> None:
        self._first, self._again, self._wait_limit, self._check = first, again, wait_limit, check
        self._waiters: dict[Hashable, _Waiters] = {}
        self._quiet = asyncio.Event()
        self._quiet.set()

    @property
    def waiting(self) -> bool:
        """Whether any row waits for its turn."""
        return bool(self._waiters)

    async def run(self) -> None:
        """Try held rows again until cancelled."""
        await self._again.run()

    async def drain(self) -> None:
        """Wait until no row waits for its turn."""
        await self._quiet.wait()

    async def submit(self, row: Row) -> UUID:
        """Store a row; returns its id, or the id of the task that has its external id already.

        Raises `TimeoutError` after `wait_limit` seconds.
        """
        until = asyncio.get_running_loop().time() + self._wait_limit
        if row.key not in self._waiters:
            task_id = await self._first.submit(row)
            if task_id is not None:
                return task_id
        async with asyncio.timeout_at(until):
            return await self._in_turn(row)

    async def _in_turn(self, row: Row) -> UUID:
        waiters = self._waiters.setdefault(row.key, _Waiters())
        waiters.count += 1
        self._quiet.clear()
        try:
            async with waiters.turn:
                pause = pauses()
                while True:
                    self._check()
                    task_id = await self._again.submit(row)
                    if task_id is not None:
                        return task_id
                    await asyncio.sleep(pause())
        finally:
            waiters.count -= 1
            if not waiters.count:
                del self._waiters[row.key]
            if not self._waiters:
                self._quiet.set()
