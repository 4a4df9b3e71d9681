"""How loops wait while the database is away, and what they report of it."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise

import pytest

from aiotaskstore import DatabaseUnavailableError
from aiotaskstore.dispatch import loop_backoff
from aiotaskstore.dispatch.loop_backoff import FIRST_WAIT, LONGEST_WAIT, LoopBackoffs
from aiotaskstore.dispatch.loops import random_part_of, repeat
from aiotaskstore.events import BackgroundFailed, BackgroundRecovered, Event
from aiotaskstore.hooks import Hooks
from aiotaskstore.mechanics.timed_event import TimedEvent
from aiotaskstore.observe.logs import log_events
from tests.helpers import LIMIT

AWAY = DatabaseUnavailableError("The database is away.")


def listening() -> tuple[LoopBackoffs, list[Event]]:
    hooks, events = Hooks(), list[Event]()
    hooks.on(Event, events.append)
    return LoopBackoffs(hooks), events


async def test_a_backoff_ends_as_soon_as_the_database_answers_anybody(monkeypatch: pytest.MonkeyPatch):
    backoffs, events = listening()
    claimer, promoter = backoffs.create("claimer"), backoffs.create("promoter")
    monkeypatch.setattr(loop_backoff, "FIRST_WAIT", 1e9)
    monkeypatch.setattr(loop_backoff, "LONGEST_WAIT", 1e9)
    promoter.failed(AWAY, 0)
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        group.create_task(claimer.wait(AWAY))
        await asyncio.sleep(0)
        promoter.reset()
    assert [event.loop for event in events if isinstance(event, BackgroundRecovered)] == ["promoter"]


async def test_what_goes_well_all_the_time_wakes_nobody():
    backoffs, events = listening()
    claimer, promoter = backoffs.create("claimer"), backoffs.create("promoter")
    waiting = asyncio.get_running_loop().create_task(claimer.wait(AWAY))
    for _ in range(5):
        promoter.reset()
        await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert len(events) == 1


async def test_each_failure_in_a_row_waits_longer_and_is_reported_with_its_number(monkeypatch: pytest.MonkeyPatch):
    backoffs, events = listening()

    async def at_once(_backoffs: LoopBackoffs, _limit: float) -> None: ...

    monkeypatch.setattr(LoopBackoffs, "wait", at_once)
    backoff = backoffs.create("claimer")
    for _ in range(12):
        await backoff.wait(AWAY)
    failures = [event for event in events if isinstance(event, BackgroundFailed)]
    assert [event.failures for event in failures] == list(range(1, 13))
    for number, event in enumerate(failures):
        longest = min(LONGEST_WAIT, FIRST_WAIT * 2**number)
        assert longest / 2 <= event.retry_in <= longest
    assert all(one.retry_in < 4 * other.retry_in + 1 for one, other in pairwise(failures))


async def test_an_outage_is_one_line_when_it_begins_and_one_when_it_is_over(caplog: pytest.LogCaptureFixture):
    hooks = Hooks()
    log_events(hooks)
    caplog.set_level(logging.INFO)
    backoff = LoopBackoffs(hooks).create("claimer")
    for _ in range(5):
        backoff.failed(AWAY, 1.0)
    backoff.reset()
    backoff.reset()
    first, last = caplog.messages
    assert first == "claimer: The database is away.; again in 1 s, and so on until it succeeds"
    assert last.startswith("claimer: goes on after ")
    assert last.endswith("it had failed 5 times")


async def test_a_loop_goes_on_after_an_outage_and_ends_when_it_shall():
    backoffs, _ = listening()
    ended, done = TimedEvent(), 0

    async def once() -> None:
        nonlocal done
        done += 1
        if done < 3:
            backoffs.retry_now()
            raise AWAY
        ended.set()

    async def rest() -> None: ...

    async with asyncio.timeout(LIMIT):
        await repeat(once, rest, backoffs.create("healer"), ended)
    assert done == 3


def test_every_instant_of_a_period_is_as_likely():
    draws = sorted(random_part_of(10) for _ in range(2_000))
    assert draws[0] >= 0
    assert draws[-1] <= 10
    for part in range(10):
        assert 100 < sum(part <= draw < part + 1 for draw in draws) < 320
