"""What a storage operation asks of a database, one step at a time.

An operation is a generator: it yields steps and is sent their rows. So its logic is written once, and each
dialect decides how steps travel: awaited one by one on a connection, or all in one hop to SQLite's writer
thread. A generator holds no connection; whoever drives it may start it again from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

Row = Sequence[Any]
Rows = Sequence[Row]
T = TypeVar("T")


class Call(NamedTuple):
    """Run a named statement once."""

    name: str
    params: Mapping[str, Any] = {}


class Batch(NamedTuple):
    """Run a named statement for many rows in one round trip; `fields` names the rows' values in order."""

    name: str
    fields: tuple[str, ...]
    rows: Sequence[Row]


class Query(NamedTuple):
    """Run a composed statement; only `listing.py` makes these."""

    sql: str
    params: Mapping[str, Any]


class Begin(NamedTuple):
    """What follows is one transaction (inside a caller's: one savepoint). Must be the first step."""


BEGIN = Begin()

Step = Call | Batch | Query | Begin
Unit = Generator[Step, Rows, T]
"""One operation under way."""
Operation = Callable[[], Unit[T]]
"""Starts the operation, as often as it takes."""
