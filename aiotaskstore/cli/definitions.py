"""`list`: the tasks that an app has registered."""

from __future__ import annotations

import inspect

import click

from aiotaskstore.cli.command import Command
from aiotaskstore.cli.console import Console
from aiotaskstore.cli.target import Target, targeted
from aiotaskstore.definition import AnyDefinition
from aiotaskstore.queue import DEFAULT_QUEUE


@click.command("list", cls=Command)
@targeted
def list_definitions(target: Target) -> None:
    """List the tasks that an app has registered, in that order; needs no database.

    \b
    aiotaskstore list --app myproject.tasks:store
    """  # noqa: D301
    print_definitions(target)


def print_definitions(target: Target) -> None:
    """Print the tasks of an app, numbered from 1."""
    console = target.console
    definitions = target.app_store().handlers
    if target.prints_json:
        console.json([_described(one) for one in definitions])
        return
    if not definitions:
        console.say(
            f"{target.app} has no tasks. Decorate a function with @store.task, and import the module that does it "
            "where the store is made."
        )
        return
    rows = [
        [str(number), one.alias, one.title, one.defaults.queue or DEFAULT_QUEUE, one.payload.signature, one.description]
        for number, one in enumerate(definitions, 1)
    ]
    console.table(["#", "alias", "title", "queue", "payload", "description"], rows, right=["#"])


def print_arguments(console: Console, definition: AnyDefinition) -> None:
    """Print what a handler is, and which arguments it takes."""
    console.print(f"Usage: aiotaskstore exec {definition.alias} [--NAME VALUE]...")
    if definition.description:
        console.print(f"\n  {definition.description}")
    console.print()
    console.table(["argument", "type", "default"], [_argument(one) for one in definition.payload.parameters])


def _argument(one: inspect.Parameter) -> list[str]:
    free = one.kind is one.VAR_KEYWORD
    name = "NAME" if free else one.name.replace("_", "-")
    hint = "any" if one.annotation is one.empty else inspect.formatannotation(one.annotation).strip("'")
    default = "as many as you like" if free else "required" if one.default is one.empty else repr(one.default)
    return [f"--{name}", hint, default]


def _described(one: AnyDefinition) -> dict[str, object]:
    return {
        "alias": one.alias,
        "title": one.title,
        "description": one.description,
        "queue": one.defaults.queue or DEFAULT_QUEUE,
        "payload": str(one.payload.signature),
    }
