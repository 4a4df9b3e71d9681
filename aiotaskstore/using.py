"""A store on the caller's connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack
from uuid import UUID

from aiotaskstore.definition import Draft
from aiotaskstore.handle import TaskHandle
from aiotaskstore.options import TaskOptions

if TYPE_CHECKING:
    from aiotaskstore.manage.tasks import TaskManager

R = TypeVar("R")


class DraftingStore(Protocol):
    """The calls of the store that are needed here."""

    def draft(
        self,
        alias: str,
        payload: Mapping[str, Any] | None = None,
        *,
        unchecked: bool = False,
        **options: Unpack[TaskOptions],
    ) -> Draft[Any]:
        """Draft a task by alias."""

    async def enqueue_draft(self, draft: Draft[R], connection: Any) -> TaskHandle[R]:
        """Store a draft on this connection."""

    async def enqueue_drafts(self, drafts: Sequence[Draft[Any]], connection: Any) -> list[UUID]:
        """Store drafts on this connection, all or none."""


class StoreOnConnection:
    """A store on the caller's connection: the caller's transaction commits the tasks that are enqueued here."""

    def __init__(self, store: DraftingStore, tasks: TaskManager, connection: Any) -> None:
        self._store, self._connection = store, connection
        self.tasks = tasks
        """The stored tasks, as this transaction sees them."""

    async def enqueue(
        self,
        alias: str,
        payload: Mapping[str, Any] | None = None,
        *,
        unchecked: bool = False,
        **options: Unpack[TaskOptions],
    ) -> TaskHandle[Any]:
        """Store a task by alias in the caller's transaction."""
        draft = self._store.draft(alias, payload, unchecked=unchecked, **options)
        return await self._store.enqueue_draft(draft, self._connection)

    async def enqueue_many(self, drafts: Sequence[Draft[Any]]) -> list[UUID]:
        """Store drafts in the caller's transaction; return their ids in order."""
        return await self._store.enqueue_drafts(drafts, self._connection)

    def draft(
        self,
        alias: str,
        payload: Mapping[str, Any] | None = None,
        *,
        unchecked: bool = False,
        **options: Unpack[TaskOptions],
    ) -> Draft[Any]:
        """Draft a task by alias."""
        return self._store.draft(alias, payload, unchecked=unchecked, **options)
