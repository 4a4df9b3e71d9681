"""`clean`: deletes finished tasks past a date."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import click

from aiotaskstore import TaskSelection, TaskStatus
from aiotaskstore.cli.command import Command
from aiotaskstore.cli.deletion import delete_all
from aiotaskstore.cli.formatting import counted, instant
from aiotaskstore.cli.option import past_instant_of
from aiotaskstore.cli.target import Target, targeted

_FINISHED = [str(one) for one in TaskStatus if one.finished]


@click.command(cls=Command)
@click.option(
    "--before", required=True, metavar="WHEN", callback=past_instant_of,
    help="A date, an instant, or how long ago, such as 30d. Without an offset it counts as UTC.",
)  # fmt: skip
@click.option("--status", multiple=True, type=click.Choice(_FINISHED), help="Only these; may be repeated.")
@click.option("--queue", "-q", multiple=True, help="Only of these; may be repeated.")
@click.option("--alias", multiple=True, help="Only of these; may be repeated.")
@targeted
def clean(
    target: Target, *, before: datetime, status: Sequence[str], queue: Sequence[str], alias: Sequence[str]
) -> None:
    """Delete tasks that finished before a date, with their results, errors and details.

    Soft-deleted ones too. Nothing brings them back, whatever their retention says. Unfinished tasks stay. Ctrl-C keeps
    what is done, and says how much that is.

    \b
    aiotaskstore clean --before 30d
    aiotaskstore clean --before 2026-01-01 --status succeeded --queue emails
    """  # noqa: D301
    where: TaskSelection = {"finished_to": before, "status": list(status) or _FINISHED, "include_deleted": True}
    if queue:
        where["queue"] = list(queue)
    if alias:
        where["alias"] = list(alias)

    deleted = delete_all(target.store(), where, target.console)
    if target.prints_json:
        target.console.json({"deleted": deleted, "before": before.astimezone(UTC)})
    else:
        target.console.say(f"Deleted {counted(deleted, 'task')} that finished before {instant(before)}.")
