"""Dispatchers record their version; what one of an older version ignores is said by its name until it is gone."""

from __future__ import annotations

import logging
from importlib.metadata import version
from uuid import UUID

import pytest

from aiotaskstore import DispatcherOutdated, TaskStore
from aiotaskstore.dispatch import restriction_reader
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.storage.operation import Query, Rows, Steps
from tests.helpers import eventually, expect


async def test_a_dispatcher_records_its_version_and_what_it_serves(store: TaskStore):
    @store.task(former_aliases=["old"])
    async def work() -> None: ...

    async with store.dispatcher(queues={"b": 1, "a": 2}), store.dispatcher(name="all"):
        some, everything = await store.dispatchers.list()
        assert some.version == everything.version == version("aiotaskstore")
        assert (some.queues, some.aliases) == (("a", "b"), ("work", "old"))
        assert (some.serves("a"), some.serves("c")) == (True, False)
        assert (everything.queues, everything.serves("c")) == (None, True)


async def test_a_dispatcher_of_a_later_version_that_records_more_is_listed_all_the_same(store: TaskStore):
    await _register_older(store, "newer")
    serves = '{"queues": ["a"], "aliases": ["b"], "more": {}}'
    await _sql(store, "UPDATE aiotaskstore_dispatchers SET version = '9.9', serves = :serves", serves=serves)
    (listed,) = await store.dispatchers.list()
    assert (listed.version, listed.queues, listed.aliases) == ("9.9", ("a",), ("b",))


async def test_whoever_pauses_is_told_of_older_dispatchers_that_ignore_it(
    store: TaskStore, caplog: pytest.LogCaptureFixture
):
    older, dead = await _register_older(store, "veteran"), await _register_older(store, "dead", lease=-1)
    with caplog.at_level(logging.WARNING, "aiotaskstore"):
        async with expect(store, DispatcherOutdated, dispatcher_id=older) as events:
            await store.queues.pause("mail")
    (event,) = events
    assert isinstance(event, DispatcherOutdated)
    assert (event.name, event.host, event.pid, event.version) == ("veteran", "old-host", 7, None)
    assert "paused queues (now mail)" in event.ignored
    assert "cancelled definitions" in event.ignored
    (record,) = [one for one in caplog.records if "veteran" in one.getMessage()]
    assert record.levelno == logging.WARNING
    assert str(older) in record.getMessage()
    assert "an older version of aiotaskstore" in record.getMessage()
    assert "paused queues (now mail)" in record.getMessage()
    assert str(dead) not in caplog.text
    (listed,) = [one for one in await store.dispatchers.list() if one.name == "veteran"]
    assert (listed.version, listed.queues, listed.serves("mail")) == (None, None, True)
    assert [one.name for queue in await store.queues.list() for one in queue.dispatchers] == ["veteran"]


async def test_every_dispatcher_warns_of_an_older_one_again_until_it_is_gone(
    store: TaskStore, monkeypatch: pytest.MonkeyPatch
):
    @store.task
    async def work() -> None: ...

    monkeypatch.setattr(restriction_reader, "WARN_EVERY", 0.0)
    monkeypatch.setattr(restriction_reader, "READ_EVERY", 0.01)
    older = await _register_older(store, "veteran")
    warnings: list[DispatcherOutdated] = []
    store.on(DispatcherOutdated, warnings.append)
    async with store.dispatcher() as dispatcher:
        await eventually(lambda: len(warnings) >= 3)
        assert {one.dispatcher_id for one in warnings} == {older}
        await _sql(store, "DELETE FROM aiotaskstore_dispatchers WHERE id = :id", id=older)
        assert dispatcher._instance is not None
        reader = dispatcher._instance.assembly.restrictions
    warnings.clear()
    await reader.read_once()  # beside no other read, which may have begun before it was gone
    assert warnings == []


async def test_a_dispatcher_warns_of_an_older_one_at_most_once_a_minute(store: TaskStore):
    await _register_older(store, "veteran")
    warnings: list[DispatcherOutdated] = []
    store.on(DispatcherOutdated, warnings.append)
    now = 1000.0
    storage = store._require_open().storage
    reader = restriction_reader.RestrictionReader(storage, store._hooks, wake=lambda _hint: None, clock=lambda: now)
    for seconds in (0, 1, 58.9, 0.2, 59, 1):
        now += seconds
        await reader.read_once()
    assert len(warnings) == 3


async def test_dispatchers_of_this_version_are_warned_of_by_nobody(store: TaskStore):
    @store.task
    async def work() -> None: ...

    warnings: list[DispatcherOutdated] = []
    store.on(DispatcherOutdated, warnings.append)
    async with store.dispatcher(), store.dispatcher():
        await store.queues.pause("mail")
        await store.queues.resume("mail")
    assert warnings == []


async def _register_older(store: TaskStore, name: str, *, lease: float = 3600) -> UUID:
    """Write the row of a dispatcher as the version before wrote it."""
    dispatcher = new_id()
    await _sql(
        store,
        "INSERT INTO aiotaskstore_dispatchers (id, name, host, pid, lease, started_at, heartbeat_at) "
        f"VALUES (:id, :name, 'old-host', 7, {lease}, :now, :now)",
        id=dispatcher, name=name,
    )  # fmt: skip
    return dispatcher


async def _sql(store: TaskStore, text: str, **params: object) -> None:
    def run() -> Steps[Rows]:
        return (yield Query(text, params))

    await store._require_open().storage.database.write(run)
