"""External ids: which task has each, unique over both halves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple
from uuid import UUID

from aiotaskstore.storage.faults import Conflict
from aiotaskstore.storage.operation import Batch, Call, Steps
from aiotaskstore.task import NewTask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiotaskstore.storage.database import Database

Key = tuple[str, str]
"""An alias and an external id."""
KEY = ("alias", "external_id", "task_id")
_AT_ONCE = 1_000
"""External ids in one statement."""


class KeyedRow(NamedTuple):
    """A row to be stored that carries an external id."""

    row: NewTask
    live_only: bool
    """Whether a finished task loses the external id to this row."""

    @property
    def key(self) -> Key:
        """The alias and external id that must be free."""
        return self.row.alias, self.row.external_id or ""


class Taken(NamedTuple):
    """Which of some rows with external ids cannot be stored now."""

    owners: Mapping[UUID, UUID]
    """The task that has the external id, by the id of the row that cannot have it."""
    held: frozenset[UUID] = frozenset()
    """Rows whose external id somebody's open transaction holds, so that it is not known yet whether it is taken."""

    def free(self, keyed: Iterable[KeyedRow]) -> list[NewTask]:
        """Return the rows that have their external ids."""
        return [one.row for one in keyed if one.row.id not in self.owners and one.row.id not in self.held]


class ExternalIds:
    """Which task has an external id, as operations (`operation.py`)."""

    insert_joined: ClassVar[str] = "insert_keys"
    """The statement that, in a caller's transaction, waits for others, and that others then notice."""

    unlocked: ClassVar[str] = "key_owners"
    """The statement that reads the owners and neither waits nor locks."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def take(self, keyed: Sequence[KeyedRow], *, joined: bool) -> Steps[Taken]:
        """Assign each row its external id, unless another task has it.

        In a caller's transaction (`joined`) it waits for other transactions that hold one. On a connection of ours it
        does not, so that one held id stops nobody but those who want it: those rows are `held`, or it is `LockHeld`.
        """
        # One order for everybody, so that two batches with the same keys wait for, not deadlock, each other. Of equal
        # ones the first stays first, and gets the external id.
        ordered = sorted(keyed, key=lambda one: one.key)
        ours = {one.row.id for one in ordered}
        taken: dict[UUID, UUID] = {}
        held: set[UUID] = set()
        for start in range(0, len(ordered), _AT_ONCE):
            some = ordered[start : start + _AT_ONCE]
            owners = yield from self.insert(some, joined=joined)
            claimants = [one for one in some if one.live_only and owners.get(one.key, one.row.id) not in ours]
            if claimants:
                yield from self._take_over(claimants, joined=joined)
                owners |= yield from self.owners([one.key for one in claimants])
            for one in some:
                owner = owners.get(one.key)
                if owner is None:
                    held.add(one.row.id)
                elif owner != one.row.id:
                    taken[one.row.id] = owner
        if held and joined:
            raise Conflict("a task that had one of these external ids has just been deleted")
        return Taken(taken, frozenset(held))

    def insert(self, keyed: Sequence[KeyedRow], *, joined: bool) -> Steps[dict[Key, UUID]]:
        """Insert external ids that no task has; return which task has each by now, and leave out one that is held."""
        keys = [(*one.key, one.row.id) for one in keyed]
        rows = yield Batch(self.insert_joined if joined else "insert_keys", KEY, keys)
        if len(rows) == len(keys):
            return {one.key: one.row.id for one in keyed}
        return (yield from self.owners([one.key for one in keyed]))

    def owners(self, keys: Iterable[Key], statement: str = "key_owners") -> Steps[dict[Key, UUID]]:
        """Return the tasks that have these external ids; `lock_keys` locks them too."""
        owners: dict[Key, UUID] = {}
        listed = list(keys)
        for start in range(0, len(listed), _AT_ONCE):
            rows = yield Call(statement, named(listed[start : start + _AT_ONCE]))
            owners |= {(row[0], row[1]): self.database.uid(row[2]) for row in rows}
        return owners

    def held(self, keys: Sequence[Key]) -> Steps[set[Key]]:
        """Lock the free ones of these external ids, and return those that somebody else has locked."""
        free = yield from self.owners(keys, "lock_keys_free")
        missing = [key for key in keys if key not in free]
        return set((yield from self.owners(missing, self.unlocked)) if missing else ())

    def delete(self, gone: Sequence[tuple[str, str, UUID]]) -> Steps[None]:
        """Delete external ids of tasks of which no row is kept, unless another task has taken them over."""
        for start in range(0, len(gone), _AT_ONCE):
            some = gone[start : start + _AT_ONCE]
            yield Call("delete_keys", {"ids": [id_ for _, _, id_ in some], **named(some)})

    def live(self, ids: Sequence[UUID], *, joined: bool) -> Steps[set[UUID]]:  # noqa: ARG002 - for a dialect that sees the past
        """Return which of these tasks, whose external ids are locked, have not finished."""
        rows = yield Call("live_among", {"ids": list(ids)})
        return {self.database.uid(row[0]) for row in rows}

    def _take_over(self, claimants: Sequence[KeyedRow], *, joined: bool) -> Steps[None]:
        # Locked before we look whether the owner lives, so that a retry of it waits for us, or we for that.
        owners = yield from self.owners((one.key for one in claimants), "lock_keys")
        if any(one.key not in owners for one in claimants):
            raise Conflict("a task that had one of these external ids has just been deleted")
        live = yield from self.live([owners[one.key] for one in claimants], joined=joined)
        free: dict[Key, KeyedRow] = {}
        for one in claimants:
            if owners[one.key] not in live:
                free.setdefault(one.key, one)
        if free:
            rows = [(*key, one.row.id, owners[key]) for key, one in free.items()]
            yield Batch("take_over_keys", (*KEY, "old_id"), rows)


def named(keys: Iterable[tuple[str | UUID, ...]]) -> dict[str, list[object]]:
    """Return the parameters for keys, in pairs and in columns: each dialect takes what suits its plans."""
    pairs = sorted(set(keys))
    return {
        "pairs": list(pairs),
        "aliases": sorted({pair[0] for pair in pairs}, key=str),
        "external_ids": sorted({pair[1] for pair in pairs}, key=str),
    }
