"""`stats`: how many tasks each queue has in which status, and which dispatchers run them."""

from __future__ import annotations

from collections.abc import Sequence

import click

from aiotaskstore import DispatcherInfo, QueueInfo, TaskStatus, TaskStore
from aiotaskstore.cli.command import Command
from aiotaskstore.cli.console import Console
from aiotaskstore.cli.formatting import age, instant, number
from aiotaskstore.cli.target import Target, run_with, targeted


@click.command(cls=Command)
@targeted
def stats(target: Target) -> None:
    """Count the tasks of every queue by status, and list the dispatchers.

    It counts every row, so run it now and then, not in a loop.

    \b
    aiotaskstore stats
    aiotaskstore stats --json | jq '.queues.emails.pending'
    """  # noqa: D301
    queues, dispatchers = run_with(target.store(), _read)
    if target.prints_json:
        target.console.json(
            {
                "queues": {one.name: _counts(one) for one in queues},
                "dispatchers": [_described(one) for one in dispatchers],
            }
        )
    else:
        _print_queues(target.console, queues)
        _print_dispatchers(target.console, dispatchers)


async def _read(store: TaskStore) -> tuple[Sequence[QueueInfo], Sequence[DispatcherInfo]]:
    return await store.queues.list(), await store.dispatchers.list()


def _counts(queue: QueueInfo) -> dict[str, int]:
    return {str(status): count for status, count in queue.depth.items()}


def _print_queues(console: Console, queues: Sequence[QueueInfo]) -> None:
    if not queues:
        console.say('There are no tasks yet. Store one: aiotaskstore enqueue ALIAS \'{"name": "value"}\'')
        return
    statuses = [status for status in TaskStatus if any(queue.depth[status] for queue in queues)]
    columns = [str(status) for status in statuses]
    rows = [[queue.name, *(number(queue.depth[status]) for status in statuses)] for queue in queues]
    console.table(["queue", *columns], rows, right=columns)
    for queue in queues:
        if queue.paused:
            console.say(f"Queue {queue.name} is paused. To go on: aiotaskstore queues resume {queue.name}")


def _print_dispatchers(console: Console, dispatchers: Sequence[DispatcherInfo]) -> None:
    if not dispatchers:
        console.say("No dispatcher is at work. Start one: aiotaskstore worker --app module:attribute")
        return
    console.print()
    rows = [
        [one.name, one.host, str(one.pid), instant(one.started_at), f"{age(one.silent_for)} ago"] for one in dispatchers
    ]
    console.table(["dispatcher", "host", "pid", "started", "heartbeat"], rows, right=["pid"])


def _described(one: DispatcherInfo) -> dict[str, object]:
    return {
        "id": one.id, "name": one.name, "host": one.host, "pid": one.pid,
        "started_at": one.started_at, "heartbeat_at": one.heartbeat_at, "silent_for": one.silent_for,
    }  # fmt: skip
