"""Durations: a timedelta or a number of seconds, normalised to seconds."""

from __future__ import annotations

import math
import re
from datetime import timedelta

from aiotaskstore.errors import ConfigurationError

Duration = timedelta | float
"""A `timedelta`, or a number of seconds."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_LONGEST = 100 * 365 * 86400.0


def seconds(value: Duration, name: str, *, above_zero: bool = False) -> float:
    """Return `value` in seconds; raise `ConfigurationError` if it is negative, infinite or over a hundred years."""
    if isinstance(value, bool) or not isinstance(value, timedelta | int | float):
        raise ConfigurationError(
            f"{name} must be a timedelta or a number of seconds, not {value!r:.100} ({type(value).__name__})."
        )
    try:
        number = value.total_seconds() if isinstance(value, timedelta) else float(value)
    except OverflowError:  # an int that no float can hold
        number = math.inf if value > 0 else -math.inf  # type: ignore[operator] # a timedelta does not get here
    if math.isnan(number) or number < 0 or (above_zero and number == 0):
        bound = "above zero" if above_zero else "zero or more"
        raise ConfigurationError(f"{name} must be {bound}, but it is {value!r:.100}.")
    if number > _LONGEST:
        raise ConfigurationError(f"{name} must be at most a hundred years, but it is {value!r:.100}.")
    return number


def written(span: float) -> str:
    """Write seconds for people: `12 ms`, `1.24 s`, `1m30s`, `2h`, `3d4h`."""
    if span < 1:
        return f"{span * 1000:.3g} ms"
    if span < 60:  # noqa: PLR2004 - a minute
        return f"{span:.3g} s"
    whole, parts = round(span), []
    for unit in ("d", "h", "m", "s"):
        count, whole = divmod(whole, int(_UNITS[unit]))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])


def parse(text: str) -> float:
    """Return the seconds of a text such as `5m`, `1h30m`, `250ms` or `90`."""
    text = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[smhdw])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ConfigurationError(f'"{text}" is no duration. Write 90, 250ms, 5m, 1h30m or 2d.')
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
