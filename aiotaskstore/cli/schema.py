"""`migrate`: the tables and their version."""

from __future__ import annotations

import asyncio

import click

from aiotaskstore import TaskStore
from aiotaskstore.cli.command import Command
from aiotaskstore.cli.formatting import counted
from aiotaskstore.cli.target import Target, check_pool, run_with, shown, targeted


@click.command(cls=Command)
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
        sql = target.store(creates=True).ddl().rstrip()
        if target.prints_json:
            target.console.json({"sql": sql})
        else:
            target.console.print(sql)
    elif checks:
        _check(target)
    else:
        _migrate(target, target.store(creates=True))


def _migrate(target: Target, store: TaskStore) -> None:
    check_pool(store)
    applied = asyncio.run(store.migrate())
    if target.prints_json:
        target.console.json({"applied": applied})
    elif applied:
        target.console.say(f"Applied {counted(applied, 'migration')} to {shown(store)}.")
    else:
        target.console.say(f"The tables of {shown(store)} are up to date.")


def _check(target: Target) -> None:
    store = target.store()

    async def look(_store: TaskStore) -> None:
        """Have it opened, which compares the versions."""

    run_with(store, look)
    if target.prints_json:
        target.console.json({"up_to_date": True})
    else:
        target.console.say(f"The tables of {shown(store)} are up to date.")
