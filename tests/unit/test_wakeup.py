"""When a dispatcher is marked as idle, so that processes which enqueue send it notifications."""

from __future__ import annotations

from aiotaskstore.dispatch.wakeup import Wakeup


async def test_a_dispatcher_that_is_about_to_have_work_is_not_marked_as_idle_until_none_is_expected():
    marks: list[bool] = []
    expected = [True, True, False]

    async def mark(*, idle: bool) -> None:
        marks.append(idle)

    wakeup = Wakeup(1.0, listening=lambda: True, mark_idle=mark, expects_work=lambda: expected.pop(0))
    assert await wakeup.wait_for_expected_work()
    assert await wakeup.wait_for_expected_work()
    assert not await wakeup.wait_for_expected_work()
    assert marks == []
    assert await wakeup.set_idle_mark()
    assert not await wakeup.wait_for_expected_work(), "what has the mark just sleeps"
    assert marks == [True]


async def test_where_nothing_reads_the_mark_nothing_is_waited_for():
    wakeup = Wakeup(1.0, listening=lambda: False, mark_idle=None, expects_work=lambda: True)
    assert not await wakeup.wait_for_expected_work()
