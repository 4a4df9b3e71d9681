"""A check: one thing that a diagnosis finds out. It reads, and changes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from aiotaskstore.finding import Finding


class Check(NamedTuple):
    """A check and its name."""

    name: str
    run: Callable[[], Awaitable[Sequence[Finding]]]
    """Finds out; raises one of our errors where it cannot."""
    needs_tables: bool = False
    """Whether it reads our tables, which must have the version of this library."""
