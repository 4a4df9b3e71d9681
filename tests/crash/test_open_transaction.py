"""A caller's transaction stays open for long: whatever it did in it, nobody else waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiotaskstore import TaskStore
from tests.crash.crew import SHORT
from tests.crash.handlers import handlers
from tests.crash.ledger import Ledger
from tests.crash.transactions import rolled_back

pytestmark = pytest.mark.timeout(60)

PATIENCE = 4
"""Less than MySQL's wait for a lock, so that a stall shows as one."""


@pytest.fixture(params=["postgresql_url", "mysql_url"], ids=["postgresql", "mysql"])
def url(request: pytest.FixtureRequest) -> Any:
    """The databases where many may write at once. On SQLite an open transaction stops every writer."""
    return request.getfixturevalue(request.param)


@pytest.fixture
async def store(url: str, ledger: Ledger) -> AsyncIterator[TaskStore]:
    opened = TaskStore(url)
    opened.include(handlers(ledger))
    async with opened:
        yield opened


@pytest.mark.parametrize("before", [0, 3, 200], ids=lambda count: f"{count}_rows")
@pytest.mark.parametrize("did", ["enqueue", "enqueue_many", "external_id", "cancel", "cancel_many", "retry", "delete"])
async def test_nobody_waits_for_it(url: str, store: TaskStore, did: str, before: int):
    """Small tables above all: there the planner likes to read, hence lock, everything."""
    standing = await store.enqueue_many([store.draft("quick", {"number": n}, delay=3600) for n in range(before)])
    touched = await store.enqueue_many([store.draft("quick", {"number": n}, delay=3600) for n in range(3)])
    async with rolled_back(url) as connection:
        await _do(store.using(connection), did, [str(task_id) for task_id in touched])
        async with asyncio.timeout(PATIENCE):
            alone = await store.enqueue("quick", {"number": 1})
            keyed = await store.enqueue("quick", {"number": 2}, external_id="another")
            several = await store.enqueue_many([store.draft("quick", {"number": n}) for n in range(12)])
            later = await store.enqueue("quick", {"number": 3}, delay=0.2)
            if standing:
                await store.tasks.cancel(standing[0])
                await store.tasks.delete(standing[1])
                await store.tasks.retry(standing[2])
        async with store.dispatcher(**SHORT, poll_interval=0.1):
            async with asyncio.timeout(PATIENCE):
                for task_id in (alone.id, keyed.id, later.id, *several, *standing[2:3]):
                    assert (await store.handle(task_id).wait()).status == "succeeded"


async def _do(inside: Any, did: str, touched: list[str]) -> None:
    draft = inside.draft("quick", {"number": 9})
    match did:
        case "enqueue":
            await inside.enqueue("quick", {"number": 9})
        case "enqueue_many":
            await inside.enqueue_many([draft] * 4)
        case "external_id":
            await inside.enqueue("quick", {"number": 9}, external_id="mine")
            await inside.enqueue("quick", {"number": 9}, external_id="mine", on_conflict="return")
            keyed = [inside.draft("quick", {"number": n}, external_id=f"mine {n}") for n in range(4)]
            await inside.enqueue_many(keyed)
        case "cancel":
            await inside.tasks.cancel(touched[0])
        case "cancel_many":
            assert await inside.tasks.cancel(where={"id_in": touched}) == 3
        case "retry":
            await inside.tasks.retry(touched[0])
            assert await inside.tasks.retry(where={"id_in": touched[1:]}) == 2
        case _:
            await inside.tasks.delete(touched[0])
            assert await inside.tasks.delete(where={"id_in": touched[1:]}) == 2
