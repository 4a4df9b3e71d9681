"""`schedules`: list, preview, pause, resume and run them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from aiotaskstore import Cron, Every, Once, RecurrenceRule, Schedule, ScheduleStatus, TaskHandle, TaskStore
from aiotaskstore.cli.command import Command, CommandGroup
from aiotaskstore.cli.console import Console
from aiotaskstore.cli.exit_code import ExitCode
from aiotaskstore.cli.formatting import instant, number
from aiotaskstore.cli.selection import each_of
from aiotaskstore.cli.target import Target, run_with, targeted
from aiotaskstore.mechanics.duration import written
from aiotaskstore.recurrence import FunctionRecurrence, dump_recurrence

_names = click.argument("names", metavar="NAME...", nargs=-1, required=True)


@click.group(cls=CommandGroup, invoke_without_command=True, short_help="List, preview, pause, resume and run them.")
@targeted
def schedules(target: Target) -> None:
    """List, preview, pause, resume and run schedules; without a command, list them.

    A schedule is named by its name, or by its id. Where its payload or its recurrence is a function, `preview` and
    `run-now` need the app that has it.

    \b
    aiotaskstore schedules
    aiotaskstore schedules preview nightly -n 10
    aiotaskstore schedules pause nightly report
    aiotaskstore schedules resume nightly
    aiotaskstore schedules run-now report
    """  # noqa: D301
    if click.get_current_context().invoked_subcommand is None:
        _list(target)


@schedules.command("list", cls=Command)
@targeted
def list_schedules(target: Target) -> None:
    """List the schedules: what they run, when, and what became of them.

    \b
    aiotaskstore schedules list
    aiotaskstore schedules list --json | jq -r '.[] | select(.error) | .name'
    """  # noqa: D301
    _list(target)


@schedules.command(cls=Command)
@click.argument("name")
@click.option("-n", "count", default=5, show_default=True, type=click.IntRange(1, 1000), help="How many occurrences.")
@targeted
def preview(target: Target, name: str, *, count: int) -> None:
    """Print the next occurrences of a schedule; of one that is not active, as if it were.

    \b
    aiotaskstore schedules preview nightly
    aiotaskstore schedules preview nightly -n 100 --json
    """  # noqa: D301

    async def work(store: TaskStore) -> tuple[Schedule | None, Sequence[datetime]]:
        return await store.schedules.get(name), await store.schedules.preview(name, count)

    schedule, occurrences = run_with(target.store(), work)
    if target.prints_json:
        target.console.json(list(occurrences))
        return
    place = _zone(schedule)
    for occurrence in occurrences:
        local = f"  {occurrence.astimezone(place):%a %Y-%m-%d %H:%M:%S %Z}" if place else ""
        target.console.print(f"{instant(occurrence)}{local}")
    if len(occurrences) < count:
        target.console.say("After that it has no more." if occurrences else f"Schedule {name} has no more occurrences.")


@schedules.command(cls=Command)
@_names
@targeted
def pause(target: Target, names: Sequence[str]) -> None:
    """Have schedules make no more tasks. Those that exist already run.

    \b
    aiotaskstore schedules pause nightly report
    """  # noqa: D301
    _change(target, names, lambda store, name: store.schedules.pause(name))


@schedules.command(cls=Command)
@_names
@targeted
def resume(target: Target, names: Sequence[str]) -> None:
    """Activate schedules: drafts, paused ones, and those that an error has stopped.

    What they would have done meanwhile is not made up for.

    \b
    aiotaskstore schedules resume nightly
    """  # noqa: D301
    _change(target, names, lambda store, name: store.schedules.resume(name))


@schedules.command("run-now", cls=Command)
@_names
@targeted
def run_now(target: Target, names: Sequence[str]) -> None:
    """Make a task of schedules at once, and print its id; when they are due next stays as it is.

    \b
    aiotaskstore schedules run-now report
    aiotaskstore show $(aiotaskstore schedules run-now report)
    """  # noqa: D301

    async def work(store: TaskStore) -> tuple[list[TaskHandle[Any]], ExitCode]:
        return await each_of(names, store.schedules.run_now)

    handles, code = run_with(target.enqueuing_store(), work)
    if target.prints_json:
        _print_json(target, names, [{"id": handle.id} for handle in handles])
    else:
        for handle in handles:
            target.console.print(str(handle.id))
    _end(code)


def _change(target: Target, names: Sequence[str], act: Callable[[TaskStore, str], Awaitable[Schedule]]) -> None:
    """Do something to each schedule named, and print what it is then."""

    async def work(store: TaskStore) -> tuple[list[Schedule], ExitCode]:
        return await each_of(names, lambda name: act(store, name))

    changed, code = run_with(target.store(), work)
    if target.prints_json:
        _print_json(target, names, [_described(schedule) for schedule in changed])
    else:
        for schedule in changed:
            next_ = _next(schedule)
            target.console.say(f"Schedule {schedule.name} is {schedule.status}{next_ and f', next at {next_}'}.")
    _end(code)


def _print_json(target: Target, names: Sequence[str], found: Sequence[dict[str, Any]]) -> None:
    """Print an object for one name, a list for several."""
    target.console.json(found[0] if len(names) == 1 and found else found)


def _end(code: ExitCode) -> None:
    if code:
        raise SystemExit(code)


def _list(target: Target) -> None:
    found = run_with(target.store(), lambda store: store.schedules.list(order_by="name", descending=False))
    if target.prints_json:
        target.console.json([_described(schedule) for schedule in found])
    elif found:
        _print(target.console, found)
    else:
        target.console.say('There are no schedules yet. Declare one in code: my_task.schedule("0 9 * * mon-fri").')


def _print(console: Console, found: Sequence[Schedule]) -> None:
    rows = [
        [
            schedule.name,
            schedule.alias,
            str(schedule.status),
            _recurrence(schedule),
            _next(schedule),
            number(schedule.execution_count),
        ]
        for schedule in found
    ]
    console.table(["schedule", "alias", "status", "recurrence", "next run", "tasks"], rows, right=["tasks"])
    for schedule in found:
        if schedule.error:
            console.say(f"{schedule.name} was stopped by an error: {schedule.error}")


def _next(schedule: Schedule) -> str:
    """Return when a schedule makes its next task, if it does."""
    active = schedule.status == ScheduleStatus.ACTIVE
    return instant(schedule.next_run_at) if active and schedule.next_run_at else ""


def _recurrence(schedule: Schedule) -> str:
    """Return a recurrence in few words."""
    match schedule.recurrence:
        case Cron(text=text, timezone=timezone):
            return text if timezone == "UTC" else f"{text} {timezone}"
        case Every(period=period):
            return f"every {written(period.total_seconds())}"
        case Once(at=at):
            return f"once {instant(at)}"
        case RecurrenceRule() as rule:
            days = [*rule.days_of_week, *map(str, rule.days_of_month), *rule.months_of_year]
            interval = f"{rule.interval} × " if rule.interval > 1 else ""
            return f"{interval}{rule.frequency}{' ' if days else ''}{', '.join(days)}"
        case FunctionRecurrence(name=name):
            return f"{name}()"
        case other:
            return type(other).__name__


def _zone(schedule: Schedule | None) -> ZoneInfo | None:
    """Return the zone in which a schedule reckons, unless that is UTC."""
    name = str(getattr(schedule and schedule.recurrence, "timezone", "UTC"))
    try:
        return None if name == "UTC" else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return None


def _described(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as JSON can carry it; a function is `null` as a payload, and its name as a recurrence."""
    values = {field.name: getattr(schedule, field.name) for field in fields(schedule)}
    values["recurrence"] = json.loads(dump_recurrence(schedule.recurrence))  # type: ignore[arg-type] # text was made a Cron
    values["payload"] = None if callable(schedule.payload) else schedule.payload
    return values
