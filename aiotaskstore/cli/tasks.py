"""`ls`, `show`, `cancel` and `retry`: the stored tasks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import click

from aiotaskstore.cli.console import Console
from aiotaskstore.cli.figures import age, as_json, counted, instant, number
from aiotaskstore.cli.option import task_id_of
from aiotaskstore.cli.target import Target, run_with, targeted
from aiotaskstore.storage.listing import TaskFilters
from aiotaskstore.task import Task, TaskStatus
from aiotaskstore.taskstore import TaskStore


@click.command()
@click.option("--status", multiple=True, type=click.Choice([str(one) for one in TaskStatus]), help="May be repeated.")
@click.option("--queue", "-q", multiple=True, help="May be repeated.")
@click.option("--alias", multiple=True, help="May be repeated.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1), help="The most to list.")
@targeted
def ls(target: Target, *, status: Sequence[str], queue: Sequence[str], alias: Sequence[str], limit: int) -> None:
    """List tasks, newest first.

    \b
    aiotaskstore ls
    aiotaskstore ls --status failed --queue emails
    aiotaskstore ls --json --limit 1000 --url sqlite:///tasks.db
    """  # noqa: D301
    filters: TaskFilters = {}
    for name, values in (("status", status), ("queue", queue), ("alias", alias)):
        if values:
            filters[name] = list(values)  # type: ignore[literal-required] # one of three names

    async def work(store: TaskStore) -> tuple[Sequence[Task], int]:
        page: TaskFilters = {**filters, "limit": limit}
        return await store.tasks.list(**page), await store.tasks.count(**filters)

    tasks, total = run_with(target.store(), work)
    _list(target.console, tasks, total, filtered=bool(filters))


def _list(console: Console, tasks: Sequence[Task], total: int, *, filtered: bool) -> None:
    if console.prints_json:
        console.json(list(tasks))
    elif tasks:
        now = datetime.now(UTC)
        console.table(["id", "alias", "queue", "status", "age"], [_row(one, now) for one in tasks])
        if total > len(tasks):
            console.say(f"{number(len(tasks))} of {counted(total, 'task')}; --limit shows more.")
    elif filtered:
        console.say("No task matches. Without filters, `aiotaskstore ls` lists every one.")
    else:
        console.say('There are no tasks yet. Store one: aiotaskstore enqueue ALIAS \'{"name": "value"}\'')


def _row(task: Task, now: datetime) -> list[str]:
    return [str(task.id), task.alias, task.queue, str(task.status), age((now - task.created_at).total_seconds())]


@click.command()
@click.argument("task_id", metavar="ID", callback=task_id_of)
@targeted
def show(target: Target, task_id: UUID) -> None:
    """Show all there is to know about a task: payload, result, errors, details.

    \b
    aiotaskstore show 01909b6e-7c6e-7d05-bcd5-7c2a3c9f0d3a
    """  # noqa: D301
    task = run_with(target.store(), lambda store: store.tasks.require(task_id))
    if target.prints_json:
        target.console.json(task)
        return
    for name, value in _facts(task):
        target.console.print(f"{click.style(f'{name:<12}', dim=True)} {value}")


def _facts(task: Task) -> list[tuple[str, str]]:
    known: list[tuple[str, str | None]] = [
        ("id", str(task.id)),
        ("alias", task.alias),
        ("queue", task.queue),
        ("status", f"{task.status} ({task.finish_reason})" if task.finish_reason else str(task.status)),
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
        ("parent", str(task.parent_id) if task.parent_id else None),
        ("metadata", as_json(task.metadata) if task.metadata else None),
        ("dispatcher", str(task.dispatcher_id) if task.dispatcher_id else None),
        ("created", instant(task.created_at)),
        ("runs at", None if task.started_at else instant(task.run_at)),
        ("started", instant(task.started_at) if task.started_at else None),
        ("finished", instant(task.finished_at) if task.finished_at else None),
        ("kept until", instant(task.expires_at) if task.expires_at else None),
    ]
    facts = [(name, value) for name, value in known if value is not None]
    facts += [(f"attempt {one.attempt}", f"{instant(one.at)}  {one.type}: {one.message}") for one in task.errors]
    return facts + [("details", line) for line in task.details.splitlines()]


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


@click.command()
@click.argument("task_id", metavar="ID", callback=task_id_of)
@click.option("--reason", default="", help="Kept with the task.")
@click.option("--force", is_flag=True, help="End a running task's row now; whatever its handler still does is dropped.")
@targeted
def cancel(target: Target, task_id: UUID, *, reason: str, force: bool) -> None:
    """Cancel a task that has not finished.

    A running one is asked to end, in whatever process it runs, and ends as cancelled unless it succeeds all the same.

    \b
    aiotaskstore cancel 01909b6e-7c6e-7d05-bcd5-7c2a3c9f0d3a --reason "wrong address"
    """  # noqa: D301
    task = run_with(target.store(), lambda store: store.tasks.cancel(task_id, reason, force=force))
    if target.prints_json:
        target.console.json(task)
    elif task.status is TaskStatus.RUNNING:
        target.console.say(f"Asked {task.alias} {task.id} to end; it is running.")
    else:
        target.console.say(f"{task.alias} {task.id} is {task.status}.")


@click.command()
@click.argument("task_id", metavar="ID", callback=task_id_of)
@click.option("--force", is_flag=True, help="Also run a task again that has succeeded.")
@targeted
def retry(target: Target, task_id: UUID, *, force: bool) -> None:
    """Run a task again from the start: no attempts made, due now.

    From any status but running; from succeeded only with --force.

    \b
    aiotaskstore retry 01909b6e-7c6e-7d05-bcd5-7c2a3c9f0d3a
    aiotaskstore ls --status failed --json | jq -r '.[].id' | xargs -n1 aiotaskstore retry
    """  # noqa: D301
    task = run_with(target.store(), lambda store: store.tasks.retry(task_id, force=force))
    if target.prints_json:
        target.console.json(task)
    else:
        target.console.say(f"{task.alias} {task.id} is {task.status}.")
