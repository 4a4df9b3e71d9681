"""A prepared task: the row that a draft becomes, every option resolved, not stored yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from aiotaskstore.carrier import Carriers
from aiotaskstore.definition import Draft
from aiotaskstore.events import TaskEnqueued
from aiotaskstore.inherited import NOT_INHERITED, Inherited
from aiotaskstore.mechanics.text import size_in_bytes
from aiotaskstore.options import DefinitionOptions, dump_metadata
from aiotaskstore.queue import DEFAULT_QUEUE, Queue
from aiotaskstore.retention import Retention
from aiotaskstore.storage.external_ids import KeyedRow
from aiotaskstore.storage.rows import ON_STUCK
from aiotaskstore.task import NewTask

_AT_ONCE = 0.000_000_001
"""Seconds of a delay that ends at once: shorter than the instants that a database tells apart."""


class PreparedTask(NamedTuple):
    """A row that may be stored, and what to do if its external id is taken."""

    row: NewTask
    live_only: bool
    returns: bool
    chosen: bool = False
    """Whether the caller chose the id, so that another task may have it already."""

    @property
    def due(self) -> bool:
        """Whether it may run as soon as it is stored."""
        return self.row.run_at is None and not self.row.delay

    @property
    def key(self) -> UUID:
        """What nobody else may store meanwhile, of a row with a chosen id."""
        return self.row.id

    @property
    def waits_for(self) -> str | None:
        """The serialization key that it may wait for as soon as it is stored; its `run_at` may be past."""
        return None if self.row.delay else self.row.serialization_key

    @property
    def placed_after_commit(self) -> PreparedTask:
        """The same, for a caller's transaction: with a serialization key it is scheduled, though due at once.

        So nobody else meets the row before the commit, and the promoter, which looks for what is due, finds it after.
        """
        if self.waits_for is None:
            return self
        return self._replace(row=self.row._replace(delay=_AT_ONCE))

    @property
    def keyed_row(self) -> KeyedRow:
        """The row, and for how long it wants its external id to be unique."""
        return KeyedRow(self.row, self.live_only)


def enqueued(row: NewTask, *, committed: bool = True) -> TaskEnqueued:
    """Return the event that tells of a row, which is stored, or will be once a caller's transaction commits."""
    return TaskEnqueued(row.id, row.alias, row.queue, size_in_bytes(row.payload), committed)


class Preparation:
    """Makes rows of drafts, with the defaults and the carriers of one store."""

    def __init__(self, queues: Mapping[str, Queue], retention: Retention, carriers: Carriers) -> None:
        self._queues, self._retention, self._carriers = queues, retention, carriers

    def prepare(
        self,
        draft: Draft[Any],
        task_id: UUID,
        defaults: DefinitionOptions,
        definition_id: UUID | None,
        inherited: Inherited = NOT_INHERITED,
    ) -> PreparedTask:
        """Resolve every option: the task's over the definition's over its queue's over the store's.

        `task_id` is for a draft whose caller chose none. Called in the context of whoever enqueues, for its carriers.
        """
        options = draft.options
        name = options.get("queue") or defaults.queue or DEFAULT_QUEUE
        queue = self._queues.get(name)
        owner = options.get("owner") or (None, None)
        retention = options.get("retention") or defaults.retention or (queue and queue.retention) or self._retention
        row = NewTask(
            id=options.get("id") or task_id,
            queue=name,
            alias=draft.alias,
            priority=options.get("priority", defaults.priority),
            run_at=options.get("run_at"),
            delay=options.get("delay"),
            payload=draft.payload,
            max_attempts=options.get("max_attempts") or defaults.max_attempts or (queue and queue.max_attempts) or 1,
            timeout=options.get("timeout") or defaults.timeout or (queue.timeout if queue else None),  # type: ignore[arg-type] # normalised to seconds
            on_stuck=ON_STUCK.index(defaults.on_stuck),
            owner_type=owner[0],
            owner_id=owner[1],
            source=options.get("source"),
            parent_id=inherited.parent_id,
            definition_id=definition_id,
            external_id=options.get("external_id"),
            serialization_key=options.get("serialization_key"),
            strict=options.get("serialization", defaults.serialization) == "strict",
            metadata=_metadata(inherited.metadata, options.get("metadata")),
            retention=retention.dump(),
        )
        return PreparedTask(
            self._carriers.capture(row) if self._carriers else row,
            live_only=options.get("unique_while") == "live",
            returns=options.get("on_conflict") == "return",
            chosen="id" in options,
        )


def _metadata(inherited: Mapping[str, Any], own: Mapping[str, Any] | None) -> str | None:
    return dump_metadata({**inherited, **(own or {})}) if inherited or own else None
