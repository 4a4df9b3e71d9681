"""Values of options and arguments that click does not know how to read."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

from aiotaskstore import ConfigurationError
from aiotaskstore.cli.selection import SHORTEST, WrittenId
from aiotaskstore.mechanics.duration import parse


def duration_of(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    """Read a span such as `90`, `250ms`, `5m` or `1h30m`; return seconds."""
    if text is None:
        return None
    try:
        return parse(text)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from error


def past_instant_of(_context: click.Context, _parameter: click.Parameter, text: str) -> datetime:
    """Read an instant that is over: a date, a date with a time, or how long ago it was, such as `30d`."""
    now = datetime.now(UTC)
    try:
        at = now - timedelta(seconds=parse(text))
    except (ConfigurationError, OverflowError):
        at = _instant_of(text)
    if at > now:
        raise click.BadParameter(f'"{text}" lies ahead; name a date that is past, or how long ago, such as 30d.')
    return at


def _instant_of(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text.strip())
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f'"{text}" is no date. Write 2026-01-31, 2026-01-31T12:00+02:00, or how long ago, such as 12h or 30d.'
        ) from None


def ids_of(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> list[WrittenId]:
    """Read tasks' ids, or the beginnings of ids."""
    return [_id_of(text) for text in texts]


def _id_of(text: str) -> WrittenId:
    digits = re.sub(r"^urn:uuid:|[-{}\s]", "", text.strip().lower())
    if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST},32}}", digits):
        raise click.BadParameter(
            f'"{text}" is no task id. It is a UUID, as `enqueue` prints it and `ls` lists it, or the first {SHORTEST} '
            "or more digits of one."
        )
    return WrittenId(text, digits)
