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
            _signals.tell(self)
        self._listening += 1
        try:
            yield
        finally:
            if loop is self._loop:
                self._listening -= 1
                if not self._listening:
                    _signals.tell_no_more(self)

    @property
    def ended(self) -> bool:
        """Whether its event loop is no more."""
        return self._loop is None or self._loop.is_closed()

    def begin_soon(self) -> None:
        """End its waits in its event loop; callable from a signal's handler."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self.begun = True
        for deadline in self._waits:
            if not deadline.expired():
                deadline.reschedule(asyncio.get_running_loop().time())


class _Signals:
    """The signals of this process, while anybody is to be told of them.

    One handler serves all: handlers that each put themselves before the one they find would nest ever deeper.
    """

    def __init__(self) -> None:
        self._told: set[ServerStop] = set()
        self._replaced: dict[signal.Signals, tuple[_Handler, _Handler]] = {}
        """Our handler of each signal, and the one that was there before."""

    def tell(self, stop: ServerStop) -> None:
        for one in [one for one in self._told if one.ended]:
            self.tell_no_more(one)
        if not self._told:
            self._replace_handlers()
        self._told.add(stop)

    def tell_no_more(self, stop: ServerStop) -> None:
        if stop in self._told:
            self._told.discard(stop)
            if not self._told:
                self._restore_handlers()

    def _replace_handlers(self) -> None:
        for number in _STOPPING:
            before = signal.getsignal(number)
            if callable(before):
                ours = self._handler(before)
                signal.signal(number, ours)
                self._replaced[number] = (ours, before)

    def _restore_handlers(self) -> None:
        for number, (ours, before) in self._replaced.items():
            if signal.getsignal(number) is ours:  # else somebody has put another before ours, which calls ours
                signal.signal(number, before)
        self._replaced.clear()

    def _handler(self, before: _Handler) -> _Handler:
        def receive(number: int, frame: FrameType | None) -> Any:
            for stop in list(self._told):
                stop.begin_soon()
            return before(number, frame)

        return receive


_signals = _Signals()
