"""The table of `ls`: on a terminal for people, in a pipe with whole ids and instants for scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from aiotaskstore import Task, TaskStatus
from aiotaskstore.cli.console import Console
from aiotaskstore.cli.formatting import age, instant
from aiotaskstore.cli.task_status import COLOURS, signed, word
from aiotaskstore.cli.text_width import width_of

_WHOLE_IDS = 120
"""Columns from which on ids are printed whole."""
_SHORTEST_NOTE = 20
"""Columns below which a note is left out: it would only take them from the names."""
_SHORTEST = 13
"""Letters that a shortened id has at least: those that tell the millisecond."""


def print_tasks(console: Console, tasks: Sequence[Task], now: datetime) -> None:
    """Print a line for each task."""
    if console.on_terminal:
        _print_for_people(console, tasks, now)
    else:
        rows = [[str(one.id), one.alias, one.queue, word(one), _attempt(one), instant(one.created_at)] for one in tasks]
        console.table(["id", "alias", "queue", "status", "attempt", "created"], rows)


def _print_for_people(console: Console, tasks: Sequence[Task], now: datetime) -> None:
    ids = [str(task.id) for task in tasks]
    if console.width < _WHOLE_IDS:
        ids = _shortened(ids)
    rows = [
        [task_id, _status(task), task.alias, task.queue, _when(task, now), _note(task)]
        for task_id, task in zip(ids, tasks, strict=True)
    ]
    columns = ["id", "status", "alias", "queue", "when", "note"]
    if not any(row[-1] for row in rows) or _room_for_notes(rows, console.width) < _SHORTEST_NOTE:
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    colours: Mapping[str, str] = {signed(status): colour for status, colour in COLOURS.items()}
    console.table(columns, rows, whole=("id", "status", "when"), colours=colours)


def _room_for_notes(rows: Sequence[Sequence[str]], width: int) -> int:
    """Return the columns that are left for notes where nothing else is cut."""
    others = [max(map(width_of, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    return width - sum(others) - 2 * len(others)


def _shortened(ids: Sequence[str]) -> list[str]:
    """Cut ids to as much of their beginning as tells them apart."""
    length = _SHORTEST
    while len({one[:length] for one in ids}) < len(ids):
        length += 1
    return [one[:length].rstrip("-") for one in ids]


def _status(task: Task) -> str:
    return f"{signed(task.status)}, deleted" if task.deleted_at else signed(task.status)


def _when(task: Task, now: datetime) -> str:
    """Say what people want to know of this status: when it is due, since when it runs, when it ended."""
    match task.status:
        case TaskStatus.SCHEDULED | TaskStatus.WAITING | TaskStatus.PENDING:
            wait = (task.run_at - now).total_seconds()
            return f"due in {age(wait)}" if wait > 0 else f"due {age(-wait)} ago"
        case TaskStatus.RUNNING:
            return f"for {_ago(task.started_at, now)}"
        case TaskStatus.PAUSED:
            return f"{_ago(task.updated_at, now)} ago"
        case _:
            return f"{_ago(task.finished_at, now)} ago"


def _ago(at: datetime | None, now: datetime) -> str:
    return age((now - at).total_seconds()) if at else "?"


def _note(task: Task) -> str:
    """Say why it ended as it did, or how far it is."""
    if task.status is TaskStatus.RUNNING and task.progress is not None:
        fraction = "" if task.progress.fraction is None else f"{task.progress.fraction:.0%} "
        text = f"{fraction}{task.progress.text}"
    elif task.status is TaskStatus.SUCCEEDED:
        text = ""
    elif task.status is TaskStatus.CANCELLED:
        text = task.cancel_reason or ""
    else:
        text = task.error or (f"{task.errors[-1].type}: {task.errors[-1].message}" if task.errors else "")
    again = f"attempt {_attempt(task)}" if task.attempt > 1 or (task.attempt and not task.status.finished) else ""
    return " · ".join(filter(None, [again, " ".join(text.split())]))


def _attempt(task: Task) -> str:
    return f"{task.attempt}/{task.max_attempts}"
