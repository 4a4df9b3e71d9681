"""Serialization keys: which of the tasks that share one may run.

A key is held by at most one task: its row's `held_key`, which is unique, is the key then. Every other statement only
frees keys, or adds rows that wait; a grant, in a transaction of its own after that commit, makes the first waiting row
of each free key pending. In the same transaction it could see neither a row that another process is about to commit,
nor that process what we have freed, and the key would stay free with nobody to take it (docs/adr/0014).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar
from uuid import UUID

from aiotaskstore.storage.operation import Call, Steps
from aiotaskstore.storage.tasks.rows import TaskRows
from aiotaskstore.task import Claim

MOST_KEYS = 500
"""Keys in one look at those that tasks wait for."""


class WaitingKey(NamedTuple):
    """A serialization key for which tasks wait."""

    key: str
    free: bool
    """Whether no task holds it: nobody is about to free it, so it must be granted."""


class Claimed(NamedTuple):
    """What a claim that also granted keys has done."""

    claims: list[Claim]
    granted: frozenset[str]
    """Queues of tasks that were granted their keys and are pending, since this claim could not take them."""


class Claimable(Protocol):
    """A task that a claim may take, with what decides about its turn."""

    @property
    def id(self) -> UUID:
        """Its id."""

    @property
    def queue(self) -> str:
        """Its queue."""

    @property
    def alias(self) -> str:
        """The name of its definition."""

    @property
    def priority(self) -> int:
        """Smaller comes first."""

    @property
    def run_at(self) -> Any:
        """Its due time, as the database gives it: earlier comes first."""


Candidate = TypeVar("Candidate", bound=Claimable)


def in_turn(found: Iterable[Candidate], queues: Sequence[tuple[str, int]], aliases: Collection[str]) -> list[Candidate]:
    """Choose those that a claim takes: the first ones of each queue, at most so many, and of these aliases only."""
    rooms, came = dict(queues), Counter[str]()
    chosen: list[Candidate] = []
    for one in sorted(found, key=lambda one: (one.priority, one.run_at, one.id)):
        if came[one.queue] < rooms.get(one.queue, 0) and one.alias in aliases:
            came[one.queue] += 1
            chosen.append(one)
    return chosen


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

    def claim_granting(
        self, dispatcher: UUID, queues: Sequence[tuple[str, int]], aliases: Sequence[str], keys: Sequence[str]
    ) -> Steps[Claimed]:
        """Grant these keys, and claim: a task that is granted its key may run at once, if its turn has come.

        Does in one transaction what `grant` and a `claim` after it do, but writes the rows that run once, not twice.
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
