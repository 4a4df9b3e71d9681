"""Workers killed in the middle of everything: nothing is lost, nothing runs twice at once, all of it ends."""

from __future__ import annotations

import pytest

from aiotaskstore import TaskStore
from tests.crash.crew import SHORT, Crew, Program
from tests.crash.handlers import handlers
from tests.crash.ledger import Ledger
from tests.helpers import eventually

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]

KILLS = 4
"""Times that one worker is killed; at the end, all are killed at once."""
QUICK, SLOW, FLAKY, TALKATIVE, THREADED = 150, 60, 60, 40, 20
TOTAL = QUICK + SLOW + FLAKY + TALKATIVE + THREADED


async def test_every_task_ends_exactly_once_in_the_history(url: str, crew: Crew, ledger: Ledger):
    options = SHORT | {"concurrency": 8, "poll_interval": 0.2}
    async with TaskStore(url) as store:
        store.include(handlers(ledger))
        drafts = [store.draft("slow", {"seconds": 0.3 + 0.01 * number}) for number in range(SLOW)]
        drafts += [store.draft("flaky", {"failures": number % 3}) for number in range(FLAKY)]
        drafts += [store.draft("talkative", {"steps": 4}) for _ in range(TALKATIVE)]
        drafts += [store.draft("threaded", {"seconds": 0.2}) for _ in range(THREADED)]
        drafts += [store.draft("quick", {"number": number}, max_attempts=50) for number in range(QUICK)]
        # Each kind all through the queue, so that every kill finds all of them running.
        ids = await store.enqueue_many([draft for step in range(29) for draft in drafts[step::29]])

        workers = [crew.worker(url, **options) for _ in range(3)]
        for kill in range(KILLS):
            victim = workers[kill % len(workers)]
            enough = TOTAL * kill // (KILLS + 2)
            await eventually(lambda: len(ledger.starts()) > enough and len(ledger.open_runs(victim.pid)) >= 4)  # noqa: B023 - asked here and now
            crew.kill(victim)
            workers[kill % len(workers)] = crew.worker(url, **options)
        await eventually(lambda: all(ledger.open_runs(worker.pid) for worker in workers))
        for worker in workers:
            crew.kill(worker)
        workers = [crew.worker(url, **options) for _ in range(2)]

        await eventually(lambda: _finished(store), 60)
        await crew.stop(workers)

        assert await store.tasks.count(status=["scheduled", "waiting", "pending", "running", "paused"]) == 0
        tasks = await store.tasks.list(id_in=ids)
        assert {task.id for task in tasks} == set(ids)
        assert len(tasks) == TOTAL
        assert {task.status for task in tasks} == {"succeeded"}
        talked = [task for task in tasks if task.alias == "talkative"]
        assert {task.progress.text for task in talked if task.progress} == {"step 4"}
        assert all(task.details.count("step 4") >= 1 for task in talked)

    assert ledger.overlaps() == []
    assert sum(line.what == "dead" for line in ledger.read()) == KILLS + 3
    assert {line.task_id for line in ledger.ends() if line.how == "ok"} == {str(task_id) for task_id in ids}
    assert _rescued(workers), "nobody was rescued: the kills missed"


async def _finished(store: TaskStore) -> bool:
    return await store.tasks.count(status="succeeded") == TOTAL


def _rescued(workers: list[Program]) -> int:
    return sum(len(worker.said("rescued")) for worker in workers)
