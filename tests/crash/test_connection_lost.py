"""Connections lost at the worst moment: the server did what it was asked, and its answer never came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from aiotaskstore import TaskHandle, TaskStore
from aiotaskstore.events import ClaimLost
from aiotaskstore.storage.postgresql import listener
from tests.crash.crew import SHORT
from tests.crash.handlers import handlers
from tests.crash.journal import Journal
from tests.crash.proxy import Cut, Link, Proxy, proxy
from tests.helpers import LIMIT, eventually

pytestmark = pytest.mark.crash

COMMIT = b"COMMIT"
MARK = "cut-me-here"
WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


@pytest.fixture
async def store(way: Proxy, journal: Journal) -> AsyncIterator[TaskStore]:
    opened = TaskStore(way.url)
    opened.include(handlers(journal))

    @opened.task
    async def marked(text: str) -> str:
        return text

    async with opened:
        yield opened


def _single_statement(way: Proxy) -> bool:
    """Whether a group commit is one statement that commits by itself."""
    return way.url.startswith("postgresql")


@pytest.mark.parametrize("forward", [True, False], ids=["committed", "not_committed"])
async def test_a_group_commit_is_read_back(way: Proxy, store: TaskStore, forward: bool):
    await store.enqueue("marked", {"text": "a first one, so that the statement is prepared"})
    if _single_statement(way):
        way.cuts.append(Cut(MARK.encode(), forward=forward))
    else:
        way.cuts.append(Cut(COMMIT, after=MARK.encode(), forward=forward))
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(store.enqueue("marked", {"text": f"{MARK} {n}"})) for n in range(20)]
    assert len(way.done) == 1
    await _stored_once(store, [call.result() for call in calls], 21)


@pytest.mark.parametrize("forward", [True, False], ids=["committed", "not_committed"])
async def test_so_is_one_of_external_ids(way: Proxy, store: TaskStore, forward: bool):
    taken = await store.enqueue("marked", {"text": "x"}, external_id="taken")
    way.cuts.append(Cut(COMMIT, after=MARK.encode(), forward=forward))
    async with asyncio.TaskGroup() as group:
        calls = [
            group.create_task(store.enqueue("marked", {"text": f"{MARK} {n}"}, external_id=f"id {n}"))
            for n in range(20)
        ]
        again = group.create_task(store.enqueue("marked", {"text": MARK}, external_id="taken", on_conflict="return"))
    assert len(way.done) == 1
    assert again.result().id == taken.id
    await _stored_once(store, [call.result() for call in calls], 21)
    for number, call in enumerate(calls):
        assert (await store.tasks.require(call.result().id)).external_id == f"id {number}"


@pytest.mark.parametrize("options", [{}, {"external_id": "mine"}], ids=["plain", "external_id"])
async def test_a_commit_that_comes_after_the_second_try_is_no_duplicate(
    postgresql_url: str, journal: Journal, options: Any
):
    """The server has not noticed yet that we are gone, and is still at it when we try again."""
    async with proxy(postgresql_url) as way, TaskStore(way.url) as store:
        store.include(handlers(journal))
        await store.enqueue("quick", {"number": 1})
        holder, watcher = await asyncpg.connect(postgresql_url), await asyncpg.connect(postgresql_url)
        await holder.execute("BEGIN; LOCK TABLE aiotaskstore_tasks IN SHARE MODE")  # inserts wait
        way.cuts.append(Cut(b"424242", at_once=True))
        async with asyncio.TaskGroup() as group:
            call = group.create_task(store.enqueue("quick", {"number": 424242}, **options))
            await eventually(lambda: _waiting(watcher, 1 if options else 2))
            if options:  # who wants an external id that is held waits for it only now and then
                await eventually(lambda: any(b"mine" in link.sent and not link.cutting for link in way.links))
            await holder.close()
            await watcher.close()
        await _stored_once(store, [call.result()], 2)


@pytest.mark.parametrize("forward", [True, False], ids=["committed", "not_committed"])
async def test_so_is_a_bulk(way: Proxy, store: TaskStore, forward: bool):
    taken = await store.enqueue("marked", {"text": "x"}, external_id="taken")
    drafts = [store.draft("marked", {"text": f"{MARK} {n}"}) for n in range(20)]
    drafts.append(store.draft("marked", {"text": MARK}, external_id="free"))
    drafts.append(store.draft("marked", {"text": MARK}, external_id="taken", on_conflict="return"))
    way.cuts.append(Cut(COMMIT, after=MARK.encode(), forward=forward))
    ids = await store.enqueue_many(drafts)
    assert len(way.done) == 1
    assert ids[-1] == taken.id
    assert len(set(ids)) == 22
    assert await store.tasks.count() == 22
    assert len(await store.tasks.list(id_in=ids)) == 22


@pytest.mark.parametrize("forward", [True, False], ids=["committed", "not_committed"])
async def test_a_claim_whose_answer_is_lost_runs_soon_and_once(
    way: Proxy, store: TaskStore, journal: Journal, forward: bool
):
    """The heartbeat's answer tells of it, long before any lease is over."""
    handle = await store.enqueue("quick", {"number": 7})
    if _single_statement(way):
        # The claim's parameters name the aliases that this store serves.
        way.cuts.append(Cut(b"talkative", after=b"SKIP LOCKED", forward=forward))
    else:
        way.cuts.append(Cut(COMMIT, after=b"SKIP LOCKED", forward=forward))
    async with store.dispatcher(heartbeat=0.2, lease=LIMIT, cleaner=False):
        assert await handle.result(timeout=LIMIT) == 7
    assert len(way.done) == 1
    task = await handle.task()
    assert (task.status, task.attempt) == ("succeeded", 1)
    assert len(journal.starts()) == 1


@pytest.mark.parametrize("forward", [True, False], ids=["committed", "not_committed"])
async def test_an_outcome_whose_answer_is_lost_is_written_once(
    way: Proxy, store: TaskStore, journal: Journal, forward: bool
):
    """Successes and retries, also where nothing but the fence tells whether they were written."""
    told: list[object] = []
    store.on(ClaimLost, told.append)
    drafts = [store.draft("marked", {"text": f"{MARK} {number}"}) for number in range(10)]
    drafts += [store.draft("flaky", {"failures": 1}) for _ in range(10)]
    ids = await store.enqueue_many(drafts)
    if _single_statement(way):
        way.cuts.append(Cut(MARK.encode(), after=b"DELETE FROM", forward=forward))  # the results, in finish
    way.cuts.append(Cut(COMMIT, after=b"_task_errors", forward=forward))
    async with store.dispatcher(**SHORT, concurrency=30):
        async with asyncio.timeout(LIMIT):
            for task_id in ids:
                await store.handle(task_id).wait()
    assert not way.cuts
    tasks = await store.tasks.list(id_in=ids)
    assert {task.status for task in tasks} == {"succeeded"}
    assert {task.attempt for task in tasks if task.alias == "marked"} == {1}
    assert {task.attempt for task in tasks if task.alias == "flaky"} == {2}
    assert {len(task.errors) for task in tasks if task.alias == "flaky"} == {1}
    assert set(journal.counts().values()) == {2}
    assert told == []


async def test_tasks_start_by_poll_while_the_listener_receives_nothing(postgresql_url: str, journal: Journal):
    """A half-open LISTEN connection: nothing comes, and nobody says so."""
    async with proxy(postgresql_url) as way, TaskStore(way.url) as store, TaskStore(postgresql_url) as other:
        store.include(handlers(journal))
        other.include(handlers(journal))
        async with store.dispatcher(poll_interval=0.5):
            assert await _runs(other, 1) == 1
            assert way.freeze(_listens) == 1
            for number in range(3):
                assert await _runs(other, number) == number
                await asyncio.sleep(0.3)  # longer than the first poll after work


@pytest.mark.slow
async def test_a_listener_that_receives_nothing_is_noticed_and_made_again(
    postgresql_url: str, journal: Journal, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(listener, "_PING", 0.2)
    async with proxy(postgresql_url) as way, TaskStore(way.url) as store, TaskStore(postgresql_url) as other:
        store.include(handlers(journal))
        other.include(handlers(journal))
        async with store.dispatcher(poll_interval=3600):
            assert await _runs(other, 1) == 1
            assert way.freeze(_listens) == 1
            await eventually(lambda: any(_listens(link) and not link.frozen for link in way.links))
            for number in range(3):
                assert await _runs(other, number) == number
                await asyncio.sleep(0.3)


def _listens(link: Link) -> bool:
    return b"LISTEN" in link.sent


async def _runs(store: TaskStore, number: int) -> object:
    return await (await store.enqueue("quick", {"number": number})).result(timeout=LIMIT)


async def _waiting(connection: asyncpg.Connection[asyncpg.Record], wanted: int) -> bool:
    """Whether so many sessions at least wait for a lock."""
    return bool(await connection.fetchval(WAITING) >= wanted)


async def _stored_once(store: TaskStore, found: list[TaskHandle[object]], total: int) -> None:
    ids: list[UUID] = [handle.id for handle in found]
    assert len(set(ids)) == len(ids)
    assert {task.id for task in await store.tasks.list(id_in=ids)} == set(ids)
    assert await store.tasks.count() == total
