"""`enqueue`: store a task, and perhaps wait for its end."""

from __future__ import annotations

import json
import re
from itertools import zip_longest
from math import inf
from typing import Any

import click

from aiotaskstore import Task, TaskOptions, TaskStatus, TaskStore
from aiotaskstore.cli.command import Command
from aiotaskstore.cli.completion import aliases
from aiotaskstore.cli.console import Console
from aiotaskstore.cli.exit_code import ExitCode
from aiotaskstore.cli.option import duration_of
from aiotaskstore.cli.target import Target, run_with, targeted

_DURATION = re.compile(r"[\d.]+([a-z]|$)", re.IGNORECASE)
"""How a duration begins, and no payload and hardly an alias."""


class _Enqueue(Command):
    """`--wait` takes a duration or nothing; the payload that may follow it is no duration."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments, a bare `--wait` as one without a limit."""
        written = [
            "--wait=" if one == "--wait" and not _DURATION.match(following) else one
            for one, following in zip_longest(args, args[1:], fillvalue="")
        ]
        return super().parse_args(ctx, written)


def _limit_of(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """Read how long to wait: `None` not at all, without a limit infinity."""
    return inf if text == "" else duration_of(context, parameter, text)


@click.command(cls=_Enqueue)
@click.argument("alias", shell_complete=aliases)
@click.argument("payload", metavar="[JSON]", required=False)
@click.option(
    "--delay", callback=duration_of, metavar="5m", help="Not before this long from now: 90, 250ms, 5m, 1h30m, 2d."
)
@click.option(
    "--wait", "limit", callback=_limit_of, metavar="[TIME]",
    help="Wait for the end, so long at most, and print the result; exit with 1 if it fails or takes longer.",
)  # fmt: skip
@targeted
def enqueue(target: Target, alias: str, payload: str | None, *, delay: float | None, limit: float | None) -> None:
    """Store a task and print its id. JSON is an object: the arguments by name.

    With --app the payload is checked against the handler's signature; with only --url the alias must be one that a
    worker has published.

    \b
    aiotaskstore enqueue send_welcome '{"user_id": 42, "locale": "bg"}'
    aiotaskstore enqueue send_digest --delay 1h30m
    aiotaskstore enqueue resize '{"path": "a.png"}' --wait 30s
    """  # noqa: D301
    arguments = _arguments(payload)
    options: TaskOptions = {} if delay is None else {"delay": delay}
    console = target.console

    async def work(store: TaskStore) -> Task | None:
        handle = await store.enqueue(alias, arguments, **options)
        if limit is None:
            _print_id(console, str(handle.id), alias)
            return None
        console.say(f"Stored {handle.id}; waiting for a worker to run it. Ctrl-C ends the waiting, not the task.")
        try:
            return await handle.wait(None if limit == inf else limit)
        except TimeoutError:
            return await handle.task()

    task = run_with(target.enqueuing_store(), work, migrate=None)
    if task is not None:
        _print_end(console, task)


def _arguments(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    example = """Write an object, in single quotes for the shell: '{"user_id": 42}'."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"It is no JSON: {error}. {example}", param_hint="JSON") from error
    if not isinstance(value, dict):
        raise click.BadParameter(f"It must hold the arguments by name. {example}", param_hint="JSON")
    return value


def _print_id(console: Console, task_id: str, alias: str) -> None:
    if console.prints_json:
        console.json({"id": task_id, "alias": alias})
    else:
        console.print(task_id)


def _print_end(console: Console, task: Task) -> None:
    succeeded = task.status is TaskStatus.SUCCEEDED
    if console.prints_json:
        console.json(task)
    elif succeeded:
        console.json(task.result)
    if not task.status.finished:
        console.say(f"{task.alias} is {task.status} and goes on without us: aiotaskstore show {task.id}")
        raise SystemExit(ExitCode.FAILED)
    if not succeeded:
        console.say(f"{task.alias} {task.status}: {task.error or task.cancel_reason or task.finish_reason}")
        raise SystemExit(ExitCode.FAILED)
