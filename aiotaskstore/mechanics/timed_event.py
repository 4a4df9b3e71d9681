"""An event, as asyncio's, with a time limit on each wait."""

from __future__ import annotations

import asyncio


class TimedEvent:
    """An `asyncio.Event` whose wait has a limit.

    A timer ends the wait, not a cancellation as in `asyncio.timeout`. So a cancellation of the waiting task can be
    neither mistaken for the time limit nor lost in it.
    """

    __slots__ = ("_is_set", "_waiting")

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: set[asyncio.Future[bool]] = set()

    def is_set(self) -> bool:
        """Whether the event is set."""
        return self._is_set

    def set(self) -> None:
        """Set the event: every wait ends, and later ones return at once until it is cleared."""
        self._is_set = True
        for future in self._waiting:
            _end(future, came=True)

    def clear(self) -> None:
        """Clear the event, so that later waits wait again."""
        self._is_set = False

    async def wait(self, limit: float | None = None) -> bool:
        """Wait until the event is set, at most `limit` seconds; return whether it was set."""
        if self._is_set:
            return True
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        timer = None if limit is None else loop.call_later(max(limit, 0), _give_up, future)
        self._waiting.add(future)
        try:
            return await future
        finally:
            self._waiting.discard(future)
            if timer is not None:
                timer.cancel()


def _end(future: asyncio.Future[bool], *, came: bool) -> None:
    if not future.done():
        future.set_result(came)


def _give_up(future: asyncio.Future[bool]) -> None:
    _end(future, came=False)
