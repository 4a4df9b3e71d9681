"""What the operations on tasks have in common: locking, writing, moving and deleting rows.

A dialect overrides the few whose statements differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple
from uuid import UUID

from aiotaskstore.storage.database import fields_of
from aiotaskstore.storage.external_ids import ExternalIds
from aiotaskstore.storage.operation import Batch, Call, Rows, Steps
from aiotaskstore.storage.tasks.bounding import bound_errors
from aiotaskstore.storage.transitions import AttemptErrorRow, Correction, Ending, LockedRow, QueueReturn, Transitions
from aiotaskstore.task import NewTask

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database

NEW_TASK = fields_of(NewTask)
_FEW_ERRORS = 15
"""Errors that cannot be too many: a task whose fence is no higher is not looked at."""


class Finished(NamedTuple):
    """A locked row of the history, as far as a decision needs it."""

    row: LockedRow
    reason: str
    payload_gone: bool


class TaskRows:
    """The rows of tasks, in both halves, and what belongs to them in the side tables."""

    keys_of: ClassVar[type[ExternalIds]] = ExternalIds

    def __init__(self, database: Database) -> None:
        self.database = database
        self.external_ids: ExternalIds = self.keys_of(database)

    def insert(self, rows: Sequence[NewTask]) -> Steps[None]:
        """Store rows."""
        yield Batch("insert_tasks", NEW_TASK, rows)

    def lock(self, ids: Iterable[UUID]) -> Steps[dict[UUID, LockedRow]]:
        """Lock rows of the live half, in the order of their ids."""
        rows = yield Call("lock", {"ids": sorted(set(ids))})
        return self._locked(rows)

    def lock_free(self, ids: Iterable[UUID]) -> Steps[dict[UUID, LockedRow]]:
        """Lock those rows of the live half that nobody else has locked."""
        rows = yield Call("lock_free", {"ids": sorted(set(ids))})
        return self._locked(rows)

    def _locked(self, rows: Rows) -> dict[UUID, LockedRow]:
        uid = self.database.uid
        return {(id_ := uid(row[0])): LockedRow(id_, *row[1:]) for row in rows}

    def apply(self, transitions: Transitions, locked: Mapping[UUID, LockedRow]) -> Steps[None]:
        """Write the transitions that were decided for locked rows."""
        if transitions.errors:
            yield Batch("insert_errors", fields_of(AttemptErrorRow), transitions.errors)
            yield from bound_errors([error.task_id for error in transitions.errors if error.fence > _FEW_ERRORS])
        if transitions.endings:
            yield from self.archive([ending for ending in transitions.endings if ending.keep])
            yield from self.delete_tasks([ending.id for ending in transitions.endings])
            gone = [locked[ending.id] for ending in transitions.endings if not ending.keep]
            yield from self.delete_side_rows([(row.id, row.alias, row.external_id) for row in gone])
        if transitions.returns:
            yield from self.return_to_queue(transitions.returns)

    def lock_finished(self, ids: Iterable[UUID], *, wait: bool = True) -> Steps[dict[UUID, Finished]]:
        """Lock rows of the history, in the order of their ids; without `wait` only the free ones."""
        rows = yield Call("lock_finished" if wait else "lock_finished_free", {"ids": sorted(set(ids))})
        uid = self.database.uid
        return {
            (id_ := uid(row[0])): Finished(LockedRow(id_, *row[1:-2]), row[-2], payload_gone=bool(row[-1]))
            for row in rows
        }

    def correct(self, transitions: Transitions, locked: Mapping[UUID, LockedRow], *, void: bool = False) -> Steps[None]:
        """Write the endings that were decided for locked rows of the history, over those that they had."""
        kept = [Correction.of(ending, void=void) for ending in transitions.endings if ending.keep]
        if kept:
            yield Batch("correct_history", fields_of(Correction), kept)
        gone = [locked[ending.id] for ending in transitions.endings if not ending.keep]
        if gone:
            yield Call("delete_history", {"ids": [row.id for row in gone]})
            yield from self.delete_side_rows([(row.id, row.alias, row.external_id) for row in gone])

    def withdraw(self, ids: Sequence[UUID]) -> Steps[None]:  # noqa: ARG002 - for a dialect whose pending rows stand apart
        """Take locked rows from where claims look, before they change."""
        return
        yield

    def offer(self, ids: Sequence[UUID]) -> Steps[None]:  # noqa: ARG002 - for a dialect whose pending rows stand apart
        """Put locked rows where claims look, if they are pending by now."""
        return
        yield

    def archive(self, endings: Sequence[Ending]) -> Steps[None]:
        """Write locked rows into the history; `delete_tasks` must follow."""
        if endings:
            yield Batch("archive", fields_of(Ending)[:-1], [ending[:-1] for ending in endings])

    def return_to_queue(self, returns: Sequence[QueueReturn]) -> Steps[None]:
        """Place locked running rows where they may run again."""
        yield Batch("return_to_queue", fields_of(QueueReturn), returns)
        yield from self.offer([one.id for one in returns])

    def restart(self, ids: Sequence[UUID]) -> Steps[None]:
        """Make locked live rows pending from the start."""
        yield from self.withdraw(ids)
        yield Call("restart", {"ids": list(ids)})
        yield from self.offer(ids)

    def revive(self, ids: Sequence[UUID]) -> Steps[None]:
        """Move locked finished rows back to pending."""
        yield Call("revive", {"ids": list(ids)})
        yield Call("delete_history", {"ids": list(ids)})
        yield from self.offer(ids)

    def delete_tasks(self, ids: Sequence[UUID]) -> Steps[None]:
        """Delete rows of the live half."""
        yield from self.withdraw(ids)
        yield Call("delete_tasks", {"ids": list(ids)})

    def delete_side_rows(self, gone: Sequence[tuple[UUID, str, str | None]]) -> Steps[None]:
        """Delete what belongs to tasks of which no row is kept: `(id, alias, external id)` each."""
        if not gone:
            return
        yield from self.delete_attempt_rows([id_ for id_, _, _ in gone])
        yield from self.external_ids.delete([(alias, key, id_) for id_, alias, key in gone if key is not None])

    def delete_attempt_rows(self, ids: Sequence[UUID]) -> Steps[None]:
        """Delete the errors, progress and details of locked tasks."""
        for statement in ("delete_errors", "delete_progress", "delete_details"):
            yield Call(statement, {"ids": ids})
