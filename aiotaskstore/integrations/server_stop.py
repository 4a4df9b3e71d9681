"""Notices that the server of this process has been asked to stop, while it still waits for its responses to end.

A server tells its application only when every response has ended. A stream does not end by itself, so it would hold up
the stop until the server loses its patience.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Any

_STOPPING = (signal.SIGTERM, signal.SIGINT)
_Handler = Callable[[int, FrameType | None], Any]


class ServerStop:
    """Ends the waits that are made with it when the process receives SIGTERM or SIGINT.

    It listens while somebody is `listening`, and in the main thread, the only one that receives signals. The signal
    goes on to the handler that was there before; a signal without one is left alone.
    """

    def __init__(self) -> None:
        self.begun: bool = False
        """Whether the server has been asked to stop."""
        self._listening = 0
        self._waits: set[asyncio.Timeout] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._replaced: dict[signal.Signals, tuple[Any, Any]] = {}

    @asynccontextmanager
    async def limited(self, limit: float) -> AsyncIterator[None]:
        """Raise `TimeoutError` if the block takes longer than `limit` seconds, or as soon as the server is to stop."""
        async with asyncio.timeout(0 if self.begun else limit) as deadline:
            self._waits.add(deadline)
            try:
                yield
            finally:
                self._waits.discard(deadline)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen for signals inside the block."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # another server, in tests for one
            self._loop, self.begun, self._listening = loop, False, 0
        if not self._listening and threading.current_thread() is threading.main_thread():
            self._replace_handlers(loop)
        self._listening += 1
        try:
            yield
        finally:
            if loop is self._loop:
                self._listening -= 1
                if not self._listening:
                    self._restore_handlers()

    def _begin(self) -> None:
        self.begun = True
        for deadline in self._waits:
            if not deadline.expired():
                deadline.reschedule(asyncio.get_running_loop().time())

    def _replace_handlers(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in _STOPPING:
            before = signal.getsignal(number)
            if callable(before):
                ours = self._handler(loop, before)
                signal.signal(number, ours)
                self._replaced[number] = (ours, before)

    def _restore_handlers(self) -> None:
        for number, (ours, before) in self._replaced.items():
            if signal.getsignal(number) is ours:  # else somebody has put another before ours, which calls ours
                signal.signal(number, before)
        self._replaced.clear()

    def _handler(self, loop: asyncio.AbstractEventLoop, before: _Handler) -> _Handler:
        def receive(number: int, frame: FrameType | None) -> Any:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._begin)
            return before(number, frame)

        return receive
