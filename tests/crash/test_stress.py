"""Everything at once: producers, workers, an operator, and trouble; at the end nothing is stuck, lost or run by two.

The suite runs a short one. A long one: `AIOTASKSTORE_STRESS_SECONDS=600 pytest tests/crash/test_stress.py`.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from aiotaskstore import (
    DuplicateTaskError,
    InvalidTransitionError,
    NotCancellableError,
    TaskNotFoundError,
    TaskStatus,
    TaskStore,
)
from tests.crash.crew import Crew, Program
from tests.crash.handlers import handlers
from tests.crash.journal import Journal
from tests.crash.proxy import Link, Proxy, proxy
from tests.helpers import eventually, kept_from_writing

SECONDS = float(os.environ.get("AIOTASKSTORE_STRESS_SECONDS", "6"))
"""How long there is trouble."""
WORKER: dict[str, Any] = {"heartbeat": 0.5, "lease": 3, "healer": 0.5, "cleaner": False, "poll_interval": 0.5}
DEADLINE = 2.0
"""Seconds that a worker or producer waits for the database."""
UNFINISHED = [status for status in TaskStatus if not status.finished]

pytestmark = [pytest.mark.crash, pytest.mark.stress, pytest.mark.timeout(SECONDS + 300)]


class Disturbance:
    """What goes wrong, one thing at a time, chosen at random."""

    def __init__(self, url: str, way: Proxy | None, crew: Crew, random_: random.Random) -> None:
        self._url, self._way, self._crew, self._random = url, way, crew, random_
        self.workers: list[Program] = [self._worker() for _ in range(2)]
        self.stopping: list[Program] = []
        self.made: list[str] = []

    async def run(self) -> None:
        ways: list[Callable[[], Coroutine[Any, Any, None]]] = [self.kill, self.stop]
        ways += [self.freeze, self.reset] if self._way is not None else [self.hold]
        until = asyncio.get_running_loop().time() + SECONDS
        while asyncio.get_running_loop().time() < until:
            await asyncio.sleep(self._random.uniform(0.3, 1.2))
            self.supervise()
            way = self._random.choice(ways)
            self.made.append(way.__name__)
            await way()

    def supervise(self) -> None:
        """Start workers again that met trouble before they had opened the store, as a supervisor would."""
        for worker in [worker for worker in self.workers if worker.process.poll() is not None]:
            assert not worker.said("started"), worker.text
            assert "DatabaseUnavailableError" in worker.text, worker.text
            self.workers[self.workers.index(worker)] = self._worker()

    async def all_work(self) -> bool:
        """Tell whether every worker has started."""
        self.supervise()
        return all(worker.said("started") for worker in self.workers)

    async def kill(self) -> None:
        """A worker is killed, and another one started."""
        self._crew.kill(self._replaced())

    async def stop(self) -> None:
        """A worker is told to stop, and another one started: a rolling deploy."""
        worker = self._replaced()
        worker.signal(signal.SIGTERM)
        self.stopping.append(worker)

    async def freeze(self) -> None:
        """Some links carry nothing any more, and nobody is told."""
        assert self._way is not None
        self._way.freeze(self._some)

    async def reset(self) -> None:
        """Some links are cut."""
        assert self._way is not None
        for link in [link for link in self._way.links if self._some(link)]:
            link.close()

    async def hold(self) -> None:
        """Another process holds the file's write lock for a while."""
        async with kept_from_writing(self._url):
            await asyncio.sleep(self._random.uniform(0, 1))

    def _some(self, _link: Link) -> bool:
        return self._random.random() < 0.3

    def _replaced(self) -> Program:
        worker = self.workers.pop(self._random.randrange(len(self.workers)))
        self.workers.append(self._worker())
        return worker

    def _worker(self) -> Program:
        url = self._url if self._way is None else self._way.url
        return self._crew.worker(url, deadline=DEADLINE, notes_pauses=True, **WORKER, grace=1)


class Operator:
    """Cancels, retries and deletes at random. What was ended by force may still run, so it is never run again."""

    def __init__(self, store: TaskStore, random_: random.Random) -> None:
        self._store, self._random = store, random_
        self.deleted: set[UUID] = set()
        self._forced: set[UUID] = set()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._random.uniform(0, 0.1))
            tasks = await self._store.tasks.list(limit=100)
            if tasks:
                await self._act(self._random.choice(tasks).id)

    async def _act(self, task_id: UUID) -> None:
        ways = [self._cancel, self._force, self._delete]
        if task_id not in self._forced:
            ways += [self._retry]
        try:
            await self._random.choice(ways)(task_id)
        except (DuplicateTaskError, InvalidTransitionError, NotCancellableError, TaskNotFoundError):
            return  # what it may meet: the task has moved on since it was listed

    async def _cancel(self, task_id: UUID) -> None:
        await self._store.tasks.cancel(task_id, "by the operator")

    async def _force(self, task_id: UUID) -> None:
        self._forced.add(task_id)
        await self._store.tasks.cancel(task_id, "by force", force=True)

    async def _retry(self, task_id: UUID) -> None:
        await self._store.tasks.retry(task_id, force=self._random.random() < 0.5)

    async def _delete(self, task_id: UUID) -> None:
        self.deleted.add(task_id)
        await self._store.tasks.delete(task_id, force=True)


@asynccontextmanager
async def through_a_proxy(url: str) -> AsyncIterator[Proxy | None]:
    if url.startswith("sqlite"):
        yield None
        return
    async with proxy(url) as way:
        yield way


async def test_nothing_is_stuck_lost_or_run_by_two(url: str, crew: Crew, journal: Journal, tmp_path: Path):
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    chance, acknowledged = random.Random(seed), tmp_path / "acknowledged"
    async with through_a_proxy(url) as way, TaskStore(url) as store:
        store.include(handlers(journal))
        failure, operator = Disturbance(url, way, crew, chance), Operator(store, chance)
        reached = url if way is None else way.url
        producers = [
            crew.producer(reached, acknowledged, callers=4, mix=True, deadline=DEADLINE, store={"enqueue_timeout": 5})
            for _ in range(2)
        ]
        for program in [*producers, *failure.workers]:
            await program.receives("ready" if program in producers else "started")
        async with asyncio.TaskGroup() as group:
            operating = group.create_task(operator.run())
            await failure.run()
            operating.cancel()
        for producer in producers:
            producer.tell()
            assert await producer.ends() == 0, producer.text
        for worker in failure.stopping:
            # One that had not started yet ends by the signal, or by the trouble that it met.
            assert await worker.ends() == 0 or not worker.said("started"), worker.text

        async def all_ended() -> bool:
            return await store.tasks.count(status=UNFINISHED) == 0

        await eventually(failure.all_work)
        await eventually(all_ended)
        await crew.stop(failure.workers)
        stored = {task.id for task in await store.tasks.list()}
    print(f"{len(stored)} tasks, {len(journal.starts())} runs, trouble: {failure.made}")  # noqa: T201
    assert {UUID(line) for line in acknowledged.read_text().split()} - stored - operator.deleted == set()
    assert journal.overlaps() == []
    assert all(not producer.said("leak") for producer in producers)
    assert stored
