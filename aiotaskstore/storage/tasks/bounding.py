"""Attempt errors and details stay bounded: one row replaces those that are left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple
from uuid import UUID

from aiotaskstore.mechanics.entry_limit import Entry, EntryLimit, left_out
from aiotaskstore.side_row_limits import DETAILS, ERRORS
from aiotaskstore.storage.operation import Batch, Call, Row, Steps


def bound_errors(ids: Sequence[UUID]) -> Steps[None]:
    """Leave out what is between the first and the newest errors of these tasks, whose rows are locked."""
    if not ids:
        return
    rows = yield Call("sizes_of_errors", {"ids": ids})
    gaps = list(_gaps([(row[0], row[1:2], Entry(*row[2:])) for row in rows], ERRORS))
    if gaps:
        marks = [(gap.task_id, *gap.start, gap.left_out) for gap in gaps]
        yield Batch("mark_errors_left_out", ("task_id", "fence", "left_out"), marks)
        ranges = [(gap.task_id, *gap.start, *gap.end) for gap in gaps]
        yield Batch("leave_out_errors", ("task_id", "fence", "end_fence"), ranges)


def bound_details(ids: Sequence[UUID]) -> Steps[None]:
    """Leave out what is between the first and the newest lines of these tasks, whose rows are locked."""
    if not ids:
        return
    rows = yield Call("sizes_of_details", {"ids": ids})
    gaps = list(_gaps([(row[0], row[1:3], Entry(*row[3:])) for row in rows], DETAILS))
    if gaps:
        marks = [(gap.task_id, *gap.start, gap.left_out) for gap in gaps]
        yield Batch("mark_details_left_out", ("task_id", "fence", "line", "left_out"), marks)
        ranges = [(gap.task_id, *gap.start, *gap.end) for gap in gaps]
        yield Batch("leave_out_details", ("task_id", "fence", "line", "end_fence", "end_line"), ranges)


class _Gap(NamedTuple):
    """Which rows of a task, by their keys, one row will replace: from `start` to before `end`."""

    task_id: Any
    start: Row
    end: Row
    left_out: int


def _gaps(sized: Sequence[tuple[Any, Row, Entry]], bound: EntryLimit) -> Iterator[_Gap]:
    """Find what a bound leaves out of each task's rows: `(task, key, entry)` each, in order."""
    for task_id, group in groupby(sized, itemgetter(0)):
        rows = list(group)
        gap = bound.gap([entry for _, _, entry in rows])
        if gap is not None:
            start, end = gap
            count = left_out(entry for _, _, entry in rows[start:end])
            beyond = rows[end][1] if end < len(rows) else [2**31 - 1] * len(rows[0][1])
            yield _Gap(task_id, rows[start][1], beyond, count)
