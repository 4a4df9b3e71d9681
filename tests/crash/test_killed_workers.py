"""Workers killed in the middle of everything: nothing is lost, nothing runs twice at once, all of it ends."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from aiotaskstore import Draft, TaskStore
from tests.crash.crew import SHORT, Crew, Program, end_lease
from tests.crash.handlers import handlers
from tests.crash.journal import Journal
from tests.helpers import eventually

pytestmark = pytest.mark.crash

KILLS = 4
"""Times that one worker is killed; at the end, all are killed at once."""
UNFINISHED = ["scheduled", "waiting", "pending", "running", "paused"]


@pytest.mark.acceptance("A86")
async def test_every_task_ends_exactly_once_in_the_history(url: str, crew: Crew, journal: Journal):
    options = SHORT | {"concurrency": 8, "poll_interval": 0.2}
    async with TaskStore(url) as store:
        store.include(handlers(journal))
        ids: list[UUID] = []

        async def killed(victim: Program, *, runs: int) -> bool:
            """Kill it once it has so many runs; however long that takes, there is enough to do until then."""
            if await store.tasks.count(status="pending") < 100:
                ids.extend(await store.enqueue_many(_drafts(store)))
            return crew.killed_amid(victim, runs=runs)

        workers = [crew.worker(url, **options) for _ in range(3)]
        for kill in range(KILLS):
            victim = workers[kill % len(workers)]
            await eventually(lambda: killed(victim, runs=4))  # noqa: B023 - asked here and now
            await end_lease(store, victim)
            workers[kill % len(workers)] = crew.worker(url, **options)
        for worker in workers:
            await eventually(lambda: killed(worker, runs=1))  # noqa: B023 - asked here and now
        for worker in workers:
            await end_lease(store, worker)
        workers = [crew.worker(url, **options) for _ in range(2)]

        await eventually(lambda: _finished(store))
        await crew.stop(workers)

        tasks = await store.tasks.list(id_in=ids)
        assert {task.id for task in tasks} == set(ids)
        assert len(tasks) == len(ids) == await store.tasks.count()
        assert {task.status for task in tasks} == {"succeeded"}
        talked = [task for task in tasks if task.alias == "talkative"]
        assert {task.progress.text for task in talked if task.progress} == {"step 4"}
        assert all(task.details.count("step 4") >= 1 for task in talked)

    assert journal.overlaps() == []
    assert sum(line.what == "dead" for line in journal.read()) == KILLS + 3
    assert {line.task_id for line in journal.ends() if line.how == "ok"} == {str(task_id) for task_id in ids}
    assert _rescued(workers), "nobody was rescued: the kills missed"


def _drafts(store: TaskStore) -> list[Draft[Any]]:
    """Some of each kind, all mixed, so that every kill finds all of them running."""
    drafts = [store.draft("slow", {"seconds": 0.3 + 0.03 * number}) for number in range(20)]
    drafts += [store.draft("flaky", {"failures": number % 3}) for number in range(20)]
    drafts += [store.draft("talkative", {"steps": 4}) for _ in range(14)]
    drafts += [store.draft("threaded", {"seconds": 0.2}) for _ in range(7)]
    drafts += [store.draft("quick", {"number": number}) for number in range(50)]
    return [draft for step in range(29) for draft in drafts[step::29]]


async def _finished(store: TaskStore) -> bool:
    return await store.tasks.count(status=UNFINISHED) == 0


def _rescued(workers: list[Program]) -> int:
    return sum(len(worker.said("rescued")) for worker in workers)
