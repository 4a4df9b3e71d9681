"""`ls`, `show`, `cancel`, `retry` and `delete`: the stored tasks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click

from aiotaskstore import Task, TaskFilters, TaskNotFoundError, TaskStatus, TaskStore
from aiotaskstore.cli.command import Command
from aiotaskstore.cli.console import Console
from aiotaskstore.cli.exit_code import ExitCode
from aiotaskstore.cli.formatting import counted, number
from aiotaskstore.cli.option import ids_of
from aiotaskstore.cli.selection import WrittenId, each
from aiotaskstore.cli.target import Target, run_with, targeted
from aiotaskstore.cli.task_facts import print_task
from aiotaskstore.cli.task_table import print_tasks

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
    given = [("--status", one) for one in status] + [("-q", one) for one in queue] + [("--alias", one) for one in alias]
    asked = [f"{option} {value}" for option, value in given]
    _list(target.console, tasks, total, asked)


def _list(console: Console, tasks: Sequence[Task], total: int, asked: Sequence[str]) -> None:
    if console.prints_json:
        console.json(list(tasks))
    elif tasks:
        print_tasks(console, tasks, datetime.now(UTC))
        if total > len(tasks):
            console.say(f"{number(len(tasks))} of {counted(total, 'task')}; --limit shows more.")
    elif asked:
        console.say(f"No task matches {' '.join(asked)}. Without filters, `aiotaskstore ls` lists every one.")
    else:
        console.say('There are no tasks yet. Store one: aiotaskstore enqueue ALIAS \'{"name": "value"}\'')


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
        for at, task in enumerate(tasks):
            if at:
                target.console.print()
            print_task(target.console, task, now)
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
