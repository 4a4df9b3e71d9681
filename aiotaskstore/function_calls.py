"""Calls plain functions of schedules in threads; a function that hangs is not called again until that call returns."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

import anyio.to_thread

from aiotaskstore.errors import TaskStoreError

_T = TypeVar("_T")


class FunctionHangsError(TaskStoreError):
    """An earlier call of the same schedule's function has not returned, though nobody waits for it any more."""


class _Call:
    """One call, as its thread sees it."""

    running = False
    given_up = False


class FunctionCalls:
    """The calls of the functions of one store's schedules.

    A thread cannot be ended: so none is added to one that hangs.
    """

    def __init__(self) -> None:
        self._abandoned: dict[_Call, str] = {}
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
        call = _Call()

        def run() -> _T:
            with self._lock:
                if call.given_up:  # before it began
                    raise FunctionHangsError("The call was given up before it began.")
                call.running = True
            try:
                return function()
            finally:
                with self._lock:
                    call.running = False
                    self._abandoned.pop(call, None)

        try:
            limiter = anyio.CapacityLimiter(math.inf)  # anyio's own is shared with the application
            return await anyio.to_thread.run_sync(run, abandon_on_cancel=True, limiter=limiter)
        except asyncio.CancelledError:
            with self._lock:
                call.given_up = True
                if call.running:
                    self._abandoned[call] = schedule
            raise
