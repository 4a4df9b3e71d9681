"""The tasks that are stored: look, wait, cancel, retry, delete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload
from uuid import UUID

from aiotaskstore.duration import Duration, seconds
from aiotaskstore.errors import (
    InvalidQueryError,
    InvalidTransitionError,
    NotCancellableError,
    TaskNotFoundError,
)
from aiotaskstore.ids import as_id
from aiotaskstore.storage.listing import Listing, TaskFilters, matching, page, total
from aiotaskstore.storage.steps import Unit
from aiotaskstore.storage.tasks import MOST_ROWS, Answer
from aiotaskstore.task import Progress, Task, TaskStatus
from aiotaskstore.text import check_text

if TYPE_CHECKING:
    from aiotaskstore.manage.parts import Joined, Parts

_REASON_LIMIT = 10_000
_NO_ID = UUID(int=0)

Act = Callable[[Sequence[UUID]], Callable[[], Unit[dict[UUID, Answer]]]]
After = Callable[["Parts", dict[UUID, Answer], "Joined | None"], None]


class TaskManager:
    """`store.tasks`: actions take an id, or `where=` with the filters of `list` and then run in batches."""

    def __init__(self, parts: Callable[[], Parts], connection: Any = None) -> None:
        self._open, self._connection = parts, connection

    # ── questions ─────────────────────────────────────────────────────────────────────────────────────────

    async def get(self, task_id: UUID | str) -> Task | None:
        """Give a task; `None` where no row is kept."""
        listing = Listing.parse({"id": as_id(task_id), "include_deleted": True})
        parts, joined = self._here()
        found = await parts.read(lambda: page(parts.storage.tasks, listing), joined)
        return found[0] if found else None

    async def require(self, task_id: UUID | str) -> Task:
        """Give a task; raises `TaskNotFoundError` where no row is kept."""
        task = await self.get(task_id)
        if task is None:
            raise TaskNotFoundError(as_id(task_id))
        return task

    async def list(self, **filters: Unpack[TaskFilters]) -> Sequence[Task]:
        """List tasks, unfinished and finished, newest first unless told; raises `InvalidQueryError`."""
        listing = Listing.parse(filters)
        parts, joined = self._here()
        return await parts.read(lambda: page(parts.storage.tasks, listing), joined)

    async def count(self, **filters: Unpack[TaskFilters]) -> int:
        """Count tasks; order and page do not matter."""
        listing = Listing.parse(filters)
        parts, joined = self._here()
        return await parts.read(lambda: total(listing), joined)

    async def status(self, task_id: UUID | str) -> TaskStatus | None:
        """Give a task's status; `None` where no row is kept."""
        wanted = as_id(task_id)
        parts, joined = self._here()
        return await parts.read(lambda: parts.storage.tasks.status(wanted), joined)

    async def wait(self, task_id: UUID | str, timeout: Duration | None = None) -> Task:  # noqa: ASYNC109 - the public face
        """Wait until a task has finished, and give it.

        Raises `TimeoutError`, and `TaskNotFoundError` where no row is kept.
        """
        wanted = as_id(task_id)
        parts = self._open()
        limit = None if timeout is None else seconds(timeout, "timeout")
        async with asyncio.timeout(limit or None):  # a look is no wait: 0 gives what has finished already
            while True:
                task = await self.require(wanted)
                if task.status.finished:
                    return task
                if limit == 0:
                    raise TimeoutError
                await parts.waiting.until_finished(wanted)

    async def watch(self, task_id: UUID | str) -> AsyncIterator[Progress]:
        """Follow a task's progress until it ends; gives each state that a look finds, at `wait_interval`."""
        wanted = as_id(task_id)
        parts = self._open()
        tasks, seen = parts.storage.tasks, None
        while True:
            progress, status = await parts.read(lambda: tasks.progress(wanted), None)
            if progress is not None and progress != seen:
                seen = progress
                yield progress
            if status is None:
                raise TaskNotFoundError(wanted)
            if status.finished:
                return
            await asyncio.sleep(parts.settings.wait_interval)

    # ── actions ───────────────────────────────────────────────────────────────────────────────────────────

    @overload
    async def cancel(
        self, task_id: UUID | str, reason: str = "", *, strict: Literal[True] = True, force: bool = False
    ) -> Task: ...
    @overload
    async def cancel(
        self, task_id: UUID | str, reason: str = "", *, strict: bool, force: bool = False
    ) -> Task | Literal[False]: ...
    @overload
    async def cancel(self, *, where: TaskFilters, reason: str = "", force: bool = False) -> int: ...
    async def cancel(
        self,
        task_id: UUID | str | None = None,
        reason: str = "",
        *,
        where: TaskFilters | None = None,
        strict: bool = True,
        force: bool = False,
    ) -> Task | Literal[False] | int:
        """Cancel what has not finished.

        A running task is asked, in whatever process it runs, and ends as cancelled unless it succeeds all the
        same; `force` ends its row now and voids its claim. Raises `NotCancellableError` for a finished one
        (`strict=False` gives `False`), `TaskNotFoundError` where no row is kept.
        """
        why = check_text(reason, "reason", limit=_REASON_LIMIT)
        parts, _ = self._here()
        tasks = parts.storage.tasks

        def act(ids: Sequence[UUID]) -> Callable[[], Unit[dict[UUID, Answer]]]:
            return lambda: tasks.cancel(ids, why, force=force)

        if where is not None:
            _refuse_both(task_id)
            return await self._act_where(where, act, self._cancelled)
        wanted = _given(task_id)
        before = await self.require(wanted)
        answers = await self._act([wanted], act, self._cancelled)
        answer = answers.get(wanted)
        if answer is None:
            raise TaskNotFoundError(wanted)
        if not answer.done:
            if strict:
                raise NotCancellableError(wanted, str(answer.status))
            return False
        return await self.get(wanted) or before

    @overload
    async def retry(self, task_id: UUID | str, *, force: bool = False) -> Task: ...
    @overload
    async def retry(self, *, where: TaskFilters, force: bool = False) -> int: ...
    async def retry(
        self, task_id: UUID | str | None = None, *, where: TaskFilters | None = None, force: bool = False
    ) -> Task | int:
        """Run again from the start: no attempts made, due now.

        From any status but running; from succeeded only with `force`. Raises `InvalidTransitionError` otherwise,
        and where the payload was not kept; `TaskNotFoundError` where no row is kept.
        """
        parts, _ = self._here()
        tasks = parts.storage.tasks

        def act(ids: Sequence[UUID]) -> Callable[[], Unit[dict[UUID, Answer]]]:
            return lambda: tasks.retry(ids, force=force)

        if where is not None:
            _refuse_both(task_id)
            return await self._act_where(where, act, self._requeued)
        wanted = _given(task_id)
        answer = (await self._act([wanted], act, self._requeued)).get(wanted)
        if answer is None:
            raise TaskNotFoundError(wanted)
        if not answer.done:
            raise InvalidTransitionError(wanted, "retry", str(answer.status), _retry_hint(answer))
        return await self.require(wanted)

    @overload
    async def delete(self, task_id: UUID | str, *, force: bool = False) -> bool: ...
    @overload
    async def delete(self, *, where: TaskFilters, force: bool = False) -> int: ...
    async def delete(
        self, task_id: UUID | str | None = None, *, where: TaskFilters | None = None, force: bool = False
    ) -> bool | int:
        """Delete a task with all that stands beside it; false where no row is kept.

        A running one only with `force`, which voids its claim; else `InvalidTransitionError`.
        """
        parts, _ = self._here()
        tasks = parts.storage.tasks

        def act(ids: Sequence[UUID]) -> Callable[[], Unit[dict[UUID, Answer]]]:
            return lambda: tasks.delete(ids, force=force)

        if where is not None:
            _refuse_both(task_id)
            return await self._act_where(where, act, _nothing)
        wanted = _given(task_id)
        answer = (await self._act([wanted], act, _nothing)).get(wanted)
        if answer is not None and not answer.done:
            raise InvalidTransitionError(wanted, "delete", str(answer.status), "Cancel it first, or pass force=True.")
        return answer is not None

    # ── within ────────────────────────────────────────────────────────────────────────────────────────────

    def _here(self) -> tuple[Parts, Joined | None]:
        parts = self._open()
        return parts, parts.joined(self._connection)

    async def _act(self, ids: Sequence[UUID], act: Act, after: After) -> dict[UUID, Answer]:
        parts, joined = self._here()
        answers = await parts.write(act(ids), joined, then=parts.storage.database.notify_within(frozenset()))
        after(parts, answers, joined)
        return answers

    async def _act_where(
        self,
        where: TaskFilters,
        act: Act,
        after: After,
    ) -> int:
        """Act on every match, a batch at a time, each batch in a transaction of its own."""
        if not isinstance(where, Mapping):
            raise InvalidQueryError(f'where= takes filters, such as {{"queue": "emails"}}, not {where!r}.')
        paging = {"order_by", "descending", "offset", "after"} & where.keys()
        if paging:
            raise InvalidQueryError(f"where= chooses tasks; {', '.join(sorted(paging))} has no meaning there.")
        listing = Listing.parse(where)
        parts, joined = self._here()
        tasks, done, beyond, left = parts.storage.tasks, 0, _NO_ID, listing.limit
        while left is None or left > 0:
            most = MOST_ROWS if left is None else min(MOST_ROWS, left)
            ids = await parts.read(partial(matching, tasks, listing, most, beyond), joined)
            if not ids:
                break
            answers = await self._act(ids, act, after)
            done += sum(answer.done for answer in answers.values())
            beyond = ids[-1]
            left = None if left is None else left - len(ids)
        return done

    def _cancelled(self, parts: Parts, answers: dict[UUID, Answer], joined: Joined | None) -> None:
        running = any(answer.done and answer.status is TaskStatus.RUNNING for answer in answers.values())
        if joined is not None:
            joined.cancels |= running
            return
        if running:
            parts.waking.cancel_asked()

    def _requeued(self, parts: Parts, answers: dict[UUID, Answer], joined: Joined | None) -> None:
        if not any(answer.done for answer in answers.values()):
            return
        if joined is not None:
            joined.queues.add("")
        else:
            parts.waking.tell(frozenset())


def _nothing(_parts: Parts, _answers: dict[UUID, Answer], _joined: Joined | None) -> None:
    """Nobody needs to hear of a deletion."""


def _refuse_both(task_id: UUID | str | None) -> None:
    if task_id is not None:
        raise InvalidQueryError(f"Say which tasks by an id or where=, not both; the id is {task_id!r}.")


def _given(task_id: UUID | str | None) -> UUID:
    if task_id is None:
        raise InvalidQueryError("Say which task: an id, or where= with filters.")
    return as_id(task_id)


def _retry_hint(answer: Answer) -> str:
    if answer.payload_gone:
        return "Its retention did not keep the payload, so there is nothing to run it with."
    if answer.status is TaskStatus.SUCCEEDED:
        return "Pass force=True to run a succeeded task again."
    return "Wait for its end, or cancel it."
