"""What the side tables hold of tasks: attempt errors, progress, details."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING
from uuid import UUID

from aiotaskstore.mechanics.entry_limit import Entry, EntryLimit, left_out
from aiotaskstore.side_row_limits import DETAILS, ERRORS
from aiotaskstore.task import AttemptError, Progress

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database
    from aiotaskstore.storage.operation import Row


class SideRows:
    """The rows of the side tables, by task id: errors, progress and details."""

    def __init__(self) -> None:
        self.errors: dict[UUID, list[AttemptError]] = {}
        self.errors_left_out: dict[UUID, int] = {}
        self.progress: dict[UUID, Progress] = {}
        self.details: dict[UUID, list[str]] = {}
        self.details_left_out: dict[UUID, int] = {}


def read_side_rows(
    database: Database, errors: Sequence[Row], progress: Sequence[Row], details: Sequence[Row]
) -> SideRows:
    """Sort the rows of the side tables by task."""
    side_rows = SideRows()
    uid = database.uid
    for task_id, rows in groupby(errors, itemgetter(0)):
        sized = [(row, Entry(len(row[3]) + len(row[4]) + len(row[5] or ""), row[6])) for row in rows]
        kept, gap = _bounded(sized, ERRORS)
        side_rows.errors_left_out[uid(task_id)] = sum(gap.values())
        side_rows.errors[uid(task_id)] = [
            AttemptError(attempt, database.instant(at), type_, message, traceback or "")
            for _, attempt, at, type_, message, traceback, _ in kept
        ]
    for task_id, text, fraction, at in progress:
        side_rows.progress[uid(task_id)] = Progress(text, fraction, database.instant(at))
    for task_id, rows in groupby(details, itemgetter(0)):
        kept, gap = _bounded([(row, Entry(len(row[1]), row[2])) for row in rows], DETAILS)
        side_rows.details_left_out[uid(task_id)] = sum(gap.values())
        lines = [row[1] for row in kept]
        for place, count in gap.items():
            lines.insert(place, left_out_line(count))
        side_rows.details[uid(task_id)] = lines
    return side_rows


def left_out_line(count: int) -> str:
    """Return the line that stands for lines of details that were left out."""
    return f"… {count:,} lines left out …"


def _bounded(sized: Sequence[tuple[Row, Entry]], bound: EntryLimit) -> tuple[list[Row], dict[int, int]]:
    """Return the rows that a bound keeps, and how many it leaves out before which of them.

    What is stored may be a little more than the bound: it is cut now and then, not with every row.
    """
    entries = [entry for _, entry in sized]
    start, end = bound.gap(entries) or (0, 0)
    kept: list[Row] = []
    gaps: dict[int, int] = {}
    for number, (row, entry) in enumerate(sized):
        if start <= number < end or entry.left_out:
            gaps[len(kept)] = gaps.get(len(kept), 0) + left_out([entry])
        else:
            kept.append(row)
    return kept, gaps
