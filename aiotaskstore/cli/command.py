"""One command, and a group of them: reading their arguments may print, since `--help` does."""

from __future__ import annotations

from typing import Any

import click

from aiotaskstore.cli.console import delivering


class Command(click.Command):
    """A command whose `--help` also ends well where its reader has gone."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the arguments."""
        with delivering():
            return super().make_context(*args, **extra)


class CommandGroup(click.Group):
    """The commands on one kind of thing, in the order in which one meets them; their `--help` ends well too."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name the commands."""
        return list(self.commands)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the arguments."""
        with delivering():
            return super().make_context(*args, **extra)
