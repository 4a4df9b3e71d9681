"""A dispatcher under a process supervisor: SIGTERM and SIGINT."""

from __future__ import annotations

import asyncio
import os
import signal

from aiotaskstore.dispatch.dispatcher import Dispatcher

_CANCELS, _EXITS = 2, 3


async def run_until_told(dispatcher: Dispatcher) -> bool:
    """Dispatch until a signal; true if everything drained.

    The first signal drains, the second cancels what still runs and gives it back, the third exits at once.
    """
    loop, told, heard = asyncio.get_running_loop(), asyncio.Event(), 0

    def hear() -> None:
        nonlocal heard
        heard += 1
        if heard == 1:
            told.set()
        elif heard == _CANCELS:
            dispatcher.cancel_runs()
        elif heard >= _EXITS:
            os._exit(1)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, hear)
    try:
        await dispatcher.start()
        await told.wait()
        return await dispatcher.stop()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
