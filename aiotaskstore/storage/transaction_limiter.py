"""Limits how many transactions of the application hold a connection at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiotaskstore.errors import ConfigurationError


class TransactionLimiter:
    """Places for open transactions of the application, assigned in the order of waiting."""

    def __init__(self, size: int, no_place: str = "") -> None:
        self._size, self._no_place = size, no_place
        self._places = asyncio.Semaphore(size)
        self._holders: list[asyncio.Task[Any] | None] = []
        self._waiting: list[asyncio.Task[Any] | None] = []

    @property
    def open(self) -> int:
        """How many transactions hold a place now."""
        return len(self._holders)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place while the block lasts.

        Raises `ConfigurationError` if there is no place at all. It is also raised if each place is held by a task that
        itself waits for another place, this task included: no place would ever become free.
        """
        if not self._size:
            raise ConfigurationError(self._no_place)
        task = asyncio.current_task()
        waiting = [*self._waiting, task]
        if len(self._holders) == self._size and all(holder in waiting for holder in self._holders):
            raise ConfigurationError(
                f"A transaction was asked for inside {self._size} others that hold every connection for transactions "
                "and wait for one themselves, so it would wait for ever. Nest no store.transaction() in another, or "
                "give the store a larger pool_size."
            )
        self._waiting.append(task)
        try:
            await self._places.acquire()
        finally:
            self._waiting.remove(task)
        self._holders.append(task)
        try:
            yield
        finally:
            self._holders.remove(task)
            self._places.release()
