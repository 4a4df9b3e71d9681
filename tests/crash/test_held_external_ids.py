"""Somebody's open transaction holds an external id: only who wants that one waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Unpack

import pytest

from aiotaskstore import DatabaseUnavailableError, DuplicateTaskError, TaskHandle, TaskOptions, TaskStore
from tests.crash.crew import SHORT
from tests.crash.handlers import handlers
from tests.crash.journal import Journal
from tests.crash.transactions import rolled_back
from tests.helpers import LIMIT, Mine, my_connection

pytestmark = pytest.mark.crash


@pytest.fixture
def url(server_url: str) -> str:
    """The databases where many may write at once. On SQLite an open transaction stops every writer."""
    return server_url


@pytest.fixture
async def store(url: str, journal: Journal) -> AsyncIterator[TaskStore]:
    opened = TaskStore(url, pool_size=3)
    opened.include(handlers(journal))
    async with opened:
        yield opened


async def test_the_others_go_through_and_it_is_stored_once_it_is_free(url: str, store: TaskStore):
    async with asyncio.TaskGroup() as group, rolled_back(url) as connection:
        held = await store.using(connection).enqueue("quick", {"number": 0}, external_id="held")
        waiting = [group.create_task(_enqueue(store, "held")) for _ in range(3)]
        others = [group.create_task(_enqueue(store, name)) for name in ("a", "hel", "helc", "hele", "z")]
        async with asyncio.timeout(LIMIT):
            for other in others:
                await other
            await _enqueue(store, "later")
        assert not any(task.done() for task in waiting)
    handles = {task.result().id for task in waiting}
    assert len(handles) == 1
    assert held.id not in handles
    assert await store.tasks.count() == len(others) + 2


async def test_however_many_are_held_the_others_go_through(url: str, store: TaskStore):
    """They are tried on one connection, in vain, and without stalling the others."""
    names = [f"held {number}" for number in range(60)]
    async with asyncio.TaskGroup() as group, rolled_back(url) as connection:
        inside = store.using(connection)
        await inside.enqueue_many([inside.draft("quick", {"number": 0}, external_id=name) for name in names])
        waiting = [group.create_task(_enqueue(store, name)) for name in names]
        async with asyncio.timeout(LIMIT):
            async with asyncio.TaskGroup() as promptly:
                for number in range(60):
                    promptly.create_task(_enqueue(store, f"free {number}"))
            await store.enqueue("quick", {"number": 1})
            await store.tasks.count()
        assert not any(task.done() for task in waiting)
    assert await store.tasks.count() == 121


async def test_a_bulk_that_wants_it_holds_none_of_its_other_ids_meanwhile(url: str, store: TaskStore):
    drafts = [
        store.draft("quick", {"number": 1}, external_id=name, on_conflict="return")
        for name in ("before", "held", "next")
    ]
    async with asyncio.TaskGroup() as group, rolled_back(url) as connection:
        await store.using(connection).enqueue("quick", {"number": 0}, external_id="held")
        bulk = group.create_task(store.enqueue_many(drafts))
        await asyncio.sleep(0.3)  # so that it has met the held id
        async with TaskStore(url) as other:
            async with asyncio.timeout(LIMIT):
                first = await other.enqueue("quick", {"number": 2}, external_id="before", unchecked=True)
        assert not bulk.done()
    assert bulk.result()[0] == first.id
    assert await store.tasks.count() == 3


async def test_whoever_waits_for_it_gives_up_after_enqueue_timeout(url: str, journal: Journal):
    async with TaskStore(url, enqueue_timeout=0.7) as store, TaskStore(url) as patient:
        for one in (store, patient):
            one.include(handlers(journal))
        async with rolled_back(url) as connection:
            await patient.using(connection).enqueue("quick", {"number": 0}, external_id="held")
            for call in (
                lambda: _enqueue(store, "held"),
                lambda: store.enqueue_many([store.draft("quick", {"number": 1}, external_id="held")]),
            ):
                with pytest.raises(DatabaseUnavailableError, match="enqueue_timeout"):
                    await call()
        assert await store.tasks.count() == 0
        await _enqueue(patient, "held")


async def test_those_who_wait_for_it_are_served_in_order(url: str, store: TaskStore):
    async with asyncio.TaskGroup() as group, rolled_back(url) as connection:
        await store.using(connection).enqueue("quick", {"number": 0}, external_id="held")
        waiting = []
        for number in range(5):
            waiting.append(group.create_task(_enqueue(store, "held", number)))
            await asyncio.sleep(0.05)
    first = await store.tasks.require(waiting[0].result().id)
    assert first.payload == {"number": 0}


async def test_a_transaction_that_waits_for_it_is_ended_after_enqueue_timeout(url: str, journal: Journal):
    """Whatever the driver must do for that: afterwards the transaction works, or says that it does not."""
    async with TaskStore(url, enqueue_timeout=1) as store, TaskStore(url) as patient, AsyncExitStack() as stack:
        for one in (store, patient):
            one.include(handlers(journal))
        connection = await stack.enter_async_context(rolled_back(url))
        await patient.using(connection).enqueue("quick", {"number": 0}, external_id="held")
        mine = await stack.enter_async_context(my_connection(url))
        await mine.begin()
        async with asyncio.timeout(LIMIT):
            with pytest.raises(DatabaseUnavailableError):
                await store.using(mine.connection).enqueue("quick", {"number": 1}, external_id="held")
            if url.startswith("postgresql") or not mine.connection.closed:
                await patient.using(mine.connection).enqueue("quick", {"number": 1}, external_id="free")
                await mine.commit()
                assert await store.tasks.count() == 1
            await _enqueue(patient, "other")


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
async def test_asking_for_a_stored_one_does_not_keep_others_from_asking(url: str, store: TaskStore, isolation: str):
    stored = await _enqueue(store, "stored")
    async with my_connection(url) as mine:
        await _begin(mine, isolation)
        inside = store.using(mine.connection)
        again = await inside.enqueue("quick", {"number": 1}, external_id="stored", on_conflict="return")
        assert again.id == stored.id
        async with asyncio.timeout(LIMIT):
            assert (await _enqueue(store, "stored")).id == stored.id
        await mine.rollback()


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
async def test_one_that_was_enqueued_since_the_transactions_snapshot_is_a_duplicate(
    url: str, store: TaskStore, isolation: str
):
    async with my_connection(url) as mine:
        await _begin(mine, isolation)
        await mine.execute("SELECT count(*) FROM aiotaskstore_tasks")
        first = await _enqueue(store, "one", unique_while="live")
        inside = store.using(mine.connection)
        if url.startswith("postgresql") and isolation == "REPEATABLE READ":
            with pytest.raises(Exception, match="serializ"):  # the whole transaction must be started again
                await inside.enqueue("quick", {"number": 2}, external_id="one", unique_while="live")
            await mine.rollback()
        else:
            with pytest.raises(DuplicateTaskError) as caught:
                await inside.enqueue("quick", {"number": 2}, external_id="one", unique_while="live")
            assert caught.value.existing_id == first.id
            await mine.commit()
    assert await store.tasks.count(status="pending") == 1


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
async def test_one_that_has_ended_since_the_transactions_snapshot_is_free_and_nobody_waits(
    url: str, store: TaskStore, isolation: str
):
    first = await _enqueue(store, "one")
    async with my_connection(url) as mine:
        await _begin(mine, isolation)
        await mine.execute("SELECT count(*) FROM aiotaskstore_tasks")
        await store.tasks.cancel(first.id)
        inside = store.using(mine.connection)
        if url.startswith("postgresql") and isolation == "REPEATABLE READ":
            with pytest.raises(DuplicateTaskError):  # as the transaction sees it, the task still lives
                await inside.enqueue("quick", {"number": 2}, external_id="one", unique_while="live")
            await mine.rollback()
            return
        second = await inside.enqueue("quick", {"number": 2}, external_id="one", unique_while="live")
        async with asyncio.timeout(LIMIT):
            plain = await store.enqueue("quick", {"number": 3})
            await store.tasks.cancel(plain.id)
        await mine.commit()
    assert [task.id for task in await store.tasks.list(status="pending")] == [second.id]


async def test_what_the_transaction_itself_did_counts(url: str, store: TaskStore):
    first = await _enqueue(store, "one")
    async with my_connection(url) as mine:
        await _begin(mine, "REPEATABLE READ")
        inside = store.using(mine.connection)
        await inside.tasks.cancel(first.id)
        second = await inside.enqueue("quick", {"number": 2}, external_id="one", unique_while="live")
        again = await inside.enqueue(
            "quick", {"number": 3}, external_id="one", unique_while="live", on_conflict="return"
        )
        assert again.id == second.id
        async with asyncio.timeout(LIMIT):
            plain = await store.enqueue("quick", {"number": 3})
            await store.tasks.cancel(plain.id)
        await mine.commit()
    assert [task.id for task in await store.tasks.list(status="pending")] == [second.id]


async def test_one_that_was_revived_since_the_transactions_snapshot_is_not_given_away(url: str, store: TaskStore):
    first = await _enqueue(store, "one")
    await store.tasks.cancel(first.id)
    async with my_connection(url) as mine:
        await _begin(mine, "REPEATABLE READ")
        await mine.execute("SELECT count(*) FROM aiotaskstore_tasks")
        await store.tasks.retry(first.id)
        inside = store.using(mine.connection)
        with pytest.raises(Exception, match=r"serializ|exists already"):
            await inside.enqueue("quick", {"number": 2}, external_id="one", unique_while="live")
        await mine.rollback()
    assert await store.tasks.count(status="pending") == 1


@pytest.mark.parametrize("did", ["cancel", "retry", "delete"])
async def test_acting_on_a_finished_task_in_a_transaction_locks_nobody_out(url: str, store: TaskStore, did: str):
    """A locking read of a row that is not there locks the gap where everybody inserts."""
    done = await store.enqueue("quick", {"number": 1})
    await store.tasks.cancel(done.id)
    flaky = await store.enqueue("flaky", {"failures": 1}, max_attempts=1)
    async with my_connection(url) as mine:
        await _begin(mine, "REPEATABLE READ")
        inside = store.using(mine.connection)
        if did == "cancel":
            assert await inside.tasks.cancel(done.id, strict=False) is False
        elif did == "retry":
            await inside.tasks.retry(done.id)
        else:
            await inside.tasks.delete(done.id)
        async with asyncio.timeout(LIMIT):
            plain = await store.enqueue("quick", {"number": 3})
            await store.tasks.cancel(plain.id)
            await _enqueue(store, "another")
            async with store.dispatcher(**SHORT, poll_interval=0.1):
                assert (await flaky.wait()).errors
        await mine.rollback()


async def _begin(mine: Mine, isolation: str) -> None:
    if mine.dialect == "mysql":
        await mine.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
        await mine.begin()
    else:
        await mine.connection.execute(f"BEGIN ISOLATION LEVEL {isolation}")


async def _enqueue(store: TaskStore, name: str, number: int = 1, **options: Unpack[TaskOptions]) -> TaskHandle[Any]:
    options = {"on_conflict": "return", **options, "external_id": name}
    return await store.enqueue("quick", {"number": number}, **options)
