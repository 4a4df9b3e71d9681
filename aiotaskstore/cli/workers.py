"""`workers`: the dispatchers of every process that uses the database."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from aiotaskstore import DispatcherInfo
from aiotaskstore.cli.command import Command
from aiotaskstore.cli.formatting import age
from aiotaskstore.cli.target import Target, run_with, targeted


@click.command(cls=Command)
@targeted
def workers(target: Target) -> None:
    """List the workers: where they run, since when, their version, and which queues they serve.

    One that has stopped is not listed; one that was killed is, until others have taken its tasks over.

    \b
    aiotaskstore workers
    aiotaskstore workers --json | jq -r '.[] | select(.alive | not) | .name'
    """  # noqa: D301
    found = run_with(target.store(), lambda store: store.dispatchers.list())
    if target.prints_json:
        target.console.json(found)
    elif found:
        now = datetime.now(UTC)
        target.console.table(
            ["name", "host", "pid", "version", "queues", "started", "heartbeat"],
            [_row(one, now) for one in found],
            right=["pid"],
        )
    else:
        target.console.say("No worker is running. Start one: aiotaskstore worker --app module:attribute")


def _row(one: DispatcherInfo, now: datetime) -> list[str]:
    heartbeat = f"{age(one.silent_for)} ago"
    return [
        one.name,
        one.host,
        str(one.pid),
        one.version or "older",
        "every" if one.queues is None else ", ".join(one.queues),
        f"{age((now - one.started_at).total_seconds())} ago",
        heartbeat if one.alive else f"{heartbeat} (dead)",
    ]
