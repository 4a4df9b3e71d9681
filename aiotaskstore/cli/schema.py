"""`migrate`: the tables and their version."""

from __future__ import annotations

import asyncio

import click

from aiotaskstore.cli.figures import counted
from aiotaskstore.cli.target import Target, shown, targeted
from aiotaskstore.taskstore import TaskStore


@click.command()
@click.option("--check", "checks", is_flag=True, help="Change nothing; exit with 1 if something is to be done.")
@click.option(
    "--sql", "prints_sql", is_flag=True, help="Change nothing; print the SQL, for people who run it themselves."
)
@targeted
def migrate(target: Target, *, checks: bool, prints_sql: bool) -> None:
    """Create the tables, or bring them up to date.

    Safe to repeat, and to run from several processes at once. Stores and workers do it by themselves when they
    open, unless made with migrate=False.

    \b
    aiotaskstore migrate --url postgresql://app@localhost/app
    aiotaskstore migrate --url sqlite:///tasks.db --check
    aiotaskstore migrate --url mysql://app@localhost/app --sql > tables.sql
    """  # noqa: D301
    if checks and prints_sql:
        raise click.UsageError("--check and --sql are two different things: give one of them.")
    if prints_sql:
        target.console.print(target.store(creates=True).ddl().rstrip())
    elif checks:
        _check(target)
    else:
        _migrate(target, target.store(creates=True))


def _migrate(target: Target, store: TaskStore) -> None:
    applied = asyncio.run(store.migrate())
    if target.prints_json:
        target.console.json({"applied": applied})
    elif applied:
        target.console.say(f"Applied {counted(applied, 'migration')} to {shown(store)}.")
    else:
        target.console.say(f"The tables of {shown(store)} are up to date.")


def _check(target: Target) -> None:
    store = target.store()

    async def look() -> None:
        async with store:
            pass

    asyncio.run(look())
    if target.prints_json:
        target.console.json({"up_to_date": True})
    else:
        target.console.say(f"The tables of {shown(store)} are up to date.")
