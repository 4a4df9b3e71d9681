"""Exit codes: what a script learns from how a command ended."""

from __future__ import annotations

from enum import IntEnum
from typing import IO, Any

import click

from aiotaskstore.errors import (
    ConfigurationError,
    DatabaseUnavailableError,
    InvalidQueryError,
    PayloadError,
    TaskNotFoundError,
    TaskStoreError,
    UnknownAliasError,
)


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    """What was asked cannot be meant: a bad option, an unknown alias, a payload that does not fit."""
    HANDED_BACK = 3
    """A worker's grace was over, and it gave tasks back unfinished."""
    NOT_FOUND = 4
    UNAVAILABLE = 75
    """The database cannot be reached; trying again later may help (sysexits' EX_TEMPFAIL)."""


_USAGE = (ConfigurationError, InvalidQueryError, PayloadError, UnknownAliasError)


def code_of(error: TaskStoreError) -> ExitCode:
    """Choose the exit code for one of our errors."""
    if isinstance(error, DatabaseUnavailableError):
        return ExitCode.UNAVAILABLE
    if isinstance(error, TaskNotFoundError):
        return ExitCode.NOT_FOUND
    return ExitCode.USAGE if isinstance(error, _USAGE) else ExitCode.FAILED


_WORDS = {
    "Pass force=True": "Pass --force",
    "pass force=True": "pass --force",
    " Pass strict=False to get False instead of this error.": "",
    ": import the module that declares it, or pass unchecked=True": ": name the app with --app, or run its worker once",
    ", or open the store with migrate=True": "",
    ' Use on_conflict="return" to get a handle to it.': "",
}
"""What our errors advise to write in Python, and what says the same on a command line."""


def sentence_of(error: TaskStoreError) -> str:
    """Give what an error says, in the words of the command line."""
    text = str(error)
    for python, ours in _WORDS.items():
        text = text.replace(python, ours)
    return text


class Failure(click.ClickException):
    """Ends the command with a sentence on stderr and an exit code."""

    def __init__(self, sentence: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(sentence)
        self.exit_code: ExitCode = code  # type: ignore[misc] # click says both that it is the class's and the instance's

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the sentence."""
        click.echo(f"{click.style('Error:', fg='red')} {self.message}", file=file, err=file is None)
