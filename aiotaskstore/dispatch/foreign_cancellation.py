"""What a run does where somebody else may cancel its asyncio task: no reason for that is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def let_others_run() -> None:
    """Let the event loop run the other tasks once; a cancellation that comes by then is taken.

    If the application cancelled all tasks at once, the lifecycle's task sees its own cancellation in this turn, and
    asks this run to stop for a shutdown.
    """
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)


async def undisturbed(wait: Callable[[], Awaitable[T]]) -> T:
    """Wait for what has a limit of its own, also if somebody cancels the asyncio task meanwhile; `wait` is repeated.

    Else a run that no stop cancels any more would never end, and keep its slot.
    """
    while True:
        with suppress(asyncio.CancelledError):
            return await wait()
