"""What an operator changes in a task's own values, and new tasks made of old ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from aiotaskstore.mechanics.text import size_in_bytes
from aiotaskstore.metadata import keeping_carried
from aiotaskstore.storage.operation import BEGIN, Call, Row, Steps
from aiotaskstore.storage.rows import STATUSES
from aiotaskstore.storage.tasks.both_halves import ActionResult, BothHalves, Copied, LockedRows, Still
from aiotaskstore.storage.tasks.rows import NEW_TASK
from aiotaskstore.storage.transitions import RUNNING, LockedRow
from aiotaskstore.task import NewTask

_COPIED_AT_ONCE = 50
"""Rows that are copied together; each may weigh megabytes."""
_NOT_COPIED = frozenset({"run_at", "delay", "external_id"})
_COPIED = tuple(name for name in NEW_TASK if name not in _NOT_COPIED)
"""The columns of the list `copied`."""

Payloads = Mapping[str, str]
"""A payload as JSON text for the tasks of each alias; those of other aliases are left alone."""


class Changes(NamedTuple):
    """What an update writes; what is `None` stays as it is."""

    queue: str | None = None
    priority: int | None = None
    metadata: str | None = None
    max_attempts: int | None = None
    timeout: float | None = None
    keep_timeout: bool = True
    """Whether the timeout stays as it is; else `None` means without one."""


class Changing(BothHalves):
    """The operations on a task's own values: each returns an `ActionResult` a task."""

    def update(
        self, ids: Sequence[UUID], changes: Changes, payloads: Payloads | None, *, still: Still | None = None
    ) -> Steps[dict[UUID, ActionResult]]:
        """Write these values, and no others, of tasks that do not run; with another payload, no late success counts."""
        yield BEGIN
        values = {**changes._asdict(), "void": int(payloads is not None)}
        rows = yield from self.lock_both(ids, still)
        live = [row for row in rows.live.values() if row.status != RUNNING]
        done: list[UUID] = []
        for payload, some in _by_payload(live, payloads):
            yield from self.withdraw(some)
            for metadata, alike in (yield from self._by_metadata("metadata_live", some, changes.metadata)):
                yield Call("update_tasks", {**values, "ids": alike, "payload": payload, "metadata": metadata})
            yield from self.offer(some)
            done += some
        for payload, some in _by_payload((one.row for one in rows.finished.values()), payloads):
            for metadata, alike in (yield from self._by_metadata("metadata_finished", some, changes.metadata)):
                yield Call("update_history", {**values, "ids": alike, "payload": payload, "metadata": metadata})
            done += some
        return rows.results(done)

    def _by_metadata(
        self, statement: str, ids: Sequence[UUID], metadata: str | None
    ) -> Steps[list[tuple[str | None, Sequence[UUID]]]]:
        """Group locked rows by the metadata that they get: what carriers have captured stays with each task."""
        if metadata is None:
            return [(None, ids)]
        found = yield Call(statement, {"ids": ids})
        alike: dict[str | None, list[UUID]] = {}
        for id_, stored in found:
            alike.setdefault(keeping_carried(stored, metadata), []).append(self.database.uid(id_))
        return list(alike.items())

    def clone(
        self,
        new_ids: Mapping[UUID, UUID],
        queue: str | None,
        payloads: Payloads | None,
        *,
        without: Collection[str] = (),
        still: Still | None = None,
    ) -> Steps[dict[UUID, ActionResult]]:
        """Store a new task, due at once, for each of these, under the id given for it; without external ids.

        `without` tasks of these aliases.
        """
        yield BEGIN
        rows = yield from self.lock_both(list(new_ids), still)
        results = _copies_made_of(rows, payloads, without)
        for statement, half in (("copy_live", rows.live), ("copy_finished", rows.finished)):
            chosen = [id_ for id_ in half if results[id_].done]
            for start in range(0, len(chosen), _COPIED_AT_ONCE):
                found = yield Call(statement, {"ids": chosen[start : start + _COPIED_AT_ONCE]})
                copies = {self.database.uid(row[0]): self._copy(row, new_ids, queue, payloads) for row in found}
                yield from self.insert(list(copies.values()))
                for id_, copy in copies.items():
                    size = size_in_bytes(copy.payload)
                    results[id_] = results[id_]._replace(copied=Copied(copy.id, copy.alias, copy.queue, size))
        return results

    def _copy(self, row: Row, new_ids: Mapping[UUID, UUID], queue: str | None, payloads: Payloads | None) -> NewTask:
        values = dict(zip(_COPIED, row, strict=True)) | dict.fromkeys(_NOT_COPIED)
        values |= {
            "id": new_ids[self.database.uid(values["id"])],
            "parent_id": self.database.maybe_uid(values["parent_id"]),
            "definition_id": self.database.maybe_uid(values["definition_id"]),
            "strict": bool(values["strict"]),
            "queue": queue or values["queue"],
        }
        if payloads is not None:
            values["payload"] = payloads[str(values["alias"])]
        return NewTask(**values)


def _copies_made_of(rows: LockedRows, payloads: Payloads | None, without: Collection[str]) -> dict[UUID, ActionResult]:
    """Say of which of these tasks a copy can be made: for one whose payload was not kept, a payload must be given."""
    results = {}
    for id_, row in rows.every.items():
        gone = id_ in rows.finished and rows.finished[id_].payload_gone
        done = row.alias not in without and (not gone if payloads is None else row.alias in payloads)
        results[id_] = ActionResult(
            STATUSES[row.status], done, payload_gone=gone, serialization_key=row.serialization_key
        )
    return results


def _by_payload(rows: Iterable[LockedRow], payloads: Payloads | None) -> Iterator[tuple[str | None, list[UUID]]]:
    """Group rows by the payload that they get; with `None` they keep their own."""
    if payloads is None:
        if ids := [row.id for row in rows]:
            yield None, ids
        return
    by_alias: dict[str, list[UUID]] = {}
    for row in rows:
        by_alias.setdefault(row.alias, []).append(row.id)
    for alias, ids in by_alias.items():
        if alias in payloads:
            yield payloads[alias], ids
