"""What `show` prints of a task: names in a column, values beside them."""

from __future__ import annotations

from datetime import datetime

from aiotaskstore import AttemptError, Task, TaskStatus
from aiotaskstore.cli.console import Console
from aiotaskstore.cli.formatting import age, as_json, counted, instant, number
from aiotaskstore.cli.task_status import COLOURS, signed
from aiotaskstore.mechanics.duration import written

_WIDTH = 12
"""Letters of the longest name."""
_LONGEST = 2_000
"""Letters of a value that is printed whole on a terminal."""


def print_task(console: Console, task: Task, now: datetime) -> None:
    """Print all there is to know about a task; on a terminal long values are shortened, and times told from now."""
    colour = COLOURS.get(task.status)
    for name, value in _facts(task, now, people=console.on_terminal):
        shown = _shortened(value) if console.on_terminal else value
        console.print_fact(name, shown, _WIDTH, colour=colour if name == "status" else None)


def _shortened(value: str) -> str:
    if len(value) <= _LONGEST:
        return value
    return f"{value[:_LONGEST]}…\n({number(len(value) - _LONGEST)} more letters; --json prints them)"


def _facts(task: Task, now: datetime, *, people: bool) -> list[tuple[str, str]]:
    def at(when: datetime | None) -> str | None:
        if when is None:
            return None
        return f"{instant(when)} ({_from_now(when, now)})" if people else instant(when)

    status = signed(task.status) if people else str(task.status)
    known: list[tuple[str, str | None]] = [
        ("id", str(task.id)),
        ("alias", task.alias),
        ("queue", task.queue),
        ("status", f"{status} ({task.finish_reason})" if task.finish_reason else status),
        ("attempt", f"{task.attempt} of {task.max_attempts}"),
        ("priority", str(task.priority) if task.priority else None),
        ("payload", as_json(task.payload)),
        ("result", as_json(task.result) if task.status is TaskStatus.SUCCEEDED else None),
        ("error", task.error),
        ("cancel", _cancel_request(task)),
        ("progress", _progress(task)),
        ("owner", " ".join(task.owner) if task.owner else None),
        ("source", task.source),
        ("external id", task.external_id),
        ("serialization key", task.serialization_key),
        ("parent", str(task.parent_id) if task.parent_id else None),
        ("metadata", as_json(task.metadata) if task.metadata else None),
        ("dispatcher", str(task.dispatcher_id) if task.dispatcher_id else None),
        ("created", at(task.created_at)),
        _due(task, now),
        ("started", at(task.started_at)),
        ("finished", at(task.finished_at)),
        ("took", _took(task)),
        ("kept until", at(task.expires_at)),
        ("deleted", at(task.deleted_at)),
    ]
    facts = [(name, value) for name, value in known if value is not None]
    facts += [(f"attempt {one.attempt}", _attempt(one)) for one in task.errors]
    if task.errors_left_out:
        facts.append(("left out", f"{counted(task.errors_left_out, 'error')} between the first and the newest"))
    if task.details:
        facts.append(("details", task.details))
    if task.details_left_out:
        facts.append(("left out", f"{counted(task.details_left_out, 'line')} between the first and the newest"))
    return facts


def _from_now(when: datetime, now: datetime) -> str:
    wait = (when - now).total_seconds()
    return f"in {age(wait)}" if wait > 0 else f"{age(-wait)} ago"


def _took(task: Task) -> str | None:
    if task.started_at is None or task.finished_at is None:
        return None
    return written(max(0.0, (task.finished_at - task.started_at).total_seconds()))


def _attempt(error: AttemptError) -> str:
    """Describe how an attempt failed: a line, and its traceback, whose last line would say the same."""
    what = f"{instant(error.at)}  {error.type}: {error.message}"
    return f"{what}\n{error.traceback}" if error.traceback else what


def _due(task: Task, now: datetime) -> tuple[str, str | None]:
    name = "next attempt" if task.attempt else "due"
    if task.status.finished or task.status is TaskStatus.RUNNING:
        return name, None
    wait = (task.run_at - now).total_seconds()
    return name, f"{instant(task.run_at)} ({f'in {written(wait)}' if wait > 0 else f'since {age(-wait)}'})"


def _cancel_request(task: Task) -> str | None:
    if task.cancel_requested_at is None and task.cancel_reason is None:
        return None
    when = f"asked for at {instant(task.cancel_requested_at)}" if task.cancel_requested_at else "asked for"
    return f"{when}: {task.cancel_reason}" if task.cancel_reason else when


def _progress(task: Task) -> str | None:
    if task.progress is None:
        return None
    fraction = "" if task.progress.fraction is None else f"{task.progress.fraction:.0%} "
    return f"{fraction}{task.progress.text} ({instant(task.progress.at)})"
