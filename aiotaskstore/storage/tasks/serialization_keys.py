"""Serialization keys: which of the tasks that share one may run.

A key is held by at most one task: its row's `held_key`, which is unique, is the key then. Every other statement only
frees keys, or adds rows that wait; a grant, in a transaction of its own after that commit, makes the first waiting row
of each free key pending. In the same transaction it could see neither a row that another process is about to commit,
nor that process what we have freed, and the key would stay free with nobody to take it (docs/adr/0014).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple
from uuid import UUID

from aiotaskstore.storage.operation import Call, Steps
from aiotaskstore.storage.tasks.rows import TaskRows

MOST_KEYS = 500
"""Keys in one look at those that tasks wait for."""


class WaitingKey(NamedTuple):
    """A serialization key for which tasks wait."""

    key: str
    free: bool
    """Whether no task holds it: nobody is about to free it, so it must be granted."""


class SerializationKeys(TaskRows):
    """The operations that pass serialization keys on."""

    look_limit: ClassVar[int] = MOST_KEYS
    """How much one look at the keys that tasks wait for may read: keys, or index entries of them."""

    def grant(self, keys: Sequence[str]) -> Steps[frozenset[str]]:
        """Make the first waiting task of each of these keys pending that no task holds; return the queues of those.

        First is the one with the smallest priority, due time and id. A key whose first task somebody's transaction has
        locked is left out.
        """
        raise NotImplementedError

    def key_holder(self, key: str) -> Steps[UUID | None]:
        """Return the task that holds a key; `None` where it is free."""
        rows = yield Call("key_holder", {"serialization_key": key})
        return self.database.uid(rows[0][0]) if rows else None

    def waiting_keys(self, after: str) -> Steps[list[WaitingKey]]:
        """List the first of the keys that come after this one and that tasks wait for, in order.

        An empty list means that there are no more.
        """
        rows = yield Call("waiting_keys", {"after": after, "limit": self.look_limit})
        return [WaitingKey(row[0], bool(row[1])) for row in rows]
