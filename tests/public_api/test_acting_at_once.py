"""Operators who act at once, on tasks that run meanwhile: each action is done whole or refused, no task is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

from aiotaskstore import InvalidTransitionError, NotCancellableError, TaskNotFoundError, TaskStatus, TaskStore
from tests.helpers import LIMIT, change, eventually

TASKS, ACTORS, MOVES = 40, 6, 25
REFUSALS = (InvalidTransitionError, NotCancellableError, TaskNotFoundError)

Act = Callable[[TaskStore, UUID], Awaitable[Any]]
ACTS: list[Act] = [
    lambda store, id_: store.tasks.pause(id_),
    lambda store, id_: store.tasks.resume(id_),
    lambda store, id_: store.tasks.reschedule(id_, delay=0),
    lambda store, id_: store.tasks.reschedule(id_, delay=0.02),
    lambda store, id_: store.tasks.update(id_, priority=id_.int % 3, metadata={"by": str(id_)}),
    lambda store, id_: store.tasks.retry(id_, force=True),
    lambda store, id_: store.tasks.cancel(id_, "why"),
    lambda store, id_: store.tasks.cancel(id_, "why", force=True),
    lambda store, id_: store.tasks.mark_failed(id_, "why"),
    lambda store, id_: store.tasks.mark_succeeded(id_),
    lambda store, id_: store.tasks.soft_delete(id_),
    lambda store, id_: store.tasks.restore(id_),
    lambda store, _: store.tasks.pause(where={"status": "pending", "limit": 5}),
    lambda store, _: store.tasks.resume(where={"alias": "work", "limit": 10}),
    lambda store, _: store.tasks.retry(where={"status": ["failed", "cancelled"], "limit": 10}),
    lambda store, _: store.tasks.update(where={"alias": "work", "limit": 20}, priority=1),
    lambda store, _: store.tasks.restore(where="all"),
]


async def test_whoever_acts_at_once_no_task_is_lost_or_left_where_nobody_finds_it(store: TaskStore):
    @store.task(max_attempts=3, backoff=0, serialization_key=lambda n: f"key {n % 7}" if n % 2 else None)
    async def work(n: int) -> int:
        if n % 3 == 0:
            await asyncio.sleep(0)
            raise ValueError(n)
        return n

    async def act(seed: int) -> None:
        chosen = random.Random(seed)
        for _ in range(MOVES):
            with suppress(*REFUSALS):
                await chosen.choice(ACTS)(store, chosen.choice(ids))

    async with store.dispatcher(concurrency=5), store.dispatcher(concurrency=5):
        ids = await store.enqueue_many([work.draft(n) for n in range(TASKS)])
        async with asyncio.TaskGroup() as group:
            for seed in range(ACTORS):
                group.create_task(act(seed))
        await store.tasks.restore(where="all")
        await store.tasks.resume(where={"alias": "work"})
        finished: Any = {"status": [status for status in TaskStatus if status.finished]}
        await eventually(lambda: _all_finished(store, finished), limit=LIMIT)
    tasks = await store.tasks.list(include_deleted=True)
    assert sorted(task.id for task in tasks) == sorted(ids), "one of them is there twice, or not at all"
    database = store._require_open().storage.database
    assert (await change(database, "SELECT count(*) FROM aiotaskstore_tasks"))[0][0] == 0
    if database.kind == "mysql":
        assert (await change(database, "SELECT count(*) FROM aiotaskstore_ready"))[0][0] == 0


async def _all_finished(store: TaskStore, finished: Any) -> bool:
    return await store.tasks.count(**finished) == TASKS
