"""What each action of `store.tasks` does to a task of each status: the table of docs/lifecycle.md, cell by cell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from aiotaskstore import InvalidTransitionError, NotCancellableError, Task, TaskNotFoundError, TaskStatus, TaskStore
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.storage.rows import CODES
from tests.helpers import change

NO = InvalidTransitionError
ENDED = NotCancellableError
GONE = None

Cell = str | type[Exception] | None
Act = Callable[[TaskStore, UUID], Awaitable[Any]]

ACTS: dict[str, Act] = {
    "cancel": lambda store, id_: store.tasks.cancel(id_, "why"),
    "cancel by force": lambda store, id_: store.tasks.cancel(id_, "why", force=True),
    "pause": lambda store, id_: store.tasks.pause(id_),
    "resume": lambda store, id_: store.tasks.resume(id_),
    "reschedule to later": lambda store, id_: store.tasks.reschedule(id_, delay=3600),
    "reschedule to now": lambda store, id_: store.tasks.reschedule(id_, delay=0),
    "update": lambda store, id_: store.tasks.update(id_, priority=7),
    "retry": lambda store, id_: store.tasks.retry(id_),
    "retry by force": lambda store, id_: store.tasks.retry(id_, force=True),
    "clone": lambda store, id_: store.tasks.clone(id_),
    "mark_succeeded": lambda store, id_: store.tasks.mark_succeeded(id_, "so"),
    "mark_failed": lambda store, id_: store.tasks.mark_failed(id_, "so"),
    "soft_delete": lambda store, id_: store.tasks.soft_delete(id_),
    "restore": lambda store, id_: store.tasks.restore(id_),
    "delete": lambda store, id_: store.tasks.delete(id_),
    "delete by force": lambda store, id_: store.tasks.delete(id_, force=True),
}
S, P, R, A = "scheduled", "pending", "running", "paused"
OK, F, C, I = "succeeded", "failed", "cancelled", "interrupted"  # noqa: E741 - a letter a column
SAME = "the same"
TABLE: dict[str, tuple[Cell, ...]] = {
    #                       scheduled pending waiting running paused succeeded failed cancelled interrupted
    "cancel":              (C,        C,      C,      R,      C,     ENDED,    ENDED, ENDED,    ENDED),
    "cancel by force":     (C,        C,      C,      C,      C,     ENDED,    ENDED, ENDED,    ENDED),
    "pause":               (A,        A,      A,      NO,     NO,    NO,       NO,    NO,       NO),
    "resume":              (NO,       NO,     NO,     NO,     P,     NO,       NO,    NO,       NO),
    "reschedule to later": (S,        S,      S,      NO,     A,     NO,       NO,    NO,       NO),
    "reschedule to now":   (P,        P,      P,      NO,     A,     NO,       NO,    NO,       NO),
    "update":              (SAME,     SAME,   SAME,   NO,     SAME,  SAME,     SAME,  SAME,     SAME),
    "retry":               (P,        P,      P,      NO,     P,     NO,       P,     P,        P),
    "retry by force":      (P,        P,      P,      NO,     P,     P,        P,     P,        P),
    "clone":               (SAME,     SAME,   SAME,   SAME,   SAME,  SAME,     SAME,  SAME,     SAME),
    "mark_succeeded":      (OK,       OK,     OK,     OK,     OK,    OK,       OK,    NO,       OK),
    "mark_failed":         (F,        F,      F,      F,      F,     NO,       F,     NO,       F),
    "soft_delete":         (SAME,     SAME,   SAME,   SAME,   SAME,  SAME,     SAME,  SAME,     SAME),
    "restore":             (SAME,     SAME,   SAME,   SAME,   SAME,  SAME,     SAME,  SAME,     SAME),
    "delete":              (GONE,     GONE,   GONE,   NO,     GONE,  GONE,     GONE,  GONE,     GONE),
    "delete by force":     (GONE,     GONE,   GONE,   GONE,   GONE,  GONE,     GONE,  GONE,     GONE),
}  # fmt: skip


@pytest.mark.acceptance("A12", "A21", "A94", "A95", "A103")
async def test_every_action_does_to_every_status_what_the_table_says(store: TaskStore):
    for column, status in enumerate(TaskStatus):
        tasks = await brought_to(store, status, len(ACTS))
        for (name, act), before in zip(ACTS.items(), tasks, strict=True):
            cell = TABLE[name][column]
            where = f"{name} of a {status} task"
            if isinstance(cell, type):
                with pytest.raises(cell, match=str(status)) as caught:
                    await act(store, before.id)
                assert type(caught.value) is cell, where
                assert await shown(store, before.id) == before, f"{where} was refused, and changed it"
                continue
            answer = await act(store, before.id)
            after = await shown(store, before.id)
            if cell is GONE:
                assert (answer, after) == (True, None), where
                continue
            assert after is not None
            assert after.status == (status if cell == SAME else cell), where
            assert after.status.finished == (after.finished_at is not None), where
            if name != "clone":
                assert answer == after, f"{where} returned something else than the new value"
        await store.tasks.delete(where={"alias": ["work"], "include_deleted": True}, force=True)


@pytest.mark.acceptance("A103")
async def test_every_action_in_a_transaction_that_is_rolled_back_changed_nothing(store: TaskStore):
    for column, status in enumerate(TaskStatus):
        tasks = await brought_to(store, status, len(ACTS))
        each = zip(ACTS.items(), tasks, strict=True)
        done = [(act, task) for (name, act), task in each if not isinstance(TABLE[name][column], type)]
        with pytest.raises(ZeroDivisionError):
            async with store.transaction():
                for act, task in done:
                    await act(store, task.id)
                raise ZeroDivisionError
        assert [await shown(store, task.id) for task in tasks] == tasks
        assert await store.tasks.count(include_deleted=True) == len(tasks), "a clone was stored"
        await store.tasks.delete(where="all", force=True)


@pytest.mark.acceptance("A77")
async def test_an_unknown_id_is_not_found_by_any_action(store: TaskStore):
    unknown = new_id()
    for name, act in ACTS.items():
        if name.startswith("delete"):
            assert await act(store, unknown) is False
        else:
            with pytest.raises(TaskNotFoundError, match=str(unknown)):
                await act(store, unknown)


async def brought_to(store: TaskStore, status: TaskStatus, count: int) -> list[Task]:
    """Make so many tasks of a status."""
    options: dict[str, Any] = {"delay": 3600} if status is TaskStatus.SCHEDULED else {}
    draft = store.draft("work", {"n": 1}, unchecked=True, **options)
    ids = await store.enqueue_many([draft] * count)
    every: Any = {"id_in": ids}
    opened = store._require_open().storage
    match status:
        case TaskStatus.SCHEDULED | TaskStatus.PENDING:
            pass
        case TaskStatus.PAUSED:
            assert await store.tasks.pause(where=every) == count
        case TaskStatus.WAITING:
            assert await store.tasks.pause(where=every) == count
            sql = "UPDATE aiotaskstore_tasks SET status = :status WHERE id IN :ids"
            await change(opened.database, sql, status=CODES[status], ids=ids)
        case TaskStatus.CANCELLED:
            assert await store.tasks.cancel(where=every, reason="enough") == count
        case TaskStatus.SUCCEEDED:
            assert await store.tasks.mark_succeeded(where=every) == count
        case TaskStatus.FAILED:
            assert await store.tasks.mark_failed(where=every) == count
        case _:
            claims = await opened.database.write(lambda: opened.tasks.claim(new_id(), [("default", count)], ["work"]))
            assert len(claims) == count
            if status is TaskStatus.INTERRUPTED:
                sql = "UPDATE aiotaskstore_tasks SET on_stuck = 2 WHERE id IN :ids"
                await change(opened.database, sql, ids=ids)
                assert await store.tasks.rescue() == count
    found = {task.id: task for task in await store.tasks.list(id_in=ids)}
    assert {task.status for task in found.values()} == {status}
    return [found[task_id] for task_id in ids]


async def shown(store: TaskStore, task_id: UUID) -> Task | None:
    """Return a task, also where it is soft-deleted."""
    found = await store.tasks.list(id=task_id, include_deleted=True)
    return found[0] if found else None
