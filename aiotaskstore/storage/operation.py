"""An operation: what storage asks of a database, sans-I/O, one step at a time.

An operation is a generator: it yields steps and is sent their rows. So its logic is written once, and each dialect
decides how steps travel: awaited one by one on a connection, or all in one hop to SQLite's writer thread.

Its rule: an operation is pure. It neither reads nor changes state outside its arguments, and changes no argument. It
may run in another thread, at any time until its caller resumes, and it is started again from the beginning after a
deadlock or a lost connection. So what it needs is decided before it starts, and what follows from it is done with its
result. It holds no connection.
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
    apart: bool = False
    """Read what is committed by now, on a connection of ours, where a caller's transaction may see only the past and
    reading the present in it would lock."""


class Batch(NamedTuple):
    """Run a named statement for many rows in one round trip; `fields` names the rows' values in order."""

    name: str
    fields: tuple[str, ...]
    rows: Sequence[Row]


class Query(NamedTuple):
    """Run a composed statement; only `listing.py` and `record_listing.py` compose these."""

    sql: str
    params: Mapping[str, Any]


class Begin(NamedTuple):
    """What follows is one transaction (inside a caller's: one savepoint). Must be the first step."""

    lock_wait: float | None = None
    """Seconds that a statement of a transaction of ours may wait for somebody's lock, where the dialect has a limit."""


BEGIN = Begin()

Step = Call | Batch | Query | Begin
Steps = Generator[Step, Rows, T]
"""One operation under way."""
Operation = Callable[[], Steps[T]]
"""Starts the operation, as often as is needed."""
