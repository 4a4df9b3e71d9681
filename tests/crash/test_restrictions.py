"""What one process pauses or switches off, the dispatchers of all others leave alone, also those that start later."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from aiotaskstore import TaskStatus, TaskStore
from tests.crash.crew import SHORT, Crew
from tests.crash.handlers import handlers
from tests.crash.journal import Journal
from tests.helpers import LIMIT, eventually


@pytest.fixture
async def store(url: str, journal: Journal) -> AsyncIterator[TaskStore]:
    opened = TaskStore(url)
    opened.include(handlers(journal))
    async with opened:
        yield opened


async def test_processes_leave_a_paused_queue_alone_until_it_is_resumed(url: str, store: TaskStore, crew: Crew):
    workers = [crew.worker(url, **SHORT) for _ in range(2)]
    for worker in workers:
        await worker.receives("started")

    async def probe() -> Any:
        return await store.enqueue("quick", {"number": 1}, queue="paused")

    await store.queues.pause("paused")
    held = await _held(store, probe)
    for worker in workers:
        await crew.kill_and_end_lease(store, worker)
    # A worker that starts in their place knows of the pause before its first claim.
    await crew.worker(url, **SHORT).receives("started")
    assert await _held(store, probe, at_once=True)
    await store.queues.resume("paused")
    assert await held.result(timeout=LIMIT) == 1


async def test_processes_run_no_task_of_a_definition_that_is_switched_off(url: str, store: TaskStore, crew: Crew):
    await crew.worker(url, **SHORT).receives("started")
    waiting = [await store.enqueue("slow", {"seconds": 0.01}, delay=3600) for _ in range(500)]
    await store.definitions.cancel("slow")

    async def probe() -> Any:
        handle = waiting.pop()
        await store.tasks.retry(handle.id)  # due now
        return handle

    held = await _held(store, probe)
    await store.definitions.activate("slow")
    assert await held.result(timeout=LIMIT) is None


async def _held(store: TaskStore, probe: Callable[[], Awaitable[Any]], *, at_once: bool = False) -> Any:
    """Make tasks that must be held until one is: those of another queue, made after it, run in its stead."""

    async def passed_over() -> Any:
        handle = await probe()
        for _ in range(4):
            await (await store.enqueue("quick", {"number": 2}, queue="open")).result(timeout=LIMIT)
        return handle if await handle.status() is TaskStatus.PENDING else None

    return await passed_over() if at_once else await eventually(passed_over, pause=0.1)
