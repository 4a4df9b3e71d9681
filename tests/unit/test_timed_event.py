"""An event that is waited for up to a moment, and a cancellation that no limit absorbs."""

from __future__ import annotations

import asyncio

import pytest

from aiotaskstore.mechanics.timed_event import TimedEvent


async def test_it_wakes_all_who_wait_and_whoever_comes_later():
    event = TimedEvent()
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(event.wait()), group.create_task(event.wait(30))]
        await asyncio.sleep(0)
        event.set()
    assert [wait.result() for wait in waits] == [True, True]
    assert await event.wait(0)
    event.clear()
    assert not await event.wait(0)
    assert not await event.wait(-1)


async def test_a_limit_ends_the_wait():
    assert not await TimedEvent().wait(0.01)


async def test_setting_and_clearing_wakes_those_who_wait_and_nobody_else():
    event = TimedEvent()
    async with asyncio.TaskGroup() as group:
        wait = group.create_task(event.wait(30))
        await asyncio.sleep(0)
        event.set()
        event.clear()
    assert wait.result()
    assert not event.is_set()


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancellation_that_meets_the_limit_is_not_absorbed(turns: int):
    """Whichever comes first in that turn of the loop."""
    for limit in (0, 1e-6):
        task = asyncio.ensure_future(_wait_for_ever(limit))  # noqa: TID251
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.cancelled()


async def _wait_for_ever(limit: float) -> None:
    event = TimedEvent()
    while True:
        await event.wait(limit)
