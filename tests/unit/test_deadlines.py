"""One timer for all runs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import inf
from typing import Any

from aiotaskstore.dispatch.deadlines import Deadlines


class RunWithDeadline:
    def __init__(self, name: str, ended: list[str]) -> None:
        self.name, self.ended = name, ended
        self.deadline = inf

    def overrun(self) -> None:
        self.ended.append(self.name)


class Timer:
    def __init__(self, instant: float, call: Callable[[], object]) -> None:
        self.instant, self.call = instant, call

    def cancel(self) -> None:
        self.instant = inf


class Clock:
    """The event loop's clock, turned by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, instant: float, call: Callable[[], object], /, **_options: Any) -> Timer:
        self.timers.append(Timer(instant, call))
        return self.timers[-1]

    def turn(self, now: float) -> None:
        self.now = now
        for timer in [timer for timer in self.timers if timer.instant <= now]:
            self.timers.remove(timer)
            timer.call()


def deadlines_on(clock: Clock, runs: Callable[[], Collection[RunWithDeadline]]) -> Deadlines:
    return Deadlines(runs, clock)


async def test_each_is_ended_in_its_time_whatever_the_order_of_arming():
    names: list[str] = []
    late, soon, never, between = runs = [RunWithDeadline(name, names) for name in ("late", "soon", "never", "between")]
    clock = Clock()
    deadlines = deadlines_on(clock, lambda: runs)
    deadlines.arm(late, 15)
    deadlines.arm(soon, 1)
    deadlines.arm(between, 8)
    for now, expected in ((0.9, 0), (1, 1), (7.9, 1), (8, 2), (14.9, 2), (15, 3)):
        clock.turn(now)
        assert names == ["soon", "between", "late"][:expected]
    assert never.deadline == inf


async def test_all_that_are_due_are_ended_at_once():
    names: list[str] = []
    runs = [RunWithDeadline(name, names) for name in ("one", "other", "later")]
    clock = Clock()
    deadlines = deadlines_on(clock, lambda: runs)
    for run, seconds in zip(runs, (1, 2, 4), strict=True):
        deadlines.arm(run, seconds)
    clock.turn(3)
    assert sorted(names) == ["one", "other"]
    clock.turn(4)
    assert names[2:] == ["later"]


async def test_one_that_has_ended_is_left_alone():
    names: list[str] = []
    ends, stays = RunWithDeadline("ends", names), RunWithDeadline("stays", names)
    runs, clock = {1: ends, 2: stays}, Clock()
    deadlines = deadlines_on(clock, runs.values)
    deadlines.arm(ends, 1)
    deadlines.arm(stays, 5)
    del runs[1]
    clock.turn(1)
    clock.turn(5)
    assert names == ["stays"]


async def test_one_armed_after_all_others_were_ended_is_ended_too():
    names: list[str] = []
    first, second = runs = [RunWithDeadline("first", names), RunWithDeadline("second", names)]
    clock = Clock()
    deadlines = deadlines_on(clock, lambda: runs)
    deadlines.arm(first, 1)
    clock.turn(1)
    deadlines.arm(second, 1)
    clock.turn(2)
    assert names == ["first", "second"]


async def test_one_that_is_ended_may_end_others_or_arm_itself_again():
    names: list[str] = []
    runs: dict[str, RunWithDeadline] = {}

    class Ending(RunWithDeadline):
        def overrun(self) -> None:
            super().overrun()
            runs.pop("other", None)
            if len(names) == 1:
                deadlines.arm(self, 2)

    clock = Clock()
    deadlines = deadlines_on(clock, runs.values)
    runs["first"], runs["other"] = Ending("first", names), RunWithDeadline("other", names)
    deadlines.arm(runs["first"], 1)
    deadlines.arm(runs["other"], 5)
    for now in (1, 3, 5, 6):
        clock.turn(now)
    assert names == ["first", "first"]
