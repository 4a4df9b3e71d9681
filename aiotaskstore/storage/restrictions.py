"""Restrictions: what operators keep every dispatcher from claiming."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aiotaskstore.storage.operation import Call, Steps

_SHOWN = 10
"""Names in a sentence, at most."""


class Restrictions(NamedTuple):
    """The restrictions at one moment. The rows of the tasks say nothing of them."""

    paused_queues: frozenset[str] = frozenset()
    cancelled_aliases: frozenset[str] = frozenset()
    """The aliases of cancelled definitions."""

    def described(self) -> list[str]:
        """Return the kinds of restrictions as text for people, each with those that are in force."""
        return [
            f"paused queues{_named(self.paused_queues)}",
            f"cancelled definitions{_named(self.cancelled_aliases)}",
        ]


def read_restrictions() -> Steps[Restrictions]:
    """Read the restrictions in force."""
    rows = yield Call("restrictions")
    return Restrictions(
        frozenset(name for kind, name in rows if kind == "queue"),
        frozenset(name for kind, name in rows if kind == "definition"),
    )


def _named(names: Iterable[str]) -> str:
    listed = sorted(names)
    if not listed:
        return ""
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return f" (now {', '.join(listed[:_SHOWN])}{more})"
