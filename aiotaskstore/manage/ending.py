"""The calls of `store.tasks` that end tasks, run them again, or delete them."""

from __future__ import annotations

from typing import Any, Literal, overload
from uuid import UUID

from aiotaskstore.errors import InvalidTransitionError, NotCancellableError
from aiotaskstore.manage import actions
from aiotaskstore.manage.rescuing import rescue
from aiotaskstore.manage.stored_values import result_text
from aiotaskstore.manage.task_calls import REASON_LIMIT, TaskCalls, chosen_id
from aiotaskstore.mechanics.duration import Duration
from aiotaskstore.mechanics.flag import check_flag
from aiotaskstore.mechanics.text import check_text
from aiotaskstore.storage.filters import Where
from aiotaskstore.storage.transitions import Marked
from aiotaskstore.task import Task

_MARKED = "marked as failed"
"""The error of a task of which no reason is given."""


class Ending(TaskCalls):
    """Ends tasks, runs them again, or deletes them."""

    @overload
    async def cancel(
        self, id: UUID | str, reason: str = "", *, strict: Literal[True] = True, force: bool = False
    ) -> Task: ...
    @overload
    async def cancel(
        self, id: UUID | str, reason: str = "", *, strict: bool, force: bool = False
    ) -> Task | Literal[False]: ...
    @overload
    async def cancel(self, *, where: Where, reason: str = "", strict: bool = True, force: bool = False) -> int: ...
    async def cancel(
        self,
        id: UUID | str | None = None,
        reason: str = "",
        *,
        where: Where | None = None,
        strict: bool = True,
        force: bool = False,
    ) -> Task | Literal[False] | int:
        """Cancel what has not finished.

        A running task is requested to end, in whatever process it runs, and ends as cancelled unless it succeeds all
        the same; `force` ends its row now and voids its claim. Raises `NotCancellableError` for a finished one
        (with `strict=False` returns `False`), `TaskNotFoundError` where no row is kept. With `where=` finished ones are
        skipped, whatever `strict` says.
        """
        check_flag(strict, "strict")
        action = actions.cancel(check_text(reason, "reason", limit=REASON_LIMIT), force=check_flag(force, "force"))
        try:
            return await self._act(id, where, action)
        except InvalidTransitionError as error:
            if not strict:
                return False
            raise NotCancellableError(error.task_id, error.status) from None

    @overload
    async def retry(self, id: UUID | str, *, force: bool = False) -> Task: ...
    @overload
    async def retry(self, *, where: Where, force: bool = False) -> int: ...
    async def retry(
        self, id: UUID | str | None = None, *, where: Where | None = None, force: bool = False
    ) -> Task | int:
        """Run again from the start: no attempts made, due now.

        From any status but running; from succeeded only with `force`. Raises `InvalidTransitionError` otherwise,
        and where the payload was not kept; `DuplicateTaskError` where another task has its external id by now;
        `TaskNotFoundError` where no row is kept. With `where=` those are skipped.
        """
        return await self._act(id, where, actions.retry(force=check_flag(force, "force")))

    @overload
    async def delete(self, id: UUID | str, *, force: bool = False) -> bool: ...
    @overload
    async def delete(self, *, where: Where, force: bool = False) -> int: ...
    async def delete(
        self, id: UUID | str | None = None, *, where: Where | None = None, force: bool = False
    ) -> bool | int:
        """Delete a task with its errors, progress and details; returns false where no row is kept.

        A soft-deleted one too. A running one only with `force`, which voids its claim; else `InvalidTransitionError`,
        or with `where=` it is skipped.
        """
        action = actions.delete(force=check_flag(force, "force"))
        wanted = chosen_id(id, where)
        if wanted is None:
            return await self._actions.on_matching(where, action)
        result = await self._actions.result_on_one(wanted, action)
        if result is not None and not result.done:
            raise InvalidTransitionError(wanted, action.move, str(result.status), action.refusal(result))
        return result is not None

    @overload
    async def mark_succeeded(self, id: UUID | str, result: Any = None) -> Task: ...
    @overload
    async def mark_succeeded(self, *, where: Where, result: Any = None) -> int: ...
    async def mark_succeeded(
        self, id: UUID | str | None = None, result: Any = None, *, where: Where | None = None
    ) -> Task | int:
        """End a task as succeeded, whatever its handler does; its claim is voided.

        From any status but cancelled, else `InvalidTransitionError`; with `where=` cancelled ones are skipped. One that
        has succeeded keeps its result unless another is given. Raises `PayloadError` where `result` cannot be stored,
        or is not what the handler declares to return; `TaskNotFoundError` where no row is kept.
        """
        wanted = chosen_id(id, where)
        ends: dict[str | None, Marked] = {None: Marked(succeeded=True, text=None)}
        if result is not None:
            store, aliases = self._require_open(), await self._actions.aliases_of(wanted, where)
            limit = store.settings.payload_limit
            texts = {alias: result_text(store.registry, alias, result, limit) for alias in aliases}
            ends = {alias: Marked(succeeded=True, text=text) for alias, text in texts.items()}
        return await self._act(id, where, actions.mark(ends, succeeded=True))

    @overload
    async def mark_failed(self, id: UUID | str, reason: str = "") -> Task: ...
    @overload
    async def mark_failed(self, *, where: Where, reason: str = "") -> int: ...
    async def mark_failed(
        self, id: UUID | str | None = None, reason: str = "", *, where: Where | None = None
    ) -> Task | int:
        """End a task as failed, `reason` being its error; no attempt follows.

        From any status but succeeded and cancelled, else `InvalidTransitionError`; with `where=` those are skipped. If
        its handler is running and succeeds all the same before anybody has claimed the task again, that counts.
        """
        error = check_text(reason, "reason", limit=REASON_LIMIT) or _MARKED
        return await self._act(id, where, actions.mark({None: Marked(succeeded=False, text=error)}, succeeded=False))

    async def rescue(self, queue: str | None = None, older_than: Duration | None = None) -> int:
        """End the runs of dead dispatchers now, of one queue or of all, each as its `on_stuck` says; return how many.

        A dispatcher is dead that has sent no heartbeat for as long as its lease. With `older_than`, every run that has
        lasted so long is ended, whether its dispatcher lives or not: such a handler is cancelled at its dispatcher's
        next heartbeat, and until then a second attempt may run beside it; if it succeeds before that, the success
        counts. Tasks that are locked by somebody's transaction are left alone. Dispatchers do the same by themselves
        for the dead.
        """
        return await rescue(self._require_open(), self._connection, queue, older_than)
