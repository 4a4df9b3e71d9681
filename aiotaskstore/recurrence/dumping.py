"""Recurrences as text, and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from aiotaskstore.errors import InvalidRecurrenceError
from aiotaskstore.recurrence.cron import Cron
from aiotaskstore.recurrence.every import Every
from aiotaskstore.recurrence.function_recurrence import FunctionRecurrence, RecurrenceFunction
from aiotaskstore.recurrence.once import Once
from aiotaskstore.recurrence.recurrence import Recurrence
from aiotaskstore.recurrence.recurrence_rule import RecurrenceRule

_KINDS = "a Cron, a RecurrenceRule, Every(…), Once(…), cron text or a function of the last instant"


def as_recurrence(value: object, timezone: str | None = None) -> Recurrence:
    """Return what a caller gave for a recurrence as one: text is a cron, a function decides by itself."""
    if isinstance(value, str):
        return Cron(value, timezone)
    if timezone is not None:
        raise InvalidRecurrenceError(f"timezone= belongs to cron text; {value!r:.100} has its own.")
    if isinstance(value, type):
        raise InvalidRecurrenceError(f"A recurrence must be {_KINDS}, not the class {value.__name__} itself.")
    if isinstance(value, Recurrence):
        return value
    if callable(value):
        function: RecurrenceFunction = value
        return FunctionRecurrence.of(function)
    raise InvalidRecurrenceError(f"A recurrence must be {_KINDS}, not {value!r:.100} ({type(value).__name__}).")


def dump_recurrence(recurrence: Recurrence | RecurrenceFunction) -> str:
    """Return a recurrence as JSON text; of a function, or of a class that is not ours, only the name."""
    match as_recurrence(recurrence):
        case Cron() as cron:
            fields: dict[str, Any] = {"kind": "cron", "text": cron.text, "timezone": cron.timezone}
        case Every() as every:
            fields = {"kind": "every", "period": every.period // timedelta(microseconds=1)}
            fields |= {} if every.starts_at is None else {"starts_at": every.starts_at.isoformat()}
        case Once() as once:
            fields = {"kind": "once", "at": once.at.isoformat()}
        case RecurrenceRule() as rule:
            fields = _dump_rule(rule)
        case FunctionRecurrence(name=name):
            fields = {"kind": "function", "name": name}
        case other:
            fields = {"kind": "function", "name": FunctionRecurrence.of(other.next_after).name}
    return json.dumps(fields)


@lru_cache(maxsize=4096)
def load_recurrence(text: str) -> Recurrence:
    """Read what `dump_recurrence` wrote; a function comes back as its name, which occurs only where its code is."""
    try:
        fields = json.loads(text)
        kind = _LOADED[fields.pop("kind")]
        return kind(**fields)
    except InvalidRecurrenceError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise InvalidRecurrenceError(
            f"The stored recurrence {text!r:.200} cannot be read ({error!r:.100}). Store it again by schedules.update."
        ) from None


def _dump_rule(rule: RecurrenceRule) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "kind": "rule",
        "frequency": rule.frequency,
        "interval": rule.interval,
        "days_of_week": list(rule.days_of_week),
        "days_of_month": list(rule.days_of_month),
        "months_of_year": list(rule.months_of_year),
        "starts_at": rule.starts_at,
        "ends_at": rule.ends_at,
        "timezone": rule.timezone,
        "count": rule.count,
    }
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in fields.items()
        if value not in (None, [])
    }


def _load_rule(**fields: Any) -> RecurrenceRule:
    for bound in {"starts_at", "ends_at"} & fields.keys():
        fields[bound] = datetime.fromisoformat(fields[bound])
    return RecurrenceRule(**fields)


def _load_every(period: int, starts_at: str | None = None) -> Every:
    first = None if starts_at is None else datetime.fromisoformat(starts_at)
    return Every(timedelta(microseconds=period), starts_at=first)


def _load_once(at: str) -> Once:
    return Once(datetime.fromisoformat(at))


def _load_function(name: str) -> FunctionRecurrence:
    return FunctionRecurrence(name)


_LOADED: dict[str, Callable[..., Recurrence]] = {
    "cron": Cron,
    "every": _load_every,
    "once": _load_once,
    "rule": _load_rule,
    "function": _load_function,
}
