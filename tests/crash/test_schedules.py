"""Schedules in many processes, some of which are killed: each occurrence becomes exactly one task."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from aiotaskstore import Every, Once, Schedule, TaskStore
from tests.crash.crew import SHORT, Crew
from tests.crash.handlers import handlers
from tests.crash.journal import Journal
from tests.helpers import eventually

pytestmark = pytest.mark.crash

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
PERIOD = timedelta(seconds=0.2)
OCCURRENCES = 20
MOST_STEPS = 30


async def test_five_dispatchers_of_which_some_are_killed_make_one_task_for_each_occurrence(
    url: str, crew: Crew, journal: Journal
):
    async with TaskStore(url) as store:
        store.include(handlers(journal))
        workers = [crew.worker(url, **SHORT, poll_interval=0.2) for _ in range(5)]
        for worker in workers:
            await worker.receives("started")
        for name in ("one", "two", "three"):
            await store.schedules.create(
                Schedule(
                    name=name,
                    alias="quick",
                    payload={"number": 1},
                    status="active",
                    misfire="catch_up",
                    recurrence=Every(PERIOD),
                    max_executions=OCCURRENCES,
                    options={"max_attempts": 50},
                )
            )
        for part in (1, 2, 3):
            await eventually(lambda: _made(store, OCCURRENCES * part // 4))  # noqa: B023 - asked here and now
            await crew.kill_and_end_lease(store, workers.pop())
        await eventually(lambda: _completed(store))
        schedules = await store.schedules.list()
        await eventually(lambda: _finished(store))
        await crew.stop(workers)
        for schedule in schedules:
            tasks = await store.tasks.list(source=f"schedule:{schedule.id}", order_by="run_at", descending=False)
            planned = [task.run_at for task in tasks]
            assert len(planned) == schedule.execution_count == OCCURRENCES
            assert planned == [planned[0] + number * PERIOD for number in range(OCCURRENCES)]
            assert {task.status for task in tasks} == {"succeeded"}


async def _made(store: TaskStore, count: int) -> bool:
    return all(schedule.execution_count >= count for schedule in await store.schedules.list())


async def _completed(store: TaskStore) -> bool:
    return await store.schedules.count(status="completed") == 3


async def _finished(store: TaskStore) -> bool:
    return await store.tasks.count(status="succeeded") == 3 * OCCURRENCES


async def test_a_dispatcher_killed_between_any_two_steps_of_a_firing_makes_its_task_exactly_once(url: str, crew: Crew):
    async with TaskStore(url) as store:

        @store.task
        async def work() -> None: ...

        survived, killed, before = False, 0, 0
        while not survived:
            at = killed
            assert at < MOST_STEPS
            made = await store.schedules.create(
                Schedule(name=f"s{at}", alias="work", status="active", recurrence=Once(LONG_AGO))
            )
            program = crew.scheduler(url, dies_at=at)
            await asyncio.to_thread(program.process.wait)
            survived = bool(program.said("survived"))
            killed += not survived
            tasks = await store.tasks.list(source=f"schedule:{made.id}")
            schedule = await store.schedules.get(made.id)
            assert schedule is not None
            assert len(tasks) == schedule.execution_count == (schedule.status == "completed")
            before += not tasks

            async def ran() -> bool:
                """Try again while the server has not noticed yet that the dead one's transaction is over."""
                await store.dispatcher().run_once()
                return await store.tasks.count(source=f"schedule:{made.id}", status="succeeded") == 1  # noqa: B023

            await eventually(ran)
            await store.dispatcher().run_once()
        found = Counter(task.source for task in await store.tasks.list())
        assert set(found.values()) == {1}
        assert len(found) == killed + 1
        assert 4 <= before < killed, "some were killed before the COMMIT, and one after it"
