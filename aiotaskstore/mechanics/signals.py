"""Handles SIGTERM and SIGINT of a long-running process: each further signal stops it more urgently."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SECOND, _THIRD = 2, 3
_EXIT_CODE = 1


@contextmanager
def escalating_signals(
    first: Callable[[], object], second: Callable[[], object], third: Callable[[], object] | None = None
) -> Iterator[list[signal.Signals]]:
    """Inside the block, call `first` at the first SIGTERM or SIGINT, `second` at the second; the third exits at once.

    `third` is called right before that exit. Yields the list of the signals received so far. Main thread only.
    """
    loop = asyncio.get_running_loop()
    received: list[signal.Signals] = []

    def receive(number: signal.Signals) -> None:
        received.append(number)
        if len(received) >= _THIRD:
            if third is not None:
                third()
            os._exit(_EXIT_CODE)
        (second if len(received) == _SECOND else first)()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, receive, number)
    try:
        yield received
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
