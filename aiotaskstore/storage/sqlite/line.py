"""The writer's thread, and who uses it next."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from aiotaskstore.errors import DatabaseUnavailableError
from aiotaskstore.storage.steps import Operation, T


class Thread:
    """One SQLite connection and the one thread that uses it."""

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"aiotaskstore-{name}")
        self._connect = connect
        self.raw: sqlite3.Connection

    async def open(self) -> None:
        try:
            await self.hop(self._open)
        except BaseException:
            self._executor.submit(self._close)  # once what is under way has ended
            self._executor.shutdown(wait=False)
            raise

    async def close(self) -> None:
        await self.hop(self._close)
        self._executor.shutdown(wait=False)

    def _open(self) -> None:
        self.raw = self._connect()

    def _close(self) -> None:
        raw: sqlite3.Connection | None = getattr(self, "raw", None)
        if raw is not None:
            raw.close()

    def hop(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Do `work` in the thread."""
        return asyncio.get_running_loop().run_in_executor(self._executor, work)


class Line:
    """Who uses the writer next: operations in groups, and now and then somebody alone."""

    def __init__(self, commit: Callable[[list[Operation[Any]]], list[tuple[Any, BaseException | None]]]) -> None:
        self._commit = commit
        self._waiting: list[tuple[Operation[Any] | None, asyncio.Future[Any]]] = []
        self._busy = False
        self._closed = False
        self._thread: Thread

    def open(self, thread: Thread) -> None:
        """Use this thread from now on."""
        self._thread = thread

    async def enter(self, operation: Operation[T]) -> T:
        """Wait for a group to take the operation, and for its commit."""
        if self._closed:
            raise DatabaseUnavailableError("The store's SQLite file is closed.")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((operation, future))
        self._advance()
        return await future

    def close(self) -> None:
        """Let nobody in any more."""
        self._closed = True

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Wait until nobody uses the writer, and keep it so."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((None, future))
        self._advance()
        try:
            await future
        except asyncio.CancelledError:
            if not future.cancelled():
                self._leave()
            raise
        try:
            yield
        finally:
            self._leave()

    def _advance(self) -> None:
        self._waiting = [one for one in self._waiting if not one[1].done()]
        if self._busy or not self._waiting:
            return
        self._busy = True
        operation, future = self._waiting[0]
        if operation is None:
            del self._waiting[0]
            future.set_result(None)
            return
        group: list[tuple[Operation[Any], asyncio.Future[Any]]] = []
        while self._waiting and (operation := self._waiting[0][0]) is not None:
            group.append((operation, self._waiting.pop(0)[1]))
        done = self._thread.hop(partial(self._commit, [operation for operation, _ in group]))
        done.add_done_callback(partial(self._answer, [future for _, future in group]))

    def _answer(self, futures: list[asyncio.Future[Any]], done: asyncio.Future[Any]) -> None:
        error = done.exception()
        answers = done.result() if error is None else [(None, error)] * len(futures)
        for future, (answer, failure) in zip(futures, answers, strict=True):
            if future.done():
                continue
            if failure is None:
                future.set_result(answer)
            else:
                future.set_exception(failure)
        self._leave()

    def _leave(self) -> None:
        self._busy = False
        self._advance()
