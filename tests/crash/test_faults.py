"""Faults that other queues have had, each made to happen here."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import pytest

from aiotaskstore import TaskStore, current_context
from aiotaskstore.events import BackgroundFailed, ClaimLost, TaskFinished, TaskStarted
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.outcome import EMPTY
from aiotaskstore.storage.storage import Storage
from aiotaskstore.storage.tasks import Tasks
from aiotaskstore.task import Claim, NewTask
from tests.crash.crew import SHORT, Crew
from tests.crash.handlers import handlers
from tests.crash.journal import Journal
from tests.helpers import LIMIT, eventually, expect
from tests.storage.harness import new_task

UNFINISHED = ["scheduled", "waiting", "pending", "running", "paused"]
ALIASES = ["work", "quick", "unheard_of"]


@pytest.fixture
async def store(url: str, journal: Journal) -> AsyncIterator[TaskStore]:
    opened = TaskStore(url)
    opened.include(handlers(journal))
    async with opened:
        yield opened


def storage_of(store: TaskStore) -> Storage:
    return store._require_open().storage


async def claimed_by_the_dead(store: TaskStore, rows: list[NewTask]) -> tuple[UUID, list[Claim]]:
    """Store tasks and have a dispatcher claim them that is never heard of again."""
    storage, dead = storage_of(store), new_id()
    database = storage.database
    await database.write(
        lambda: storage.dispatchers.register(dead, name="dead", host="here", pid=1, lease=0.01),
    )
    await database.write(lambda: storage.tasks.enqueue(rows))
    claims = await database.write(lambda: storage.tasks.claim(dead, [("default", 1_000)], ALIASES))
    assert len(claims) == len(rows)
    await asyncio.sleep(0.05)  # longer than its lease
    return dead, claims


async def test_a1_a_rescue_and_a_finish_of_the_same_task(url: str, store: TaskStore):
    """Nothing ends twice, is overwritten or left: all succeed, whoever comes first, second and third.

    Of three at once, one rescues, one finishes what was rescued, and one claims it and runs it again.
    """
    rows = [new_task(max_attempts=50, on_stuck=number % 3) for number in range(300)]
    dead, claims = await claimed_by_the_dead(store, rows)
    lost: set[UUID] = set()
    again: set[UUID] = set()
    rescued, met = asyncio.Event(), asyncio.Event()

    async def rescue(store: TaskStore) -> None:
        storage = storage_of(store)
        for _ in chunks(claims, 7):
            await storage.database.write(lambda: storage.tasks.rescue(dead, 7))
            if await store.tasks.count(status="pending"):
                rescued.set()
                await met.wait()
            await asyncio.sleep(0.002)

    async def finish(store: TaskStore) -> None:
        await met.wait()
        for some in chunks(claims[::-1], 5):
            recorded = await record(storage_of(store), some)
            lost.update(recorded)
            await asyncio.sleep(0.002)

    async def work(store: TaskStore) -> None:
        storage, me = storage_of(store), new_id()
        await rescued.wait()
        while await store.tasks.count(status="succeeded") < len(rows):
            mine = await storage.database.write(lambda: storage.tasks.claim(me, [("default", 3)], ["work"]))
            again.update(claim.id for claim in mine)
            assert mine or met.is_set(), "one at least is claimed again before its success is written"
            met.set()
            assert not await record(storage, mine)
            await asyncio.sleep(0.001)

    async with TaskStore(url) as second, TaskStore(url) as third, asyncio.TaskGroup() as group:
        for one, what in ((store, rescue), (second, finish), (third, work)):
            group.create_task(what(one))
        async with asyncio.timeout(LIMIT):
            while await store.tasks.count(status="succeeded") < len(rows):  # noqa: ASYNC110 - other stores do it
                await asyncio.sleep(0.02)

    assert await store.tasks.count(status=UNFINISHED) == 0
    assert await store.tasks.count(status="succeeded") == len(rows)
    assert lost == again, "a success is lost if, and only if, somebody had claimed the task again"
    assert lost
    assert {row.id for row in rows if row.on_stuck == 0} >= lost


async def test_a11_a_task_deleted_while_it_runs(store: TaskStore):
    """Its run finds nothing to write to, says so, and nobody else is disturbed."""
    let_go = asyncio.Event()

    @store.task
    async def waits() -> None:
        await let_go.wait()

    async with store.dispatcher(**SHORT):
        async with expect(store, *[TaskStarted] * 4):
            handles = [await waits.enqueue() for _ in range(4)]
        async with expect(store, ClaimLost, ClaimLost, TaskFinished, TaskFinished):
            assert await store.tasks.delete(handles[0].id, force=True)
            await store.tasks.cancel(handles[1].id, "by force", force=True)
            let_go.set()
        assert await (await store.enqueue("quick", {"number": 1})).result(timeout=LIMIT) == 1
    assert [await handle.status() for handle in handles] == [None, "cancelled", "succeeded", "succeeded"]


async def test_a14_a_crash_spends_no_task_at_once(url: str, store: TaskStore, crew: Crew, journal: Journal):
    """With `max_attempts=1` it is given two more chances, and then says why it failed."""
    handle = await store.enqueue("slow", {"seconds": 3600}, max_attempts=1)
    for run in range(1, 4):
        worker = crew.worker(url, **SHORT)
        await eventually(lambda: len(journal.starts(handle.id)) == run)  # noqa: B023 - asked here and now
        await crew.kill_and_end_lease(store, worker)
    crew.worker(url, **SHORT)
    task = await handle.wait(timeout=LIMIT)
    assert (task.status, task.finish_reason, task.attempt) == ("failed", "stuck", 3)
    assert [error.type for error in task.errors] == ["Stuck"] * 3


async def test_a15_what_cannot_be_read_stops_no_rescue(store: TaskStore):
    """Payloads that fit no handler, and aliases without one, among the tasks of a dead dispatcher."""
    payloads = ["[]", "null", "{}", '{"number": "words"}', '{"number": 1, "more": 2}']
    bad = [new_task(alias="quick", payload=payload) for payload in payloads]
    unknown = [new_task(alias="unheard_of") for _ in range(3)]
    good = [new_task(alias="quick", payload='{"number": 7}') for _ in range(5)]
    await claimed_by_the_dead(store, [*bad, *unknown, *good])
    failures: list[BackgroundFailed] = []
    store.on(BackgroundFailed, failures.append)
    async with store.dispatcher(**SHORT):
        for row in good:
            assert await store.handle(row.id).result(timeout=LIMIT) == 7
        for row in bad:
            task = await store.handle(row.id).wait(timeout=LIMIT)
            assert task.status == "failed"
            assert task.error is not None
            assert task.error.startswith("PayloadError")
        assert {await store.tasks.status(row.id) for row in unknown} == {"pending"}
    assert failures == []


async def test_b35_a_process_that_forks(url: str, crew: Crew, journal: Journal):
    """A child that opens a store of its own harms neither its parent's connections nor a file's locks."""
    program = crew.forker(url)
    assert await program.ends() == 0, program.text
    assert program.said("child") == ["child 2"]
    assert program.said("parent") == ["parent 4 4"]
    assert program.said("done")
    assert len(journal.ends()) == 4


@pytest.mark.parametrize("size", [1, 2])
async def test_b36_a_pool_of_one_connection(url: str, size: int):
    """Heartbeats, claims, progress, handlers that enqueue and hold a transaction: all of it gets its turn."""
    store = TaskStore(url, pool_size=size)

    @store.task
    async def leaf(number: int) -> int:
        await current_context().progress("here", fraction=0.5)
        return number

    @store.task
    async def branch(number: int) -> list[str]:
        first = await leaf.enqueue(number)
        async with store.transaction():
            second = await leaf.enqueue(number)
            await asyncio.sleep(0.002)
            assert await second.status() == "pending"
        current_context().info("both enqueued")
        return [str(first.id), str(second.id)]

    async with store, store.dispatcher(concurrency=20, heartbeat=0.2, lease=30, poll_interval=0.1):
        handles = await asyncio.gather(*(branch.enqueue(number) for number in range(40)))  # noqa: TID251 - short
        async with asyncio.timeout(LIMIT):
            for handle in handles:
                for child in await handle.result():
                    assert (await store.handle(child).wait()).status == "succeeded"
    # Opened again, and all of it there.
    async with store:
        assert await store.tasks.count(status="succeeded") == 120


async def test_b38_tables_are_found_whatever_the_search_path(postgresql_url: str, journal: Journal):
    await execute(postgresql_url, "CREATE SCHEMA jobs", "CREATE SCHEMA elsewhere")
    store = TaskStore(postgresql_url, schema="jobs")
    store.include(handlers(journal))
    async with set_on(postgresql_url, "search_path TO elsewhere"), store, store.dispatcher(poll_interval=300):
        for number in range(3):
            assert await (await store.enqueue("quick", {"number": number})).result(timeout=LIMIT) == number
        failing = await store.enqueue("flaky", {"failures": 2})
        assert (await failing.wait(timeout=LIMIT)).attempt == 3
        connection = await asyncpg.connect(postgresql_url)
        await connection.execute("SET search_path TO pg_catalog")
        async with connection.transaction():
            joined = await store.using(connection).enqueue("quick", {"number": 9})
        await connection.close()
        assert await joined.result(timeout=LIMIT) == 9
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname IN ('elsewhere', 'public')"
    assert await execute(postgresql_url, tables) == 0


async def test_b39_a_database_whose_default_is_serializable(postgresql_url: str, crew: Crew, journal: Journal):
    """Serialization failures are started again, everywhere."""
    serializable = set_on(postgresql_url, "default_transaction_isolation TO serializable")
    async with serializable, TaskStore(postgresql_url) as store:
        store.include(handlers(journal))
        workers = [crew.worker(postgresql_url, concurrency=20, poll_interval=0.2) for _ in range(3)]
        drafts = [store.draft("quick", {"number": number}) for number in range(500)]
        drafts += [store.draft("flaky", {"failures": 1}) for _ in range(100)]
        ids = await store.enqueue_many(drafts)
        ids += [(await store.enqueue("quick", {"number": n}, external_id=str(n))).id for n in range(50)]

        async def all_ended() -> bool:
            return await store.tasks.count(status="succeeded") == len(ids)

        await eventually(all_ended)
        await crew.stop(workers)
    assert sum(journal.counts().values()) == len(ids) + 100
    assert journal.overlaps() == []


async def test_f71_told_to_end_under_load(url: str, store: TaskStore, crew: Crew, journal: Journal):
    """Again and again, in the middle of the work: it ends in time, and leaves nothing running."""
    for _ in range(3):
        await store.enqueue_many([store.draft("slow", {"seconds": 0.02}) for _ in range(150)])
        before = len(journal.starts())
        worker = crew.worker(url, concurrency=20, grace=LIMIT)
        await eventually(lambda: len(journal.starts()) > before + 60)  # noqa: B023 - asked here and now
        worker.signal(signal.SIGTERM)
        assert await worker.ends() == 0
        assert worker.said("stopped", "drained")
        assert await store.tasks.count(status="running") == 0
        assert await store.tasks.count(status="succeeded") == len(journal.starts())
    crew.worker(url, concurrency=20)
    await eventually(lambda: len(journal.ends()) == 450)
    assert set(journal.counts().values()) == {1}


async def test_f74_columns_of_a_newer_version(url: str, store: TaskStore, crew: Crew, journal: Journal):
    """A newer version has added columns beneath a running worker, which goes on as if nothing had happened."""
    worker = crew.worker(url, poll_interval=0.2)
    await worker.receives("started")
    for number in range(12):  # until everything is prepared
        assert await (await store.enqueue("quick", {"number": number})).result(timeout=LIMIT) == number
    assert (await (await store.enqueue("flaky", {"failures": 1})).wait(timeout=LIMIT)).attempt == 2
    storage = storage_of(store)
    for table in ("tasks", "history", "dispatchers", "task_errors"):
        async with storage.database.session() as session:
            await session.script(f"ALTER TABLE aiotaskstore_{table} ADD COLUMN invented_later INTEGER DEFAULT 5")
    for number in range(12):
        assert await (await store.enqueue("quick", {"number": number})).result(timeout=LIMIT) == number
    assert (await (await store.enqueue("flaky", {"failures": 1})).wait(timeout=LIMIT)).attempt == 2
    assert not worker.said("trouble")


def chunks(claims: list[Claim], size: int) -> Iterable[list[Claim]]:
    return (claims[start : start + size] for start in range(0, len(claims), size))


async def record(storage: Storage, claims: list[Claim]) -> frozenset[UUID]:
    """Finish claims with a success each; gives those that were lost."""
    tasks: Tasks = storage.tasks
    if not claims:
        return frozenset()
    recorded = await storage.database.write(lambda: tasks.record([(claim, EMPTY) for claim in claims]))
    return recorded.lost


@asynccontextmanager
async def set_on(url: str, setting: str) -> AsyncIterator[None]:
    """Change a setting for whoever connects to a database."""
    name = url.rpartition("/")[2]
    await execute(url, f"ALTER DATABASE {name} SET {setting}")
    try:
        yield
    finally:
        await execute(url, f"ALTER DATABASE {name} RESET ALL")


async def execute(url: str, *statements: str) -> object:
    """Run statements on a connection of our own; gives the last one's first value."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()
