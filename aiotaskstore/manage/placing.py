"""The calls of `store.tasks` that say when tasks run, or whether anybody sees them."""

from __future__ import annotations

from datetime import datetime
from typing import overload
from uuid import UUID

from aiotaskstore.errors import ConfigurationError
from aiotaskstore.manage import actions
from aiotaskstore.manage.task_calls import TaskCalls, chosen_id
from aiotaskstore.mechanics.duration import Duration, seconds
from aiotaskstore.options import check_due
from aiotaskstore.storage.filters import Where
from aiotaskstore.task import Task


class Placing(TaskCalls):
    """Sets tasks aside, gives them another due time, hides them; what may run then is placed by the one rule."""

    @overload
    async def pause(self, id: UUID | str) -> Task: ...
    @overload
    async def pause(self, *, where: Where) -> int: ...
    async def pause(self, id: UUID | str | None = None, *, where: Where | None = None) -> Task | int:
        """Set a task aside until it is resumed; its serialization key is free meanwhile.

        From scheduled, pending and waiting, else `InvalidTransitionError`; `TaskNotFoundError` where no row is kept.
        With `where=` others are skipped.
        """
        return await self._act(id, where, actions.pause())

    @overload
    async def resume(self, id: UUID | str) -> Task: ...
    @overload
    async def resume(self, *, where: Where) -> int: ...
    async def resume(self, id: UUID | str | None = None, *, where: Where | None = None) -> Task | int:
        """Let a paused task run again, at its due time and in its old place.

        Raises `InvalidTransitionError` for one that is not paused, `TaskNotFoundError` where no row is kept. With
        `where=` others are skipped.
        """
        return await self._act(id, where, actions.resume())

    @overload
    async def reschedule(
        self, id: UUID | str, run_at: datetime | None = None, *, delay: Duration | None = None
    ) -> Task: ...
    @overload
    async def reschedule(
        self, *, where: Where, run_at: datetime | None = None, delay: Duration | None = None
    ) -> int: ...
    async def reschedule(
        self,
        id: UUID | str | None = None,
        run_at: datetime | None = None,
        *,
        where: Where | None = None,
        delay: Duration | None = None,
    ) -> Task | int:
        """Give a task another due time: `run_at`, or `delay` from now by the database's clock.

        From scheduled, pending, waiting and paused, which stays paused; else `InvalidTransitionError`.
        `TaskNotFoundError` where no row is kept. With `where=` others are skipped.
        """
        instant = None if run_at is None else check_due(run_at, "run_at")
        span = None if delay is None else seconds(delay, "delay")
        if (instant is None) == (span is None):
            raise ConfigurationError(
                "Say when the task is due: by run_at=, an instant, or by delay=, a time from now; one of them."
            )
        return await self._act(id, where, actions.reschedule(instant, span))

    @overload
    async def soft_delete(self, id: UUID | str) -> Task: ...
    @overload
    async def soft_delete(self, *, where: Where) -> int: ...
    async def soft_delete(self, id: UUID | str | None = None, *, where: Where | None = None) -> Task | int:
        """Hide a task from every call but `delete` and `restore`, and from dispatchers; its status stays.

        One that is running goes on, and its end is recorded. A list shows it if told `include_deleted=True`. Nothing
        happens to one that is hidden already. Raises `TaskNotFoundError` where no row is kept.
        """
        return await self._act(id, where, actions.soft_delete())

    @overload
    async def restore(self, id: UUID | str) -> Task: ...
    @overload
    async def restore(self, *, where: Where) -> int: ...
    async def restore(self, id: UUID | str | None = None, *, where: Where | None = None) -> Task | int:
        """Undo a soft delete; what waited to run is placed by its due time. With `where=`, of soft-deleted tasks.

        Nothing happens to one that is not soft-deleted. Raises `TaskNotFoundError` where no row is kept.
        """
        if chosen_id(id, where) is None:
            return await self._actions.on_matching(where, actions.restore(), deleted=True)
        return await self._act(id, where, actions.restore())
