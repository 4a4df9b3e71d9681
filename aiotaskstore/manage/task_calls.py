"""What the calls of `store.tasks` have in common: which tasks are meant, on which connection."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from aiotaskstore.errors import InvalidQueryError
from aiotaskstore.manage.acting import Actions
from aiotaskstore.manage.actions import Action
from aiotaskstore.manage.open_store import OpenStore
from aiotaskstore.mechanics.ids import require_id
from aiotaskstore.storage.operation import Steps, T
from aiotaskstore.storage.tasks import Tasks
from aiotaskstore.task import Task

REASON_LIMIT = 10_000
"""Characters of a reason."""


class TaskCalls:
    """Calls on stored tasks, on the caller's connection if one is given."""

    def __init__(self, require_open: Callable[[], OpenStore], connection: Any = None) -> None:
        self._require_open, self._connection = require_open, connection
        self._actions = Actions(require_open, connection)

    async def _act(self, task_id: UUID | str | None, where: object, action: Action) -> Task | int:
        """Act on one task, and return it as it is then; or on all that match, and return how many were changed."""
        wanted = chosen_id(task_id, where)
        if wanted is None:
            return await self._actions.on_matching(where, action)
        return (await self._actions.on_one(wanted, action))[1]

    async def _read(self, operation: Callable[[Tasks], Steps[T]]) -> T:
        store = self._require_open()
        return await store.calls.read(partial(operation, store.storage.tasks), store.calls.joined(self._connection))


def chosen_id(task_id: UUID | str | None, where: object) -> UUID | None:
    """Return which task is meant; `None` where filters choose."""
    if task_id is not None and where is not None:
        raise InvalidQueryError(f"Say which tasks by an id or where=, not both; the id is {task_id!r:.100}.")
    if where is not None:
        return None
    if task_id is None:
        raise InvalidQueryError('Say which task: an id, or where= with filters, or where="all".')
    return require_id(task_id)
