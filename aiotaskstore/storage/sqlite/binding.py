"""Binds steps for SQLite: `?` for single values, a list as many values or packed into one."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any
from uuid import UUID

from aiotaskstore.mechanics.clock import SYSTEM_CLOCK, Clock
from aiotaskstore.storage.binding import Binder
from aiotaskstore.storage.operation import Batch, Begin, Step
from aiotaskstore.storage.statements import Statements

_sql = logging.getLogger("aiotaskstore.sql")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROWS_AT_ONCE = 50
"""Rows in one statement: more would be little faster, and each number of rows needs a statement text of its own."""
_LONGEST_INLINE = 100
"""The longest list that has a `?` for each value. SQLite takes 32,766 of them; a longer list is bound as one JSON
document, which is faster from here on (1,000 texts: 1.5 instead of 3.2 ms), since its statement is compiled once."""
_UNPACKED = (
    "(WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 16 FROM n WHERE i + 16 < ?) "
    "SELECT substr(?, i, 16) FROM n)"
)
"""Reads any number of ids from one blob, no slower than a `?` for each (1,000 ids: 1.7 instead of 2.2 ms)."""
_NATIVE = frozenset({int, float, str, bool, type(None)})
"""Types whose values need no conversion for SQLite."""


class SqliteBinder(Binder):
    """Turns steps into SQLite's statements and arguments. `:now` is one value for a whole statement."""

    def __init__(self, statements: Statements, clock: Clock | None) -> None:
        super().__init__(statements, clock or SYSTEM_CLOCK)

    def bind(self, step: Step) -> tuple[str, tuple[Any, ...]]:
        """Return the text of a step and its arguments."""
        assert not isinstance(step, Begin | Batch)  # noqa: S101 - they have ways of their own
        statement = self.statement(step)
        params = step.params
        if statement.instants:
            params = {**params, **{name: self.instant(name) for name in statement.instants}}
        arguments: list[Any] = []
        parts = [statement.pieces[0]]
        for name, after in zip(statement.names, statement.pieces[1:], strict=True):
            parts += (_place(params[name], arguments), after)
        sql = "".join(parts)
        _sql.debug("%s", sql)
        return sql, tuple(arguments)

    def bind_batch(self, step: Batch) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
        """Yield texts and rows for `executemany`: row by row, or many at once for a statement that takes `:rows`."""
        statement = self.statement(step)
        _sql.debug("%s × %d", ":".join(statement.pieces), len(step.rows))
        columns = [_plain_column(values) for values in zip(*step.rows, strict=True)]
        now = _plain(self.instant()) if "now" in statement.names else None
        if "rows" not in statement.names:
            found = dict(zip(step.fields, columns, strict=True)) | {"now": [now] * len(step.rows)}
            yield "?".join(statement.pieces), list(zip(*(found[name] for name in statement.names), strict=True))
            return
        whole, row = list(zip(*columns, strict=True)), f"({', '.join('?' * len(columns))})"
        for start in range(0, len(whole), _ROWS_AT_ONCE):
            some = whole[start : start + _ROWS_AT_ONCE]
            values: list[Any] = []
            parts = [statement.pieces[0]]
            for name, after in zip(statement.names, statement.pieces[1:], strict=True):
                parts += (", ".join([row] * len(some)) if name == "rows" else "?", after)
                values += chain.from_iterable(some) if name == "rows" else (now,)
            yield "".join(parts), [tuple(values)]


def read_instant(value: Any) -> datetime:
    """Convert a stored instant."""
    return _EPOCH + timedelta(microseconds=int(value))


def _place(value: Any, arguments: list[Any]) -> str:
    if isinstance(value, list | tuple | set | frozenset):
        if len(value) > 1 and all(isinstance(one, UUID) for one in value):
            ids = b"".join(one.bytes for one in value)
            arguments += (len(ids), ids)
            return _UNPACKED
        if len(value) > _LONGEST_INLINE:
            arguments.append(json.dumps([_plain(one) for one in value]))
            return "(SELECT value FROM json_each(?))"
        arguments += (_plain(one) for one in value)
        return "(" + ", ".join("?" * len(value)) + ")"
    arguments.append(_plain(value))
    return "?"


def _plain_column(values: Sequence[Any]) -> Sequence[Any]:
    # Most columns need no conversion: checking types takes a quarter of the time of converting values.
    return values if _NATIVE.issuperset(map(type, values)) else [_plain(value) for value in values]


def _plain(value: Any) -> Any:
    """Return a value as SQLite stores it: ids are blobs, instants are microseconds."""
    if isinstance(value, UUID):
        return value.bytes
    if isinstance(value, datetime):
        return (value - _EPOCH) // timedelta(microseconds=1)
    return value
