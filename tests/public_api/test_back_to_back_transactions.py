"""On SQLite only one may write at a time: handlers whose transactions follow one another keep nobody else out."""

from __future__ import annotations

import asyncio

import pytest

from aiotaskstore import BackgroundFailed, ClaimLost, TaskContext, TaskRescued, TaskRetried, TaskStore
from aiotaskstore.events import Event
from tests.helpers import LIMIT

TRANSACTIONS, AT_ONCE = 30, 20
HOLDS = 0.2
"""Seconds that each keeps the write lock."""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("where", ["file", "memory"])
async def test_transactions_back_to_back_keep_no_heartbeat_no_outcome_and_no_enqueue_out(where: str, sqlite_url: str):
    """Told by how many of them pass meanwhile, which no slow machine changes."""
    heartbeats: list[int] = []
    told: list[Event] = []
    waited: list[int] = []
    over = False
    async with TaskStore(sqlite_url if where == "file" else "sqlite://", transaction_timeout=LIMIT) as store:
        for kind in (BackgroundFailed, ClaimLost, TaskRescued, TaskRetried):
            store.on(kind, told.append)

        @store.task
        async def locks(context: TaskContext) -> None:
            async with context.transaction() as connection:
                cursor = await connection.execute("SELECT heartbeat_at FROM aiotaskstore_dispatchers")
                rows = await cursor.fetchall()
                heartbeats.append(next(iter(rows))[0])
                await asyncio.sleep(HOLDS)

        @store.task(queue="quick")
        async def quick() -> str:
            return "done"

        async def others() -> None:
            while not over:
                before = len(heartbeats)
                handle = await quick.enqueue()
                waited.append(len(heartbeats) - before)
                before = len(heartbeats)
                assert await handle.result(timeout=LIMIT) == "done"
                waited.append(len(heartbeats) - before)

        ids = await store.enqueue_many([locks.draft() for _ in range(TRANSACTIONS)])
        queues = {"default": AT_ONCE, "quick": 2}
        async with store.dispatcher(queues=queues, heartbeat=0.5, lease=4 * LIMIT), asyncio.TaskGroup() as group:
            group.create_task(others())
            for one in ids:
                await store.handle(one).result(timeout=LIMIT)
            over = True
    assert told == []
    assert len(heartbeats) == TRANSACTIONS, "each ran once"
    # One is due 0.5 s after the one before, which is once in three transactions of 0.2 s.
    assert len(set(heartbeats)) > TRANSACTIONS / 8, "heartbeats come in between"
    assert max(waited) < AT_ONCE / 2, "in turn, and not behind all that wait"
