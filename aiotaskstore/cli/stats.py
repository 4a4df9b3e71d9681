"""`stats`: how many tasks wait, run and have ended, and who runs them."""

from __future__ import annotations

from collections.abc import Sequence

import click

from aiotaskstore.cli.console import Console
from aiotaskstore.cli.figures import age, instant, number
from aiotaskstore.cli.target import Target, run_with, targeted
from aiotaskstore.storage.dispatchers import DispatcherRow
from aiotaskstore.storage.storage import Count
from aiotaskstore.task import TaskStatus
from aiotaskstore.taskstore import TaskStore


@click.command()
@targeted
def stats(target: Target) -> None:
    """Count the tasks of every queue by status, and list the dispatchers.

    It counts every row, so ask now and then, not in a loop.

    \b
    aiotaskstore stats
    aiotaskstore stats --json | jq '.queues.emails.pending'
    """  # noqa: D301
    counts, dispatchers = run_with(target.store(), _read)
    if target.prints_json:
        target.console.json({"queues": _by_queue(counts), "dispatchers": [_described(one) for one in dispatchers]})
    else:
        _print_queues(target.console, _by_queue(counts))
        _print_dispatchers(target.console, dispatchers)


async def _read(store: TaskStore) -> tuple[list[Count], list[DispatcherRow]]:
    # Queues and dispatchers get their public names later; until then this is the only place that reads beneath.
    storage = store._open_parts().storage  # noqa: SLF001
    counts = await storage.database.read(storage.counts)
    return counts, await storage.database.read(storage.dispatchers.list)


def _by_queue(counts: Sequence[Count]) -> dict[str, dict[str, int]]:
    queues: dict[str, dict[str, int]] = {}
    for one in counts:
        queues.setdefault(one.queue, {})[str(one.status)] = one.tasks
    return queues


def _print_queues(console: Console, queues: dict[str, dict[str, int]]) -> None:
    if not queues:
        console.say('There are no tasks yet. Store one: aiotaskstore enqueue ALIAS \'{"name": "value"}\'')
        return
    statuses = [str(one) for one in TaskStatus if any(str(one) in counts for counts in queues.values())]
    rows = [[queue, *(number(counts.get(one, 0)) for one in statuses)] for queue, counts in queues.items()]
    console.table(["queue", *statuses], rows, right=statuses)


def _print_dispatchers(console: Console, dispatchers: Sequence[DispatcherRow]) -> None:
    if not dispatchers:
        console.say("No dispatcher is at work. Start one: aiotaskstore worker --app module:attribute")
        return
    console.print()
    rows = [
        [one.name, one.host, str(one.pid), instant(one.started_at), f"{age(one.silent_for)} ago"] for one in dispatchers
    ]
    console.table(["dispatcher", "host", "pid", "started", "heard"], rows, right=["pid"])


def _described(one: DispatcherRow) -> dict[str, object]:
    return {
        "id": one.id, "name": one.name, "host": one.host, "pid": one.pid, "idle": one.idle,
        "started_at": one.started_at, "heartbeat_at": one.heartbeat_at, "silent_for": one.silent_for,
    }  # fmt: skip
