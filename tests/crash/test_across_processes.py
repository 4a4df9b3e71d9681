"""What one process asks, another one does: starts, cancels, hand-backs, and runs that came back from the dead."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID

import pytest

from aiotaskstore import TaskStore
from aiotaskstore.storage.operation import Query, Rows, Steps
from tests.crash.crew import SHORT, Crew, Program, end_lease
from tests.crash.handlers import handlers
from tests.crash.journal import Journal
from tests.crash.transactions import rolled_back
from tests.helpers import LIMIT, eventually

NEVER = 3600
"""A poll interval far beyond any test's patience: what starts all the same was not found by a poll."""


@pytest.fixture
async def store(url: str, journal: Journal) -> AsyncIterator[TaskStore]:
    opened = TaskStore(url)
    opened.include(handlers(journal))
    async with opened:
        yield opened


@pytest.mark.parametrize("in_a_transaction", [False, True], ids=["", "in_a_transaction"])
@pytest.mark.acceptance("A41")
async def test_a_task_starts_when_another_process_enqueues_it(
    url: str, store: TaskStore, crew: Crew, in_a_transaction: bool
):
    """At once where the database can tell (PostgreSQL, SQLite), else within `poll_interval` (MySQL)."""
    receives = not url.startswith("mysql")
    worker = crew.worker(url, poll_interval=NEVER if receives else 1)
    assert (await worker.receives("started")).split()[2] == {"p": "notify", "m": "poll", "s": "data_version"}[url[0]]
    for number in range(5):
        if in_a_transaction:
            async with store.transaction():
                handle = await store.enqueue("quick", {"number": number})
        else:
            handle = await store.enqueue("quick", {"number": number})
        assert await handle.result(timeout=LIMIT) == number
        await asyncio.sleep(0.3)  # the worker falls asleep, and its one early poll is over


async def test_a_burst_reaches_sleeping_processes(url: str, store: TaskStore, crew: Crew):
    """Enqueued just when dispatchers go to sleep, again and again: no hint is lost between look and sleep."""
    workers = [crew.worker(url, poll_interval=NEVER if not url.startswith("mysql") else 1) for _ in range(2)]
    for worker in workers:
        await worker.receives("started")
    for number in range(100):
        handle = await store.enqueue("quick", {"number": number})
        # Its end is when the worker goes to sleep; the next one comes a little later each time.
        assert await handle.result(timeout=LIMIT) == number
        await asyncio.sleep(0.0005 * (number % 20))


async def test_a_task_of_a_rolled_back_transaction_never_existed(
    url: str, store: TaskStore, crew: Crew, journal: Journal
):
    worker = crew.worker(url, poll_interval=0.1)
    await worker.receives("started")
    with pytest.raises(ZeroDivisionError):
        async with store.transaction():
            ours = await store.enqueue("quick", {"number": 1})
            raise ZeroDivisionError
    async with rolled_back(url) as connection:
        theirs = await store.using(connection).enqueue("quick", {"number": 2})
        many = await store.using(connection).enqueue_many([store.draft("quick", {"number": 3})] * 3)
        assert await store.using(connection).tasks.count() == 4
        if not url.startswith("sqlite"):  # there, nobody else can write meanwhile
            assert await (await store.enqueue("quick", {"number": 4})).result(timeout=LIMIT) == 4
            assert len(journal.starts()) == 1
    last = await store.enqueue("quick", {"number": 5})
    assert await last.result(timeout=LIMIT) == 5

    assert [await store.tasks.get(task_id) for task_id in (ours.id, theirs.id, *many)] == [None] * 5
    assert not {str(task_id) for task_id in (ours.id, theirs.id, *many)} & {line.task_id for line in journal.read()}


async def test_cancel_reaches_a_handler_in_another_process(url: str, store: TaskStore, crew: Crew, journal: Journal):
    worker = crew.worker(url)
    handle = await store.enqueue("slow", {"seconds": 3600})
    await eventually(lambda: journal.starts(handle.id))
    await handle.cancel("enough")
    task = await handle.wait(timeout=LIMIT)
    assert (task.status, task.finish_reason, task.cancel_reason) == ("cancelled", "request", "enough")
    assert [line.how for line in journal.ends(handle.id)] == ["CancelledError"]
    assert worker.process.poll() is None


async def test_a_worker_that_is_told_to_end_gives_back_what_runs(
    url: str, store: TaskStore, crew: Crew, journal: Journal
):
    worker = crew.worker(url, grace=0.2)
    handle = await store.enqueue("uneven", {"first": 3600, "later": 0}, max_attempts=1)
    before = await handle.task()
    await eventually(lambda: journal.starts(handle.id))
    worker.signal(signal.SIGTERM)
    assert await worker.ends() == 0
    assert worker.said("stopped", "gave-back")

    task = await handle.task()
    assert (task.status, task.attempt, task.errors) == ("pending", 0, [])
    assert task.run_at == before.run_at
    assert await _dispatchers(store) == set()

    crew.worker(url)
    assert await handle.result(timeout=LIMIT) == 2
    assert (await handle.task()).attempt == 1


async def test_told_twice_it_does_not_wait_for_the_grace_to_end(
    url: str, store: TaskStore, crew: Crew, journal: Journal
):
    worker = crew.worker(url, grace=3600)
    handle = await store.enqueue("slow", {"seconds": 3600})
    await eventually(lambda: journal.starts(handle.id))
    worker.signal(signal.SIGTERM)
    worker.signal(signal.SIGINT)  # two of one kind would be one, if the second came before the first was heard
    assert await worker.ends() == 0
    assert (await handle.task()).attempt == 0


@pytest.mark.crash
@pytest.mark.parametrize("returns", [True, False], ids=["it_has_returned", "it_still_runs"])
async def test_a_run_that_comes_back_from_the_dead_is_dropped(
    url: str, store: TaskStore, crew: Crew, journal: Journal, returns: bool
):
    """A worker stopped for longer than its lease: another one has its task when it goes on."""
    frozen = crew.worker(url, **SHORT, poll_interval=NEVER if not url.startswith("mysql") else 1)
    me = UUID((await frozen.receives("started")).split()[1])
    if returns:  # before its loop can hear of anything
        handle = await store.enqueue("rude")
    else:
        handle = await store.enqueue("uneven", {"first": 3600, "later": 1})
    await eventually(lambda: journal.starts(handle.id))
    await _freeze(frozen, store, me)
    await end_lease(store, frozen)
    other = crew.worker(url, **SHORT)
    await other.receives("rescued", handle.id, "pending")
    await eventually(lambda: len(journal.starts(handle.id)) == 2)
    journal.let_go()
    frozen.signal(signal.SIGCONT)

    await frozen.receives("lost", handle.id)
    assert await handle.result(timeout=LIMIT) == 2
    await eventually(lambda: len(journal.ends(handle.id)) == 2)
    ends = {line.pid: line.how for line in journal.ends(handle.id)}
    assert ends == {frozen.pid: "ok" if returns else "CancelledError", other.pid: "ok"}
    task = await handle.task()
    assert (task.status, task.attempt, len(task.errors)) == ("succeeded", 2, 1)
    assert not frozen.said("finished", handle.id)

    # It is known again, works again, and hears of work again.
    await eventually(lambda: _is_known(store, me))
    await crew.stop([other])
    for number in range(3):
        assert await (await store.enqueue("quick", {"number": number})).result(timeout=LIMIT) == number
        await asyncio.sleep(0.3)
    assert {line.pid for line in journal.starts()[2:]} == {frozen.pid}
    assert len(journal.starts(handle.id)) == 2


@pytest.mark.crash
@pytest.mark.acceptance("A89")
async def test_a_handler_that_blocks_the_loop_is_not_dead(url: str, store: TaskStore, crew: Crew, journal: Journal):
    """Its worker's signs of life come from a thread of their own."""
    workers = [crew.worker(url, **SHORT, poll_interval=0.1) for _ in range(2)]
    for worker in workers:
        await worker.receives("started")
    blocking = []
    for _ in workers:
        blocking.append(await store.enqueue("rude"))
        await eventually(lambda: journal.starts(blocking[-1].id))
    for _ in range(3):
        before = await _heartbeats(store)
        assert len(before) == len(workers)
        await eventually(lambda: _each_sent_another(store, before))  # noqa: B023 - asked here and now
    assert journal.ends() == [], "both are blocked all the while"
    journal.let_go()
    for handle in blocking:
        await handle.result(timeout=LIMIT)
    await crew.stop(workers)
    assert journal.counts() == {str(handle.id): 1 for handle in blocking}
    for worker in workers:
        assert not worker.said("rescued")
        assert not worker.said("lost")


async def _freeze(program: Program, store: TaskStore, dispatcher: UUID) -> None:
    """Stop a worker where it holds no lock that others would wait for."""

    def touch() -> Steps[Rows]:
        sql = "UPDATE aiotaskstore_dispatchers SET name = name WHERE id = :id"
        return (yield Query(sql, {"id": dispatcher}))

    while True:
        program.signal(signal.SIGSTOP)
        try:
            async with asyncio.timeout(5):
                await store._require_open().storage.database.write(touch)
        except TimeoutError:
            program.signal(signal.SIGCONT)
        else:
            return


async def _heartbeats(store: TaskStore) -> dict[UUID, datetime]:
    storage = store._require_open().storage
    return {row.id: row.heartbeat_at for row in await storage.database.read(storage.dispatchers.list)}


async def _each_sent_another(store: TaskStore, before: dict[UUID, datetime]) -> bool:
    return all(at > before[dispatcher] for dispatcher, at in (await _heartbeats(store)).items())


async def _dispatchers(store: TaskStore) -> set[UUID]:
    storage = store._require_open().storage
    return {row.id for row in await storage.database.read(storage.dispatchers.list)}


async def _is_known(store: TaskStore, dispatcher: UUID) -> bool:
    return dispatcher in await _dispatchers(store)
