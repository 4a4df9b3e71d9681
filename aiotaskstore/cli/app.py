"""`aiotaskstore`: the group of all commands."""

from __future__ import annotations

from typing import Any

import click

from aiotaskstore import SchemaOutdatedError, TaskStoreError
from aiotaskstore.cli.clean import clean
from aiotaskstore.cli.console import delivering
from aiotaskstore.cli.definitions import list_definitions
from aiotaskstore.cli.demo import demo
from aiotaskstore.cli.doctor import doctor
from aiotaskstore.cli.enqueue import enqueue
from aiotaskstore.cli.exec import execute
from aiotaskstore.cli.exit_code import Failure, code_of, plain, sentence_of
from aiotaskstore.cli.queues import queues
from aiotaskstore.cli.schedules import schedules
from aiotaskstore.cli.schema import migrate
from aiotaskstore.cli.stats import stats
from aiotaskstore.cli.streams import keep_streams_apart
from aiotaskstore.cli.target import Target, targeted
from aiotaskstore.cli.tasks import cancel, delete, ls, retry, show
from aiotaskstore.cli.versions import AS_JSON, print_versions
from aiotaskstore.cli.worker import worker
from aiotaskstore.cli.workers import workers


class Commands(click.Group):
    """Lists commands in the order in which one meets them, and turns our errors into sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name the commands."""
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options before the command's name."""
        ctx.meta[AS_JSON] = "--json" in args
        return super().parse_args(ctx, args)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the arguments; `--help` and `--version` print."""
        with delivering():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error of ours ends it with its exit code."""
        ctx.color = False if plain() else None
        try:
            return super().invoke(ctx)
        except SchemaOutdatedError as error:
            target = ctx.find_object(Target)
            guessed = target is not None and target.guesses_tables
            hint = " Tables that have another prefix are named with --prefix." if guessed else ""
            raise Failure(sentence_of(error) + hint) from error
        except TaskStoreError as error:
            raise Failure(sentence_of(error), code_of(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=print_versions,
    help="Print the version; with --json those of Python, drivers and SQLite too, for a bug report.",
)  # fmt: skip
@targeted
def commands(_target: Target) -> None:
    """A durable task queue in the database you already have.

    \b
    aiotaskstore demo                                watch it work, on a file in this folder
    export AIOTASKSTORE_APP=myproject.tasks:store    the module and the name of your TaskStore
    aiotaskstore worker                              run its tasks
    aiotaskstore exec send_welcome --user-id 42      run a handler here and now, without a queue
    aiotaskstore enqueue send_welcome '{"user_id": 42}' --wait
    aiotaskstore ls --status failed                  then: show ID, retry ID

    Data goes to stdout, messages to stderr. Exit codes: 0 done, 1 failed, 2 usage (also an unknown alias), 3 a worker's
    grace was over and it handed tasks back, 4 not found, 75 the database cannot be reached.
    """  # noqa: D301 - \b is click's mark for lines to be left as they are


for _command in (
    demo,
    worker,
    list_definitions,
    execute,
    enqueue,
    ls,
    show,
    cancel,
    retry,
    delete,
    clean,
    queues,
    schedules,
    workers,
    stats,
    doctor,
    migrate,
):
    commands.add_command(_command)


def main() -> None:
    """Run the command line."""
    keep_streams_apart()
    commands(prog_name="aiotaskstore")
