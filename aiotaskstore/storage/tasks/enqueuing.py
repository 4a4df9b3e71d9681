"""New tasks are stored, those with an external id at most once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar
from uuid import UUID

from aiotaskstore.errors import DuplicateTaskError
from aiotaskstore.storage.external_ids import KeyedRow, Taken
from aiotaskstore.storage.faults import LockHeld
from aiotaskstore.storage.operation import BEGIN, Begin, Call, Steps
from aiotaskstore.storage.tasks.rows import TaskRows
from aiotaskstore.task import NewTask

Chosen = Mapping[UUID, NewTask]
"""Rows whose ids their callers chose, by these ids."""
NONE_CHOSEN: Chosen = MappingProxyType({})

HELD_AFTER = 0.1
"""Seconds that a batch of ours waits for the lock of an external id, or of a chosen id, until it counts as held."""


class Enqueuing(TaskRows):
    """The operations that store new tasks."""

    insert_takes_two: ClassVar[bool] = False
    """Whether this dialect's insert is more than one statement."""

    def enqueue(self, rows: Sequence[NewTask]) -> Steps[None]:
        """Store rows without external ids: all of them or none."""
        if rows and self.insert_takes_two:
            yield BEGIN
        if rows:
            yield from self.insert(rows)

    def enqueue_mixed(
        self,
        rows: Sequence[NewTask],
        keyed: Sequence[KeyedRow],
        returning: frozenset[UUID],
        *,
        chosen: Chosen = NONE_CHOSEN,
        joined: bool = False,
    ) -> Steps[Taken]:
        """Store rows of both kinds, all or none; return the existing ids for those whose external id is taken.

        Raises `DuplicateTaskError` for a taken one that is not among `returning`, and for a chosen id that a task has,
        unless its row is not stored for its external id. In a caller's transaction (`joined`) it waits for others that
        hold one of the external ids; on a connection of ours it is `LockHeld`.
        """
        if not keyed and not chosen:
            yield from self.enqueue(rows)
            return Taken({})
        yield Begin(HELD_AFTER)
        taken = yield from self.external_ids.take(keyed, joined=joined)
        if taken.held:
            raise LockHeld("somebody's open transaction holds one of these external ids")
        for one in (one.row for one in keyed if one.row.id in taken.owners and one.row.id not in returning):
            raise DuplicateTaskError(one.alias, one.external_id or "", taken.owners[one.id])
        stored = [*rows, *taken.free(keyed)]
        chosen = {row.id: row for row in stored if row.id in chosen}
        live_only = frozenset(one.row.id for one in keyed if one.live_only)
        again = yield from self._stored_before(chosen, live_only, joined=joined)
        for row in (chosen[id_] for id_ in again if id_ not in returning or chosen[id_].external_id is None):
            raise DuplicateTaskError(row.alias, row.external_id, row.id)
        if again:
            stored = [row for row in stored if row.id not in again]
        if stored:
            yield from self.insert(stored)
        yield from self._refuse_finished([id_ for id_ in chosen if id_ not in again], chosen)
        return Taken({**taken.owners, **{id_: id_ for id_ in again}})

    def enqueue_keyed(self, keyed: Sequence[KeyedRow]) -> Steps[Taken]:
        """Store rows whose external ids are free; return which are taken, and which are held by somebody."""
        yield Begin(HELD_AFTER)
        return (yield from self._insert_keyed(keyed, joined=False))

    def stored_among(self, ids: Sequence[UUID]) -> Steps[set[UUID]]:
        """Return which of these have a row."""
        rows = yield Call("stored_among", {"ids": list(ids)})
        return {self.database.uid(row[0]) for row in rows}

    def ids_in_use(self, ids: Sequence[UUID], *, joined: bool) -> Steps[set[UUID]]:  # noqa: ARG002 - for a dialect that sees the past
        """Return which of these chosen ids a task has, of what can be seen without waiting."""
        return (yield from self.stored_among(ids))

    def read_back(
        self, ids: Sequence[UUID], keyed: Sequence[KeyedRow], chosen: Chosen = NONE_CHOSEN
    ) -> Steps[Taken | None]:
        """Return what an insert has returned whose reply was lost, or `None` if nothing is stored.

        A chosen id may be that of somebody else's task; that one is told by its alias and payload.
        """
        stored = yield from self.stored_among(ids)
        if stored & chosen.keys():
            stored -= yield from self._of_others({id_: chosen[id_] for id_ in stored & chosen.keys()})
        if not stored:
            return None
        missing = [one for one in keyed if one.row.id not in stored]
        owners = (yield from self.external_ids.owners([one.key for one in missing])) if missing else {}
        held = frozenset(one.row.id for one in missing if one.key not in owners)
        return Taken({one.row.id: owners[one.key] for one in missing if one.key in owners}, held)

    def _stored_before(self, chosen: Chosen, live_only: frozenset[UUID], *, joined: bool) -> Steps[set[UUID]]:
        """Return the ids of rows that have their own external id already; refuse ids of other tasks."""
        if not chosen:
            return set()
        in_use = yield from self.ids_in_use(sorted(chosen), joined=joined)
        keyed = [chosen[id_] for id_ in sorted(in_use) if chosen[id_].external_id is not None]
        rows = (yield Call("external_ids_among", {"ids": [row.id for row in keyed]})) if keyed else ()
        own = {(self.database.uid(row[0]), row[1], row[2]): bool(row[3]) for row in rows}
        found = ((row.id, own.get((row.id, row.alias, row.external_id))) for row in keyed)
        again = {id_ for id_, is_live in found if is_live or (is_live is False and id_ not in live_only)}
        for row in (chosen[id_] for id_ in sorted(in_use - again)):
            raise DuplicateTaskError(row.alias, None, row.id)
        return again

    def _refuse_finished(self, ids: Sequence[UUID], chosen: Chosen) -> Steps[None]:
        """Refuse ids of tasks that were stored since we looked and have finished already."""
        if ids:
            rows = yield Call("history_among", {"ids": sorted(ids)})
            for row in (chosen[self.database.uid(row[0])] for row in rows):
                raise DuplicateTaskError(row.alias, None, row.id)

    def _of_others(self, chosen: Chosen) -> Steps[set[UUID]]:
        rows = yield Call("contents_among", {"ids": sorted(chosen)})
        return {
            id_
            for id_, alias, payload in ((self.database.uid(row[0]), row[1], row[2]) for row in rows)
            if alias != chosen[id_].alias
            or (payload is not None and json.loads(payload) != json.loads(chosen[id_].payload))
        }

    def _insert_keyed(self, keyed: Sequence[KeyedRow], *, joined: bool) -> Steps[Taken]:
        taken = yield from self.external_ids.take(keyed, joined=joined)
        free = taken.free(keyed)
        if free:
            yield from self.insert(free)
        return taken
