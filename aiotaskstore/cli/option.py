"""Values of options and arguments that click does not know how to read."""

from __future__ import annotations

from uuid import UUID

import click

from aiotaskstore.duration import parse
from aiotaskstore.errors import ConfigurationError


def duration_of(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    """Read a span such as `90`, `250ms`, `5m` or `1h30m`; gives seconds."""
    if text is None:
        return None
    try:
        return parse(text)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from error


def task_id_of(_context: click.Context, _parameter: click.Parameter, text: str) -> UUID:
    """Read a task's id."""
    try:
        return UUID(text)
    except ValueError as error:
        raise click.BadParameter(
            f'"{text}" is no task id. It is a UUID, as `enqueue` prints it and `ls` lists it.'
        ) from error
