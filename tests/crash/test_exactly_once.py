"""Four processes on one database: without a crash, each task runs exactly once."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiotaskstore import TaskStore
from tests.crash.crew import Crew
from tests.crash.handlers import handlers
from tests.crash.journal import Journal
from tests.helpers import LIMIT, eventually

PROCESSES, SLOTS, TASKS = 4, 20, 2_000
PER_PRODUCER, CALLERS = 150, 10


@pytest.mark.acceptance("A25")
async def test_four_processes_run_each_of_two_thousand_tasks_once(url: str, crew: Crew, journal: Journal):
    workers = [crew.worker(url, concurrency=SLOTS) for _ in range(PROCESSES)]
    for worker in workers:
        await worker.receives("started")
    async with TaskStore(url) as store:
        store.include(handlers(journal))
        ids = await store.enqueue_many([store.draft("quick", {"number": number}) for number in range(TASKS)])
        await eventually(lambda: _succeeded(store, TASKS))
        while len({line.pid for line in journal.starts()}) == 1:  # it took everything, so nothing was contended
            ids += await store.enqueue_many([store.draft("quick", {"number": number}) for number in range(TASKS)])
            await eventually(lambda: _succeeded(store, len(ids)))  # noqa: B023 - asked here and now
        await crew.stop(workers)

        assert journal.counts() == {str(task_id): 1 for task_id in ids}
        assert await store.tasks.count() == len(ids)
        attempts = {task.attempt for task in await store.tasks.list()}
        assert attempts == {1}
    assert not any(worker.said("lost") or worker.said("rescued") for worker in workers)


async def test_so_do_those_that_are_enqueued_meanwhile(url: str, crew: Crew, journal: Journal, tmp_path: Path):
    acknowledged = tmp_path / "acknowledged"
    async with TaskStore(url) as store:
        workers = [crew.worker(url, concurrency=SLOTS) for _ in range(PROCESSES)]
        producers = [
            crew.producer(url, acknowledged, count=PER_PRODUCER, callers=CALLERS, store={"enqueue_timeout": LIMIT})
            for _ in range(PROCESSES)
        ]
        for producer in producers:
            assert await producer.ends() == 0, producer.text
            assert not producer.said("leak")
        ids = acknowledged.read_text().split()
        assert len(set(ids)) == len(ids) == PROCESSES * PER_PRODUCER
        await eventually(lambda: _succeeded(store, len(ids)))
        await crew.stop(workers)

        assert journal.counts() == dict.fromkeys(ids, 1)
        assert await store.tasks.count() == len(ids)


async def _succeeded(store: TaskStore, wanted: int) -> bool:
    return await store.tasks.count(status="succeeded") >= wanted
