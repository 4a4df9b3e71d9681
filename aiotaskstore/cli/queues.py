"""`queues`: list, pause, resume and purge them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from aiotaskstore import QueueInfo, TaskSelection, TaskStatus, TaskStore
from aiotaskstore.cli.command import Command, CommandGroup
from aiotaskstore.cli.console import Console
from aiotaskstore.cli.deletion import delete_all
from aiotaskstore.cli.formatting import age, counted, number
from aiotaskstore.cli.target import Target, run_with, targeted
from aiotaskstore.queue import queue_name

_PURGED = [status for status in TaskStatus if not status.finished and status is not TaskStatus.RUNNING]
_name = click.argument("name")


@click.group(cls=CommandGroup, invoke_without_command=True, short_help="List, pause, resume and purge queues.")
@targeted
def queues(target: Target) -> None:
    """List, pause, resume and purge queues; without a command, list them.

    A paused queue keeps its tasks and takes new ones, but no worker starts any of them.

    \b
    aiotaskstore queues
    aiotaskstore queues pause emails --reason "the provider is down"
    aiotaskstore queues resume emails
    aiotaskstore queues purge emails
    """  # noqa: D301
    if click.get_current_context().invoked_subcommand is None:
        _list(target)


@queues.command("list", cls=Command)
@targeted
def list_queues(target: Target) -> None:
    """List the queues: their tasks by status, whether they are paused, how many workers serve them.

    It counts every row, so run it now and then, not in a loop.

    \b
    aiotaskstore queues list
    aiotaskstore queues list --json | jq '.[] | select(.paused) | .name'
    """  # noqa: D301
    _list(target)


@queues.command(cls=Command)
@_name
@click.option("--reason", default="", help="Shown in the list of queues.")
@targeted
def pause(target: Target, name: str, *, reason: str) -> None:
    """Have no worker start any more tasks of a queue. What runs goes on.

    Every worker heeds it within a second. A queue may be paused before it has tasks.

    \b
    aiotaskstore queues pause emails --reason "the provider is down"
    """  # noqa: D301
    changed = run_with(target.store(), lambda store: store.queues.pause(name, reason))
    _report(target.console, name, paused=True, changed=changed)


@queues.command(cls=Command)
@_name
@targeted
def resume(target: Target, name: str) -> None:
    """Have workers start tasks of a paused queue again.

    \b
    aiotaskstore queues resume emails
    """  # noqa: D301
    changed = run_with(target.store(), lambda store: store.queues.resume(name))
    _report(target.console, name, paused=False, changed=changed)


@queues.command(cls=Command)
@_name
@click.option("--yes", "-y", "agreed", is_flag=True, help="Do not ask.")
@targeted
def purge(target: Target, name: str, *, agreed: bool) -> None:
    """Delete the tasks of a queue that have not finished and do not run; nothing brings them back.

    On a terminal it asks first; a script is not asked. What runs goes on, and finished tasks are kept as long as ever.
    Ctrl-C keeps what is done, and says how much that is.

    \b
    aiotaskstore queues purge emails
    aiotaskstore queues purge emails --yes --json
    """  # noqa: D301
    store = target.store()
    where: TaskSelection = {"queue": queue_name(name), "status": _PURGED}
    if not agreed and not target.prints_json and sys.stdin is not None and sys.stdin.isatty():
        _ask(store, where, name)
    deleted = delete_all(store, where, target.console)
    if target.prints_json:
        target.console.json({"queue": name, "deleted": deleted})
    elif deleted:
        target.console.say(f"{counted(deleted, 'task')} of queue {name} deleted.")
    else:
        target.console.say(f"Queue {name} has no unfinished tasks that could be deleted.")


def _ask(store: TaskStore, where: TaskSelection, name: str) -> None:
    """Ask whether the tasks are to be deleted; end the command if not."""
    count = run_with(store, lambda opened: opened.tasks.count(**where))
    if count:
        click.confirm(f"Delete {counted(count, 'unfinished task')} of queue {name}?", err=True, abort=True)


def _report(console: Console, name: str, *, paused: bool, changed: bool) -> None:
    if console.prints_json:
        console.json({"queue": name, "paused": paused, "changed": changed})
    elif changed:
        console.say(f"Queue {name} is {'paused' if paused else 'resumed'}.")
    else:
        console.say(f"Queue {name} was paused already." if paused else f"Queue {name} was not paused.")


def _list(target: Target) -> None:
    found = run_with(target.store(), lambda store: store.queues.list())
    if target.prints_json:
        target.console.json(found)
    elif found:
        _print(target.console, found, datetime.now(UTC))
    else:
        target.console.say("There are no queues yet. The first task makes one: aiotaskstore enqueue ALIAS '{\"a\": 1}'")


def _print(console: Console, found: Sequence[QueueInfo], now: datetime) -> None:
    statuses = [str(status) for status in TaskStatus if any(queue.depth[status] for queue in found)]
    rows = [
        [
            queue.name,
            *(number(queue.depth[status]) for status in statuses),
            age((now - queue.oldest_due).total_seconds()) if queue.oldest_due else "",
            number(len(queue.dispatchers)),
            _paused(queue, now),
        ]
        for queue in found
    ]
    right = [*statuses, "due for", "workers"]
    console.table(["queue", *right, "paused"], rows, right=right)


def _paused(queue: QueueInfo, now: datetime) -> str:
    if queue.paused_at is None:
        return ""
    since = f"for {age((now - queue.paused_at).total_seconds())}"
    return f"{since}: {queue.pause_reason}" if queue.pause_reason else since
