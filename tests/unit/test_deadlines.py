"""One timer for all runs."""

from __future__ import annotations

import asyncio
from math import inf

from aiotaskstore.dispatch.deadlines import Deadlines

LIMIT = 5.0


class RunWithDeadline:
    def __init__(self, name: str, ended: list[str]) -> None:
        self.name, self.ended = name, ended
        self.deadline = inf

    def overrun(self) -> None:
        self.ended.append(self.name)


async def ended(names: list[str], count: int) -> None:
    async with asyncio.timeout(LIMIT):
        while len(names) < count:  # noqa: ASYNC110 - the clock is what is tested
            await asyncio.sleep(0.005)


async def test_each_is_ended_in_its_time_whatever_the_order_of_arming():
    names: list[str] = []
    late, soon, never, between = runs = [RunWithDeadline(name, names) for name in ("late", "soon", "never", "between")]
    deadlines = Deadlines(lambda: runs)
    deadlines.arm(late, 0.15)
    deadlines.arm(soon, 0.01)
    deadlines.arm(between, 0.08)
    await ended(names, 3)
    assert names == ["soon", "between", "late"]
    assert never.deadline == inf


async def test_one_that_has_ended_is_left_alone():
    names: list[str] = []
    ends, stays = RunWithDeadline("ends", names), RunWithDeadline("stays", names)
    runs = {1: ends, 2: stays}
    deadlines = Deadlines(runs.values)
    deadlines.arm(ends, 0.01)
    deadlines.arm(stays, 0.05)
    del runs[1]
    await ended(names, 1)
    assert names == ["stays"]


async def test_one_armed_after_all_others_were_ended_is_ended_too():
    names: list[str] = []
    first, second = runs = [RunWithDeadline("first", names), RunWithDeadline("second", names)]
    deadlines = Deadlines(lambda: runs)
    deadlines.arm(first, 0.01)
    await ended(names, 1)
    deadlines.arm(second, 0.01)
    await ended(names, 2)
    assert names == ["first", "second"]


async def test_one_that_is_ended_may_end_others_or_arm_itself_again():
    names: list[str] = []
    runs: dict[str, RunWithDeadline] = {}

    class Ending(RunWithDeadline):
        def overrun(self) -> None:
            super().overrun()
            runs.pop("other", None)
            if len(names) == 1:
                deadlines.arm(self, 0.02)

    deadlines = Deadlines(runs.values)
    runs["first"], runs["other"] = Ending("first", names), RunWithDeadline("other", names)
    deadlines.arm(runs["first"], 0.01)
    deadlines.arm(runs["other"], 0.05)
    await ended(names, 2)
    await asyncio.sleep(0.06)
    assert names == ["first", "first"]
