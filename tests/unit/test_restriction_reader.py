"""A dispatcher never claims by restrictions that it could know are outdated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiotaskstore import DatabaseUnavailableError, TaskStore
from aiotaskstore.dispatch.restriction_reader import RestrictionReader
from aiotaskstore.mechanics.hint import ANY_QUEUE, RESTRICTIONS_CHANGED, SCHEDULED, Hint, queue_hint
from aiotaskstore.storage.restrictions import Restrictions


@pytest.fixture
async def store() -> AsyncIterator[TaskStore]:
    async with TaskStore("sqlite://") as opened:
        yield opened


def reader_of(store: TaskStore) -> tuple[RestrictionReader, list[Hint]]:
    woken: list[Hint] = []
    return RestrictionReader(store._require_open().storage, store._hooks, wake=woken.append, clock=lambda: 0.0), woken


async def test_nothing_is_claimed_before_the_first_read(store: TaskStore):
    reader, _ = reader_of(store)
    await store.queues.pause("mail")
    assert (await reader.latest()).paused_queues == {"mail"}


async def test_what_is_known_is_read_again_only_after_a_hint(store: TaskStore):
    reader, _ = reader_of(store)
    await reader.latest()
    await store.queues.pause("mail")
    reader.receive(SCHEDULED | ANY_QUEUE)
    assert (await reader.latest()).paused_queues == set()
    reader.receive(RESTRICTIONS_CHANGED)
    assert (await reader.latest()).paused_queues == {"mail"}


async def test_a_change_during_a_read_is_read_by_another_one(store: TaskStore, monkeypatch: pytest.MonkeyPatch):
    reader, _ = reader_of(store)
    database, reading, go = store._require_open().storage.database, asyncio.Event(), asyncio.Event()
    read = database.read

    async def slow(operation: Any, *, limit: float | None = None) -> Any:
        found = await read(operation, limit=limit)
        reading.set()
        await go.wait()
        return found

    monkeypatch.setattr(database, "read", slow)
    async with asyncio.TaskGroup() as group:
        group.create_task(reader.read_once())
        await reading.wait()
        monkeypatch.setattr(database, "read", read)
        await store.queues.pause("mail")
        reader.receive(RESTRICTIONS_CHANGED)
        claiming = group.create_task(reader.latest())
        await asyncio.sleep(0)
        go.set()
    assert claiming.result().paused_queues == {"mail"}
    assert reader.current.paused_queues == {"mail"}


async def test_a_read_that_fails_changes_nothing_of_what_is_known(store: TaskStore, monkeypatch: pytest.MonkeyPatch):
    reader, woken = reader_of(store)
    await store.queues.pause("mail")
    await reader.read_once()
    database = store._require_open().storage.database

    async def away(*_: Any, **__: Any) -> Any:
        raise DatabaseUnavailableError("away")

    with monkeypatch.context() as patch:
        patch.setattr(database, "read", away)
        with pytest.raises(DatabaseUnavailableError):
            await reader.read_once()
        assert (await reader.latest()).paused_queues == {"mail"}
        reader.receive(RESTRICTIONS_CHANGED)
        with pytest.raises(DatabaseUnavailableError):  # what may have changed is not known: nothing is claimed
            await reader.latest()
    await store.queues.resume("mail")
    assert (await reader.latest()).paused_queues == set()
    assert woken == [queue_hint("mail")]


async def test_what_is_lifted_wakes_the_claimer_and_what_is_added_does_not(store: TaskStore):
    reader, woken = reader_of(store)

    @store.task
    async def work() -> None: ...

    await store.dispatcher(queues="none").run_once()
    for name in ("a", "b"):
        await store.queues.pause(name)
    async with store.transaction() as connection:
        await connection.execute("UPDATE aiotaskstore_definitions SET status = 'cancelled'")
    await reader.read_once()
    assert reader.current == Restrictions(frozenset({"a", "b"}), frozenset({"work"}))
    assert woken == []
    await store.queues.resume("b")
    await reader.read_once()
    async with store.transaction() as connection:
        await connection.execute("UPDATE aiotaskstore_definitions SET status = 'active'")
    await reader.read_once()
    assert woken == [queue_hint("b"), ANY_QUEUE]
