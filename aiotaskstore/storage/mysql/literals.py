"""Values as SQL and as JSON: aiomysql has no server-side parameters to use instead."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID


def literal(value: Any, connection: Any) -> str:
    """Write one value as SQL."""
    match value:
        case UUID():
            return f"X'{value.hex}'"
        case None:
            return "NULL"
        case bool():
            return "1" if value else "0"
        case int():
            return str(value)
        case float():
            return repr(value)
        case bytes():
            return f"X'{value.hex()}'"
        case datetime():
            return f"TIMESTAMP'{instant_text(value)}'"
        case str():
            escaped: str = connection.escape(value)
            return escaped
        case list() | tuple() | set() | frozenset():
            return "(" + (", ".join([literal(one, connection) for one in value]) or "NULL") + ")"
        case _:
            raise AssertionError(f"no SQL literal for {type(value).__name__}")


def instant_text(value: datetime) -> str:
    """Write an instant as the UTC text that DATETIME(6) takes."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")


def document(rows: Sequence[Sequence[Any]]) -> str:
    """Write rows as the one JSON document that a statement takes as a table."""
    return json.dumps(rows, default=json_value, ensure_ascii=False)


def json_value(value: Any) -> Any:
    """Give what stands in a batch's document for a value that JSON has no word for."""
    match value:
        case UUID():
            return value.hex
        case bytes():
            return value.hex()
        case datetime():
            return instant_text(value)
        case _:
            raise AssertionError(f"no JSON for {type(value).__name__}")
