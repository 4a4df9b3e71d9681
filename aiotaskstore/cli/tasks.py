"""`ls`, `show`, `cancel`, `retry` and `delete`: the stored tasks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click

from aiotaskstore import AttemptError, Task, TaskFilters, TaskNotFoundError, TaskStatus, TaskStore
from aiotaskstore.cli.command import Command
from aiotaskstore.cli.console import Console
from aiotaskstore.cli.exit_code import ExitCode
from aiotaskstore.cli.formatting import age, as_json, counted, instant, number
from aiotaskstore.cli.option import ids_of
from aiotaskstore.cli.selection import WrittenId, each
from aiotaskstore.cli.target import Target, run_with, targeted
from aiotaskstore.mechanics.duration import written

_WIDTH = 12
"""Letters of the longest name that `show` prints."""
_ids = click.argument("ids", metavar="ID...", nargs=-1, required=True, callback=ids_of)


@click.command(cls=Command)
@click.option("--status", multiple=True, type=click.Choice([str(one) for one in TaskStatus]), help="May be repeated.")
@click.option("--queue", "-q", multiple=True, help="May be repeated.")
@click.option("--alias", multiple=True, help="May be repeated.")
@click.option("--include-deleted", is_flag=True, help="Also those that are soft-deleted.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1), help="The most to list.")
@targeted
def ls(
    target: Target,
    *,
    status: Sequence[str],
    queue: Sequence[str],
    alias: Sequence[str],
    include_deleted: bool,
    limit: int,
) -> None:
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
    if include_deleted:
        filters["include_deleted"] = True

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
    status = f"{task.status} (soft-deleted)" if task.deleted_at else str(task.status)
    return [str(task.id), task.alias, task.queue, status, age((now - task.created_at).total_seconds())]


@click.command(cls=Command, short_help="Show all there is to know about tasks.")
@_ids
@targeted
def show(target: Target, ids: Sequence[WrittenId]) -> None:
    """Show all there is to know about tasks: payload, result, errors with their tracebacks, details.

    An ID may be shortened to as much of its beginning as is unique.

    \b
    aiotaskstore show 01909b6e-7c6e-7d05-bcd5-7c2a3c9f0d3a
    aiotaskstore show 01909b6e-7c6e --json | jq .payload
    """  # noqa: D301
    tasks, code = run_with(target.store(), lambda store: each(store, ids, store.tasks.require))
    if target.prints_json:
        _print_json(target.console, ids, tasks)
    else:
        now = datetime.now(UTC)
        for number_, task in enumerate(tasks):
            if number_:
                target.console.print()
            for name, value in _facts(task, now):
                target.console.print_fact(name, value, _WIDTH)
    _end(code)


def _print_json(console: Console, ids: Sequence[WrittenId], values: Sequence[Any]) -> None:
    """Print an object where one task was named, else a list."""
    if len(ids) > 1:
        console.json(list(values))
    elif values:
        console.json(values[0])


def _end(code: ExitCode) -> None:
    if code:
        raise SystemExit(code)


def _facts(task: Task, now: datetime) -> list[tuple[str, str]]:
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
        ("serialization key", task.serialization_key),
        ("parent", str(task.parent_id) if task.parent_id else None),
        ("metadata", as_json(task.metadata) if task.metadata else None),
        ("dispatcher", str(task.dispatcher_id) if task.dispatcher_id else None),
        ("created", instant(task.created_at)),
        _due(task, now),
        ("started", instant(task.started_at) if task.started_at else None),
        ("finished", instant(task.finished_at) if task.finished_at else None),
        ("kept until", instant(task.expires_at) if task.expires_at else None),
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


@click.command(cls=Command)
@_ids
@click.option("--reason", default="", help="Kept with the task.")
@click.option("--force", is_flag=True, help="End a running task's row now; whatever its handler still does is dropped.")
@targeted
def cancel(target: Target, ids: Sequence[WrittenId], *, reason: str, force: bool) -> None:
    """Cancel tasks that have not finished.

    A running one is asked to end, in whatever process it runs, and ends as cancelled unless it succeeds all the same.
    An ID may be shortened to as much of its beginning as is unique.

    \b
    aiotaskstore cancel 01909b6e-7c6e-7d05-bcd5-7c2a3c9f0d3a --reason "wrong address"
    aiotaskstore cancel 01909b6e 01909c77
    """  # noqa: D301

    async def act(store: TaskStore) -> tuple[list[Task], ExitCode]:
        return await each(store, ids, lambda one: store.tasks.cancel(one, reason, force=force))

    _print_statuses(target.console, ids, *run_with(target.store(), act))


@click.command(cls=Command)
@_ids
@click.option("--force", is_flag=True, help="Also run a task again that has succeeded.")
@targeted
def retry(target: Target, ids: Sequence[WrittenId], *, force: bool) -> None:
    """Run tasks again from the start: no attempts made, due now.

    From any status but running; from succeeded only with --force. An ID may be shortened to as much of its beginning
    as is unique.

    \b
    aiotaskstore retry 01909b6e-7c6e-7d05-bcd5-7c2a3c9f0d3a
    aiotaskstore ls --status failed --json | jq -r '.[].id' | xargs aiotaskstore retry
    """  # noqa: D301

    async def act(store: TaskStore) -> tuple[list[Task], ExitCode]:
        return await each(store, ids, lambda one: store.tasks.retry(one, force=force))

    _print_statuses(target.console, ids, *run_with(target.store(), act))


@click.command(cls=Command)
@_ids
@click.option("--force", is_flag=True, help="Also a task that is running; whatever its handler still does is dropped.")
@targeted
def delete(target: Target, ids: Sequence[WrittenId], *, force: bool) -> None:
    """Delete tasks with their results, errors and details; nothing brings them back.

    A running one only with --force. An ID may be shortened to as much of its beginning as is unique.

    \b
    aiotaskstore delete 01909b6e-7c6e-7d05-bcd5-7c2a3c9f0d3a
    aiotaskstore ls --status cancelled --json | jq -r '.[].id' | xargs aiotaskstore delete
    """  # noqa: D301

    async def act(store: TaskStore) -> tuple[list[UUID], ExitCode]:
        async def delete_one(task_id: UUID) -> UUID:
            if not await store.tasks.delete(task_id, force=force):
                raise TaskNotFoundError(task_id)
            return task_id

        return await each(store, ids, delete_one)

    deleted, code = run_with(target.store(), act)
    if target.prints_json:
        _print_json(target.console, ids, [{"id": one, "deleted": True} for one in deleted])
    else:
        for one in deleted:
            target.console.say(f"{one} is deleted.")
    _end(code)


def _print_statuses(console: Console, ids: Sequence[WrittenId], tasks: Sequence[Task], code: ExitCode) -> None:
    """Print the status of each task."""
    if console.prints_json:
        _print_json(console, ids, tasks)
    else:
        for task in tasks:
            if task.status is TaskStatus.RUNNING:
                console.say(f"Asked {task.alias} {task.id} to end; it is running.")
            else:
                console.say(f"{task.alias} {task.id} is {task.status}.")
    _end(code)
