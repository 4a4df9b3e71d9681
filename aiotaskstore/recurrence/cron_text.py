"""What a cron text says, read once."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from aiotaskstore.errors import ConfigurationError, InvalidRecurrenceError
from aiotaskstore.mechanics.duration import parse
from aiotaskstore.recurrence.every import Every
from aiotaskstore.recurrence.local_time import zone_name

_FIELDS = ("minute", "hour", "day of month", "month", "day of week")
_LONGEST = 500
_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_SOME_DAY = datetime(2000, 1, 1)  # noqa: DTZ001 - a local time; any will do
_EXAMPLE = 'Write five fields, such as "0 9 * * mon-fri".'


@dataclass(frozen=True, slots=True)
class CronText:
    """A cron text, understood."""

    text: str
    timezone: str | None
    """The zone that the text itself names."""
    period: Every | None
    """What an `@every` says."""
    fixed: bool
    """Whether its times are fixed ones: neither minute nor hour begins with `*`."""
    parsed: Any
    """croniter's reading; copied before use, since finding a time changes it."""

    def next_local(self, local: datetime) -> datetime | None:
        """Return the first local time after this one that the fields name, or `None` if none follows."""
        try:
            found: datetime = copy.copy(self.parsed).get_next(datetime, start_time=local)
        except ValueError:  # croniter's own, none within its bounds, among them; or past the year 9999
            return None
        return found


def read(text: str) -> CronText:
    """Return what a cron text says; raise `InvalidRecurrenceError` if it says nothing, or what never occurs."""
    if not isinstance(text, str):
        raise InvalidRecurrenceError(f"A cron must be text, not {text!r:.100} ({type(text).__name__}). {_EXAMPLE}")
    return _read(text)


@lru_cache(maxsize=4096)
def _read(text: str) -> CronText:
    if len(text) > _LONGEST or not text.isascii() or not text.isprintable():
        raise InvalidRecurrenceError(
            f"A cron must be at most {_LONGEST} printable ASCII characters, not {text!r:.100}. {_EXAMPLE}"
        )
    fields, timezone = text.split(), None
    if fields and (prefix := re.fullmatch(r"(?:CRON_)?TZ=(.+)", fields[0])):
        timezone, fields = zone_name(prefix[1]), fields[1:]
    if fields and fields[0] == "@every":
        return CronText(" ".join(fields), timezone, _period(text, fields[1:]), fixed=False, parsed=None)
    written = " ".join(fields)
    fields = _NAMED.get(written.lower(), written).split()
    _check_fields(text, fields)
    parsed = _parsed(text, " ".join(fields))
    return CronText(written, timezone, None, fixed=fields[0][0] != "*" and fields[1][0] != "*", parsed=parsed)


def _check_fields(text: str, fields: list[str]) -> None:
    """Raise for what croniter would take, but not as it is meant."""
    if fields and fields[0].startswith("@"):
        raise InvalidRecurrenceError(
            f'"{fields[0]}" is not known in the cron "{text}". Known: {", ".join(_NAMED)}, @every 1h30m.'
        )
    if len(fields) != len(_FIELDS):
        hint = ' Seconds have no field: use Every(seconds=…), or "@every 30s".' if len(fields) > len(_FIELDS) else ""
        raise InvalidRecurrenceError(
            f'A cron has 5 fields ({", ".join(_FIELDS)}), but "{text}" has {len(fields)}.{hint} {_EXAMPLE}'
        )
    for name, field in zip(_FIELDS, fields, strict=True):
        for term in field.lower().split(","):
            _check_term(text, name, term)


def _check_term(text: str, name: str, term: str) -> None:
    if re.match(r"[hr](\(|/|$)", term):
        raise InvalidRecurrenceError(
            f'The {name} "{term}" of the cron "{text}" leaves the time to chance, which no two processes share. '
            "Write the number."
        )
    if (bounds := re.match(r"([^-/]+)-([^-/]+)", term)) and bounds[1] == bounds[2]:
        raise InvalidRecurrenceError(
            f'The {name} "{term}" of the cron "{text}" begins where it ends, which some crons read as every value. '
            f'Write "{bounds[1]}", or "*".'
        )


def _parsed(text: str, fields: str) -> Any:
    """Return croniter's reading of five fields."""
    from croniter import CroniterError, croniter  # noqa: PLC0415 - most programs have no cron

    try:
        parsed = croniter(fields, _SOME_DAY)
    except (CroniterError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        reason = str(error).splitlines()[-1] if str(error) else type(error).__name__
        raise InvalidRecurrenceError(f'The cron "{text}" cannot be read: {reason.rstrip(".")}. {_EXAMPLE}') from error
    try:
        copy.copy(parsed).get_next(datetime, start_time=_SOME_DAY)
    except (CroniterError, ValueError, IndexError, TypeError):
        raise InvalidRecurrenceError(f'The cron "{text}" never occurs: none of its months has such a day.') from None
    return parsed


def _period(text: str, spans: list[str]) -> Every:
    try:
        return Every(parse("".join(spans)))
    except ConfigurationError as error:
        raise InvalidRecurrenceError(f'The cron "{text}" cannot be read: {error}') from None
