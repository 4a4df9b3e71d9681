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


class Failure(click.ClickException):
    """Ends the command with a sentence on stderr and an exit code."""

    def __init__(self, sentence: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(sentence)
        self.exit_code = code  # type: ignore[misc] # click says both that it is the class's and the instance's

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the sentence."""
        click.echo(f"{click.style('Error:', fg='red')} {self.message}", file=file, err=file is None)
