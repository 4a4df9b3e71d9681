"""The database server itself is killed, or stopped: what was acknowledged stays, and everybody comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from aiotaskstore import DatabaseUnavailableError, TaskStore
from tests.crash.crew import SHORT, Crew, Program
from tests.crash.handlers import handlers
from tests.crash.journal import Journal
from tests.crash.proxy import several_links
from tests.helpers import LIMIT, eventually
from tests.servers import Server

pytestmark = pytest.mark.crash

UNFINISHED = ["scheduled", "waiting", "pending", "running", "paused"]


async def test_nothing_acknowledged_is_lost_when_it_is_killed(
    server: Server, prefix: str, crew: Crew, journal: Journal, tmp_path: Path
):
    """A producer and a worker live through it: neither is restarted, and neither sees a driver's exception."""
    options: dict[str, Any] = {"prefix": prefix}
    async with TaskStore(server.url, prefix=prefix) as store:
        store.include(handlers(journal))
        # Its lease ends while the server is away.
        worker = crew.worker(server.url, store=options, **SHORT | {"lease": 1}, concurrency=20)
        # What is in doubt when the server dies, as all that it has under way may be, is known only when it is back, or
        # given up after this time.
        hasty = options | {"enqueue_timeout": 1}
        producer = crew.producer(server.url, tmp_path / "acknowledged", store=hasty, callers=8)
        await worker.receives("started")

        for _ in range(2):
            running = await store.enqueue("uneven", {"first": 3600, "later": 0})
            await eventually(lambda: journal.starts(running.id))  # noqa: B023 - asked here and now
            await _much_runs(journal)
            received = len(producer.said("unavailable"))
            await asyncio.to_thread(server.kill)
            await eventually(lambda: len(producer.said("unavailable")) > received)  # noqa: B023
            # Longer than the lease, so that its run may be somebody else's: it is ended.
            await eventually(lambda: journal.ends(running.id))  # noqa: B023
            assert journal.ends(running.id)[0].how == "CancelledError"
            await asyncio.to_thread(server.restart)

        await _much_runs(journal)
        stored = await _all_ends(store, crew, worker, producer)
        ids = (tmp_path / "acknowledged").read_text().split()
        assert set(ids) - set(stored) == set()
        assert set(stored.values()) == {"succeeded"}
        assert ids
        # An insert whose answer was lost may be there although its caller heard of an error, but never twice.
        assert len(stored) - 2 <= len(ids) + len(producer.said("unavailable"))
    assert worker.said("trouble"), "the worker did not notice"
    _check(worker, producer, journal, stored)


async def test_a_short_restart_disturbs_no_run(
    server: Server, prefix: str, crew: Crew, journal: Journal, tmp_path: Path
):
    options = {"prefix": prefix}
    async with TaskStore(server.url, prefix=prefix) as store:
        store.include(handlers(journal))
        worker = crew.worker(server.url, store=options, **SHORT, concurrency=20)
        producer = crew.producer(server.url, tmp_path / "acknowledged", store=options, callers=8)
        await worker.receives("started")
        running = await store.enqueue("slow", {"seconds": 3})
        await eventually(lambda: journal.starts(running.id))
        for _ in range(2):
            await _much_runs(journal)
            await asyncio.to_thread(server.restart)
        await _much_runs(journal)

        stored = await _all_ends(store, crew, worker, producer)
        assert set((tmp_path / "acknowledged").read_text().split()) - set(stored) == set()
        assert set(stored.values()) == {"succeeded"}
    assert len(journal.starts(running.id)) == 1
    _check(worker, producer, journal, stored)


async def test_a_store_outlives_it_too(server: Server, prefix: str, journal: Journal):
    """Every call says that the database is away, in our words, and works again as soon as it is back."""
    async with TaskStore(server.url, prefix=prefix) as store, asyncio.TaskGroup() as group:
        store.include(handlers(journal))
        handle = await store.enqueue("quick", {"number": 1})
        keyed = await store.enqueue("quick", {"number": 2}, external_id="only one")
        await several_links(store, 4)  # so that more than one connection of the pool will be dead
        waiting = group.create_task(handle.wait(timeout=LIMIT))
        await eventually(lambda: store._require_open().waiting._waiters)

        await asyncio.to_thread(server.kill)
        for _ in range(3):
            await _every_call_is_refused(store, handle.id)
        await asyncio.to_thread(server.restart)

        assert (await store.tasks.require(handle.id)).status == "pending"
        assert (await store.tasks.require(keyed.id)).external_id == "only one"
        assert await store.tasks.count() == 2
        async with store.transaction():
            await store.enqueue("quick", {"number": 4})
        async with store.dispatcher(**SHORT):
            assert await handle.result(timeout=LIMIT) == 1
            assert (await waiting).status == "succeeded"
        assert await store.tasks.count(status="succeeded") == 3


async def _every_call_is_refused(store: TaskStore, task_id: UUID) -> None:
    draft = store.draft("quick", {"number": 3})

    async def transaction() -> None:
        async with store.transaction():
            pass

    async def dispatcher() -> None:
        async with store.dispatcher():
            pass

    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.enqueue("quick", {"number": 3}),
        lambda: store.enqueue("quick", {"number": 3}, external_id="another"),
        lambda: store.enqueue_many([draft]),
        lambda: store.tasks.get(task_id),
        store.tasks.list,
        store.tasks.count,
        lambda: store.tasks.status(task_id),
        lambda: store.tasks.cancel(task_id),
        lambda: store.tasks.retry(task_id),
        lambda: store.tasks.delete(task_id),
        transaction,
        dispatcher,
    ]
    for call in calls:
        with pytest.raises(DatabaseUnavailableError):
            await call()


async def test_a_dispatcher_that_starts_while_it_is_away_is_told_so(server: Server, prefix: str, journal: Journal):
    store = TaskStore(server.url, prefix=prefix)
    store.include(handlers(journal))
    await store.migrate()
    await asyncio.to_thread(server.kill)
    with pytest.raises(DatabaseUnavailableError):
        await store.open()
    assert not store.is_open
    await asyncio.to_thread(server.restart)
    async with store, store.dispatcher(**SHORT):
        handle = await store.enqueue("quick", {"number": 1})
        assert await handle.result(timeout=LIMIT) == 1


async def test_a_connection_killed_inside_a_transaction_takes_only_that_with_it(
    server: Server, prefix: str, journal: Journal
):
    async with TaskStore(server.url, prefix=prefix) as store:
        store.include(handlers(journal))
        with pytest.raises(DatabaseUnavailableError):
            async with store.transaction():
                await store.enqueue("quick", {"number": 1})
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.restart)
                await store.enqueue("quick", {"number": 2})
        assert await store.tasks.count() == 0
        await store.enqueue("quick", {"number": 3})
        assert await store.tasks.count() == 1


async def _much_runs(journal: Journal) -> None:
    before = len(journal.starts())
    await eventually(lambda: len(journal.starts()) > before + 200)


async def _all_ends(store: TaskStore, crew: Crew, worker: Program, producer: Program) -> dict[str, str]:
    """Stop the producer, let the worker finish everything, and give every stored task's status."""

    async def nothing_left() -> bool:
        return await store.tasks.count(status=UNFINISHED) == 0

    producer.tell()
    assert await producer.ends() == 0, producer.text
    await eventually(nothing_left)
    await crew.stop([worker])
    return {str(task.id): str(task.status) for task in await store.tasks.list()}


def _check(worker: Program, producer: Program, journal: Journal, stored: dict[str, str]) -> None:
    """No run beside another one of its task, every success true, and no exception of a driver's anywhere."""
    assert journal.overlaps() == []
    succeeded = {task_id for task_id, status in stored.items() if status == "succeeded"}
    assert {line.task_id for line in journal.ends() if line.how == "ok"} == succeeded
    assert {line.split()[-1] for line in worker.said("trouble")} <= {"DatabaseUnavailableError", "TaskStoreError"}
    assert not producer.said("leak")
    for program in (worker, producer):
        assert "never retrieved" not in program.text
        # asyncpg's pool itself logs, with a traceback, that it cannot reconnect; nothing else may.
        assert program.text.count("Traceback") == program.text.count("pool connection floor")
