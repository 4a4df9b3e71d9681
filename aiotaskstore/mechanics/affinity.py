"""Affinity: an open store or dispatcher works only on the event loop, thread and process that opened it."""

from __future__ import annotations

import asyncio
import os
import threading

from aiotaskstore.errors import ConfigurationError


class Affinity:
    """The event loop, thread and process in which an object was opened."""

    __slots__ = ("loop", "process", "thread")

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.thread: str = threading.current_thread().name
        self.process: int = os.getpid()

    @property
    def forked(self) -> bool:
        """Whether this process is a fork of the process that opened the store, which still owns the connections."""
        return os.getpid() != self.process

    @property
    def gone(self) -> bool:
        """Whether the event loop is closed, or was left behind in the parent of a fork."""
        return self.loop.is_closed() or self.forked

    def check(self) -> None:
        """Raise `ConfigurationError` unless called on that event loop, which implies its thread and process."""
        try:
            if asyncio.get_running_loop() is self.loop:
                return
        except RuntimeError:  # none runs in this thread
            pass
        raise ConfigurationError(self._where())

    def _where(self) -> str:
        if self.forked:
            return (
                f"The store was opened in process {self.process}, of which this one, {os.getpid()}, is a fork: its "
                "connections belong to the parent. Open it here (`async with store:`, or `await store.open()`)."
            )
        if self.loop.is_closed():
            return (
                "The store was left open by an event loop that is closed. Open it on this one "
                "(`async with store:`, or `await store.open()`)."
            )
        here = threading.current_thread().name
        return (
            f'The store was opened on the event loop of the thread "{self.thread}", and is used in "{here}", on '
            "another loop or none. From a worker thread: anyio.from_thread.run(task.enqueue, 42); from any other: "
            "asyncio.run_coroutine_threadsafe(task.enqueue(42), loop).result(); or open another TaskStore on this loop."
        )
