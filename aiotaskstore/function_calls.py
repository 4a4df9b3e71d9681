"""Calls plain functions of schedules in threads; a function that hangs is not called again until that call returns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from threading import Lock, Thread
from typing import Any, TypeVar

from aiotaskstore.errors import TaskStoreError

_T = TypeVar("_T")


class FunctionHangsError(TaskStoreError):
    """An earlier call of the same schedule's function has not returned, though nobody waits for it any more."""


class FunctionCalls:
    """The calls of the functions of one store's schedules.

    A thread cannot be ended: so none is added to one that hangs, and none keeps the process from exiting. That is why
    each call has a daemon thread of its own: Python waits for those of asyncio and of anyio when it exits.
    """

    def __init__(self) -> None:
        self._abandoned: dict[asyncio.Future[Any], str] = {}
        """Calls that nobody waits for and that have not returned, with the names of their schedules."""
        self._lock = Lock()

    def hangs(self, schedule: str) -> bool:
        """Return whether a call of this schedule's function has been given up and has not returned."""
        with self._lock:
            return schedule in self._abandoned.values()

    async def call(self, schedule: str, function: Callable[[], _T]) -> _T:
        """Call a function in a thread; if the caller is cancelled, its call is given up.

        Raises `FunctionHangsError` while one that was given up before has not returned.
        """
        if self.hangs(schedule):
            raise FunctionHangsError(
                f'The function of the schedule "{schedule}" hangs: it is called again when its earlier call returns.'
            )
        loop, context = asyncio.get_running_loop(), copy_context()
        ended: asyncio.Future[tuple[_T | None, BaseException | None]] = loop.create_future()
        over = False

        def run() -> None:
            nonlocal over
            result: tuple[_T | None, BaseException | None]
            try:
                result = context.run(function), None
            except BaseException as error:  # noqa: BLE001 - raised where the call is awaited
                result = None, error
            with self._lock:
                over = True
                self._abandoned.pop(ended, None)
            with suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(_tell, ended, result)

        try:
            Thread(target=run, name=f"aiotaskstore function of {schedule}", daemon=True).start()
        except RuntimeError as error:
            raise TaskStoreError(f"No thread could be started for the function of a schedule: {error}") from error
        try:
            value, raised = await ended
        except asyncio.CancelledError:
            with self._lock:
                if not over:
                    self._abandoned[ended] = schedule
            raise
        if raised is not None:
            raise raised
        return value  # type: ignore[return-value] # what the function returned


def _tell(ended: asyncio.Future[_T], result: _T) -> None:
    if not ended.done():
        ended.set_result(result)
