"""What a handler appends faster than it can be written: bounded, in order, and nothing lost between threads."""

from __future__ import annotations

import sys
import threading

from aiotaskstore.dispatch.details import Details
from aiotaskstore.side_row_limits import DETAILS
from aiotaskstore.storage.tasks import Line


def test_lines_come_out_once_in_order_and_numbered():
    details = Details(later_attempt=False)
    assert [details.add(text) for text in ("a", "b")] == [True, False]
    assert details.take() == ((Line(1, "a"), Line(2, "b")), False)
    assert details.take() == ((), False)
    assert details.add("c")
    assert details.take()[0] == (Line(3, "c"),)


def test_a_run_that_appends_a_million_lines_holds_only_the_first_and_the_newest():
    details = Details(later_attempt=False)
    count = 100_000
    for number in range(1, count + 1):
        details.add(f"{number}")
    lines, bounding = details.take()
    assert bounding
    assert len(lines) == DETAILS.first + 1 + DETAILS.newest
    assert [line.text for line in lines[: DETAILS.first]] == [f"{n}" for n in range(1, DETAILS.first + 1)]
    assert lines[-1] == Line(count, f"{count}")
    gap = lines[DETAILS.first]
    assert (gap.number, gap.left_out) == (DETAILS.first + 1, count - DETAILS.first - DETAILS.newest)


def test_long_lines_are_bounded_by_their_characters():
    details = Details(later_attempt=False)
    for _ in range(1_000):
        details.add("x" * 10_000)
    lines, bounding = details.take()
    assert bounding
    characters = sum(len(line.text) for line in lines)
    assert characters <= DETAILS.first_characters + DETAILS.newest_characters
    assert sum(line.left_out or 1 for line in lines) == 1_000


def test_a_task_is_bounded_now_and_then_and_at_the_first_lines_of_a_later_attempt():
    details = Details(later_attempt=False)
    asked = 0
    for _ in range(1_000):
        details.add("line")
        asked += details.take()[1]
    assert 3 <= asked <= 10
    later = Details(later_attempt=True)
    later.add("line")
    assert later.take()[1]


def test_no_line_is_lost_between_threads_that_append_and_the_one_that_writes():
    details = Details(later_attempt=False)
    threads, each = 4, 20_000
    appended = threading.Event()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def append() -> None:
        for _ in range(each):
            details.add("line")

    appending = [threading.Thread(target=append) for _ in range(threads)]
    taken: list[Line] = []

    def write() -> None:
        while not appended.is_set():
            taken.extend(details.take()[0])
        taken.extend(details.take()[0])

    writer = threading.Thread(target=write)
    try:
        for thread in (writer, *appending):
            thread.start()
        for thread in appending:
            thread.join()
        appended.set()
        writer.join()
    finally:
        sys.setswitchinterval(interval)
    assert sum(line.left_out or 1 for line in taken) == threads * each
    numbers = [line.number for line in taken if not line.left_out]
    assert sorted(set(numbers)) == sorted(numbers)
