"""Numbers, sizes, spans and values as people read them."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

_KILO = 1000.0
_SPANS = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"))


def number(value: float) -> str:
    """Write 1234567 as 1,234,567."""
    return f"{value:,.0f}"


def counted(value: int, noun: str) -> str:
    """Write 1 as `1 file` and 2 as `2 files`."""
    return f"{number(value)} {noun}{'' if value == 1 else 's'}"


def size(count: float) -> str:
    """Write bytes as `12.3 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < _KILO:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _KILO
    return f"{count:.1f} TB"


def age(seconds: float) -> str:
    """Write how long ago something was, as `5s`, `3m`, `5h` or `2d`."""
    for length, unit in _SPANS:
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def instant(at: datetime) -> str:
    """Write an instant as ISO 8601 in UTC."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(value: Any) -> Any:
    """Return a value as JSON can carry it: ids and instants as text, spans as seconds."""
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, UUID):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def as_json(value: Any) -> str:
    """Write a value as JSON on one line; a list with a line for each item."""
    if isinstance(value, list) and value:
        lines = (json.dumps(plain(one), ensure_ascii=False) for one in value)
        return "[" + ",\n ".join(lines) + "]"
    return json.dumps(plain(value), ensure_ascii=False)
