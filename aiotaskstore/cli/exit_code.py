"""Exit codes: what a script learns from how a command ended."""

from __future__ import annotations

import os
import sys
from enum import IntEnum
from typing import IO, Any

import click

from aiotaskstore import (
    ConfigurationError,
    DatabaseUnavailableError,
    InvalidQueryError,
    PayloadError,
    ScheduleNotFoundError,
    TaskNotFoundError,
    TaskStoreError,
    UnknownAliasError,
)
from aiotaskstore.cli.streams import discard


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    """The command line is wrong: a bad option, an unknown alias, a payload that does not fit."""
    HANDED_BACK = 3
    """A worker's grace was over, and it returned tasks to the queue unfinished."""
    NOT_FOUND = 4
    UNAVAILABLE = 75
    """The database cannot be reached; trying again later may help (sysexits' EX_TEMPFAIL)."""


_USAGE = (ConfigurationError, InvalidQueryError, PayloadError, UnknownAliasError)


def code_of(error: TaskStoreError) -> ExitCode:
    """Choose the exit code for one of our errors."""
    if isinstance(error, DatabaseUnavailableError):
        return ExitCode.UNAVAILABLE
    if isinstance(error, ScheduleNotFoundError | TaskNotFoundError):
        return ExitCode.NOT_FOUND
    return ExitCode.USAGE if isinstance(error, _USAGE) else ExitCode.FAILED


_COMMAND_LINE_TERMS = {
    "Pass force=True": "Pass --force",
    "pass force=True": "pass --force",
    " Pass strict=False to get False instead of this error.": "",
    ": import the module that declares it, or pass unchecked=True": ": name the app with --app, or run its worker once",
    "; store.schedules.list() returns those that there are": "; `aiotaskstore schedules` lists those that there are",
    ", or open the store with migrate=True": "",
    ' Use on_conflict="return" to get a handle to it.': "",
}
"""Advice of our errors for Python code, and the same for the command line."""


def sentence_of(error: TaskStoreError) -> str:
    """Return an error's message, with the options of the command line instead of Python's."""
    text = str(error)
    for python, ours in _COMMAND_LINE_TERMS.items():
        text = text.replace(python, ours)
    return text


def plain() -> bool:
    """Return whether the person or the terminal wants no colours (https://no-color.org)."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


class Failure(click.ClickException):
    """Ends the command with a sentence on stderr and an exit code."""

    def __init__(self, sentence: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(sentence)
        self.exit_code: ExitCode = code  # type: ignore[misc] # click says both that it is the class's and the instance's

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the sentence."""
        label = "Error:" if plain() else click.style("Error:", fg="red")
        try:
            click.echo(f"{label} {self.message}", file=file, err=file is None)
        except OSError:  # stderr is full or gone; the exit code is still right
            discard(sys.stderr)
