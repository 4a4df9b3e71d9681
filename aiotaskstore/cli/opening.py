"""Opens a worker's store, and waits for a database that is not there yet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiotaskstore import DatabaseUnavailableError, TaskStore
from aiotaskstore.mechanics.duration import written
from aiotaskstore.mechanics.signals import escalating_signals

_FIRST_WAIT, _LONGEST_WAIT = 0.2, 2.0
"""Seconds between tries; they double."""


async def open_in_time(store: TaskStore, wait_limit: float, say: Callable[[str], None]) -> bool:
    """Open the store, trying for `wait_limit` seconds; false if SIGTERM or SIGINT came first.

    Raises `DatabaseUnavailableError` when the time is over; with a limit of 0, at the first failure.
    """
    if not wait_limit:
        await store.open()
        return True
    stopped = asyncio.Event()
    with escalating_signals(stopped.set, stopped.set):
        return await _opened_before(stopped, store, wait_limit, say)


async def _opened_before(
    stopped: asyncio.Event, store: TaskStore, wait_limit: float, say: Callable[[str], None]
) -> bool:
    """Return whether the store was opened before the signal; raise once the time is over."""
    async with asyncio.TaskGroup() as group:
        opening = group.create_task(_open(store, wait_limit, say))
        stopping = group.create_task(stopped.wait())
        await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
        opening.cancel()
        stopping.cancel()
    if stopped.is_set():
        await store.close()  # it may have come at the same moment
        return False
    error = opening.result()
    if error is not None:
        raise error
    return True


async def _open(store: TaskStore, wait_limit: float, say: Callable[[str], None]) -> Exception | None:
    """Open the store; return the error instead of raising it, since a group would raise it as a group."""
    until, wait = time.monotonic() + wait_limit, _FIRST_WAIT
    said = False
    while True:
        try:
            await store.open()
        except DatabaseUnavailableError as error:
            left = until - time.monotonic()
            if left <= 0:
                return error
            if not said:
                say(f"{error} Trying again for {written(wait_limit)}.")
                said = True
            await asyncio.sleep(min(wait, left))
            wait = min(_LONGEST_WAIT, wait * 2)
        except Exception as error:  # noqa: BLE001 - raised again outside the group
            return error
        else:
            if said:
                say("The database is there.")
            return None
