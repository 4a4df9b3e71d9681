"""Rows that an operator acts on: locked in whichever half they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from aiotaskstore.storage.operation import Steps
from aiotaskstore.storage.rows import STATUSES
from aiotaskstore.storage.tasks.rows import Finished, TaskRows
from aiotaskstore.storage.transitions import LockedRow
from aiotaskstore.task import TaskStatus

_LOOKS = 3
"""How often a row is looked for that may be moving between the halves."""

Still = Callable[[Sequence[UUID], Sequence[UUID]], Steps[set[UUID]]]
"""Returns which of some locked rows, live ones and finished ones, an action is still for."""


class Copied(NamedTuple):
    """A new task that was made of another one."""

    id: UUID
    alias: str
    queue: str
    payload_size: int
    """Bytes of its payload as JSON."""


class ActionResult(NamedTuple):
    """What an operator's action did to one task."""

    status: TaskStatus | None
    """The status it was found in; `None` where no row is kept."""
    done: bool
    payload_gone: bool = False
    taken_by: UUID | None = None
    """The task that has this one's external id by now, where that forbids the action."""
    copied: Copied | None = None
    serialization_key: str | None = None
    """The key that it has: a change of it may have freed the key, or added a task that waits for it."""


class LockedRows(NamedTuple):
    """The rows of some tasks, locked."""

    live: Mapping[UUID, LockedRow]
    finished: Mapping[UUID, Finished]

    @property
    def every(self) -> dict[UUID, LockedRow]:
        """The rows of both halves, by id."""
        return {**self.live, **{id_: one.row for id_, one in self.finished.items()}}

    def results(self, done: Iterable[UUID]) -> dict[UUID, ActionResult]:
        """Return the result for each task, of which these were changed."""
        changed = set(done)
        return {
            id_: ActionResult(STATUSES[row.status], done=id_ in changed, serialization_key=row.serialization_key)
            for id_, row in self.every.items()
        }


class BothHalves(TaskRows):
    """Locks the rows that an action is for."""

    def lock_both(self, ids: Sequence[UUID], still: Still | None = None, *, hidden: bool = False) -> Steps[LockedRows]:
        """Lock rows in whichever half they stand.

        A row that moves to the other half between two looks is in neither, so what is missing is looked for again.
        With `still`, only those rows are returned that it returns once they are locked; without, soft-deleted ones
        are left out unless `hidden`.
        """
        live: dict[UUID, LockedRow] = {}
        finished: dict[UUID, Finished] = {}
        missing = set(ids)
        elsewhere = yield from self.seen_finished(ids)
        for _ in range(_LOOKS):
            live |= yield from self.lock(missing - elsewhere)
            elsewhere = frozenset()
            missing -= live.keys()
            if not missing:
                break
            finished |= yield from self.lock_finished(missing)
            missing -= finished.keys()
            if not missing:
                break
        if still is not None:
            meant = (yield from still(list(live), list(finished))) if live or finished else set()
        elif hidden:
            return LockedRows(live, finished)
        else:
            meant = {row.id for row in LockedRows(live, finished).every.values() if row.deleted_at is None}
        return LockedRows(
            {id_: row for id_, row in live.items() if id_ in meant},
            {id_: one for id_, one in finished.items() if id_ in meant},
        )

    def seen_finished(self, ids: Sequence[UUID]) -> Steps[frozenset[UUID]]:  # noqa: ARG002 - for a dialect that locks gaps
        """Return which of these need not be looked for in the live half first."""
        return frozenset()
        yield
