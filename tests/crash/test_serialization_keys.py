"""Serialization keys while processes are killed: never two of a key at once, always in order, and nothing is stuck."""

from __future__ import annotations

import signal
from uuid import UUID

import pytest

from aiotaskstore import TaskStore
from tests.crash.crew import SHORT, Crew
from tests.crash.handlers import handlers
from tests.crash.journal import Journal
from tests.helpers import eventually

pytestmark = pytest.mark.crash

KEYS, EACH, KILLS = 4, 16, 3


@pytest.mark.acceptance("A81")
async def test_workers_that_are_killed_never_leave_two_of_a_key_running(url: str, crew: Crew, journal: Journal):
    options = SHORT | {"concurrency": 4, "poll_interval": 0.2}
    async with TaskStore(url) as store:
        store.include(handlers(journal))
        drafts = [
            store.draft("slow", {"seconds": 0.1}, serialization_key=f"k{key}")
            for n in range(EACH)
            for key in range(KEYS)
        ]
        ids = await store.enqueue_many(drafts)
        workers = [crew.worker(url, **options) for _ in range(3)]
        for _ in range(KILLS):
            victim = await eventually(lambda: next((one for one in workers if journal.open_runs(one.pid)), None))
            await crew.kill_and_end_lease(store, victim)
            workers[workers.index(victim)] = crew.worker(url, **options)
        await eventually(lambda: _finished(store, len(ids)))
        await crew.stop(workers)
    key_of = {str(task_id): f"k{number % KEYS}" for number, task_id in enumerate(ids)}
    assert _overlaps(journal, key_of) == []
    for key in range(KEYS):
        assert _first_starts(journal, key_of, f"k{key}") == ids[key::KEYS]


@pytest.mark.parametrize("dies", ["after it stored them", "after it ran the first"])
async def test_a_key_that_a_dead_process_did_not_grant_is_granted_by_the_sweep(
    url: str, crew: Crew, journal: Journal, dies: str
):
    given = {"url": url, "journal": str(journal.path)}
    async with TaskStore(url) as store:
        store.include(handlers(journal))
        if dies == "after it stored them":
            dead = crew._start("ungranted", given | {"enqueue": 3})
        else:
            draft = store.draft("quick", {"number": 1}, serialization_key="k")
            await store.enqueue_many([draft] * 3)
            await eventually(lambda: store.tasks.count(status="pending"))
            dead = crew._start("ungranted", given)
        assert await dead.ends() == -signal.SIGKILL, dead.text
        unfinished = ["waiting"] * (3 if dies == "after it stored them" else 2)
        assert [task.status for task in await store.tasks.list(status=["pending", "waiting"])] == unfinished
        async with store.dispatcher(poll_interval=0.2):
            await eventually(lambda: _finished(store, 3))
        ids = [task.id for task in await store.tasks.list(descending=False)]
    assert _first_starts(journal, dict.fromkeys(map(str, ids), "k"), "k") == ids


async def _finished(store: TaskStore, count: int) -> bool:
    return await store.tasks.count(status="succeeded") == count


def _first_starts(journal: Journal, key_of: dict[str, str], key: str) -> list[UUID]:
    """Return the tasks of a key in the order in which they were first started."""
    started = dict.fromkeys(line.task_id for line in journal.starts())
    return [UUID(task_id) for task_id in started if key_of[task_id] == key]


def _overlaps(journal: Journal, key_of: dict[str, str]) -> list[str]:
    """Return every start of a task while another one of its key was running somewhere."""
    running: dict[str, tuple[str, int]] = {}
    found = []
    for line in journal.read():
        key = key_of.get(line.task_id, "")
        if line.what == "start":
            if key in running:
                found.append(f"{line.task_id} of {key} started while {running[key]} ran")
            running[key] = (line.task_id, line.pid)
        elif line.what == "end":
            running.pop(key, None)
        else:
            running = {key: (task, pid) for key, (task, pid) in running.items() if pid != line.pid}
    return found
