"""A watchdog: it ends a wait on a database by closing the connection, whatever the driver is doing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

CLEANUP = 2.0
"""Seconds that cleaning up may take (a rollback, the return of a connection, closing) before it is ended by force."""


class Watchdog:
    """Closes a connection by force once a wait on it has taken too long.

    A cancellation would not do: a cancelled driver waits until the server confirms the cancellation, and so does the
    rollback that follows. On a closed connection every pending call fails at once.
    """

    __slots__ = ("_abort", "_cleaning", "_limit", "_loop", "_timer", "_until", "expired")

    def __init__(self, abort: Callable[[], None], limit: float) -> None:
        self._abort, self._limit = abort, limit
        self.expired: bool = False
        """Whether the watchdog closed the connection, except while cleaning up."""
        self._cleaning = False

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + self._limit
        self._timer = self._loop.call_at(self._until, self._check)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def extend(self) -> None:
        """Start the limit again: the database has responded."""
        self._until = self._loop.time() + self._limit

    def hurry(self) -> None:
        """Allow `CLEANUP` seconds from now on, for cleaning up."""
        self._cleaning = True
        self._until = self._loop.time() + CLEANUP
        self._timer.cancel()
        self._timer = self._loop.call_at(self._until, self._check)

    def _check(self) -> None:
        if self._loop.time() < self._until:
            self._timer = self._loop.call_at(self._until, self._check)
        else:
            self.expired |= not self._cleaning
            self._abort()
