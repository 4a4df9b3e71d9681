"""Values as SQL and as JSON: aiomysql has no server-side parameters to use instead."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID


class Document(str):
    """JSON text: control characters are escaped in it already, so a backslash and a quote is all that SQL minds.

    The driver's own escaping looks every character up, a tenth of a worker's time.
    """

    __slots__ = ()


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
            return _quoted(value, connection)
        case list() | tuple() | set() | frozenset():
            return "(" + (", ".join([literal(one, connection) for one in value]) or "NULL") + ")"
        case _:
            raise AssertionError(f"no SQL literal for {type(value).__name__}")


def _quoted(text: str, connection: Any) -> str:
    escape: Callable[[str], str] = connection.escape_string  # as the session's sql_mode wants it
    if isinstance(text, Document):
        return "'" + text.replace("\\", escape("\\")).replace("'", escape("'")) + "'"
    return f"'{escape(text)}'"


def instant_text(value: datetime) -> str:
    """Write an instant as the UTC text that DATETIME(6) takes."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")


def document(rows: Sequence[Sequence[Any]]) -> Document:
    """Write rows as the one JSON document that a statement takes as a table."""
    return Document(json.dumps(rows, default=json_value, ensure_ascii=False))


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
