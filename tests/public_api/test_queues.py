"""`store.queues`: pausing, resuming and purging, and what dispatchers of every process make of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiotaskstore import (
    ConfigurationError,
    Dispatcher,
    DuplicateTaskError,
    TaskFinished,
    TaskStarted,
    TaskStatus,
    TaskStore,
    noop,
)
from aiotaskstore.dispatch import restriction_reader
from aiotaskstore.storage.restrictions import Restrictions
from tests.helpers import LIMIT, eventually, expect


def heeded(dispatcher: Dispatcher) -> Restrictions:
    """The restrictions that a running dispatcher knows."""
    assert dispatcher._instance is not None
    return dispatcher._instance.assembly.restrictions.current


async def test_a_paused_queue_keeps_its_tasks_until_it_is_resumed(store: TaskStore):
    @store.task
    async def work(queue: str) -> str:
        return queue

    async with store.dispatcher():
        assert await store.queues.pause("slow", "the printer is on fire")
        held = await work.options(queue="slow").enqueue("slow")
        later = await work.options(queue="slow", delay=0.05).enqueue("slow")
        assert await (await work.options(queue="quick").enqueue("quick")).result(timeout=LIMIT) == "quick"
        await eventually(lambda: _is(later, TaskStatus.PENDING))  # what becomes due is promoted all the same
        assert await (await work.options(queue="quick").enqueue("quick")).result(timeout=LIMIT) == "quick"
        assert await held.status() is TaskStatus.PENDING
        assert await store.queues.resume("slow")
        assert [await one.result(timeout=LIMIT) for one in (held, later)] == ["slow", "slow"]


async def test_a_pause_stops_nothing_that_runs(store: TaskStore):
    go = asyncio.Event()

    @store.task
    async def work() -> str:
        await go.wait()
        return "done"

    async with store.dispatcher(queues={"default": 1}):
        async with expect(store, TaskStarted):
            running = await work.enqueue()
        next_one = await work.enqueue()
        await store.queues.pause("default")
        go.set()
        assert await running.result(timeout=LIMIT) == "done"
        assert await next_one.status() is TaskStatus.PENDING
        await store.queues.resume("default")
        assert await next_one.result(timeout=LIMIT) == "done"


@pytest.mark.parametrize("named", [True, False], ids=["queues named", "every queue"])
async def test_a_pause_by_another_process_is_heeded_by_dispatchers_that_run(store: TaskStore, url: str, named: bool):
    @store.task
    async def work() -> None: ...

    async with TaskStore(url) as operator, store.dispatcher(queues=["a", "b"] if named else None) as dispatcher:
        await operator.queues.pause("a")
        await eventually(lambda: heeded(dispatcher).paused_queues == {"a"})
        held = await work.options(queue="a").enqueue()
        await (await work.options(queue="b").enqueue()).wait(timeout=LIMIT)
        assert await held.status() is TaskStatus.PENDING
        await operator.queues.resume("a")
        await held.wait(timeout=LIMIT)


@pytest.mark.parametrize("in_a_transaction", [False, True], ids=["", "in a transaction"])
async def test_on_postgresql_a_pause_is_heeded_at_once_everywhere(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch, in_a_transaction: bool
):
    """By a notification, also to dispatchers that are not asleep: nothing is read again by itself here."""
    monkeypatch.setattr(restriction_reader, "READ_EVERY", 3600)
    async with TaskStore(postgresql_url) as store, TaskStore(postgresql_url) as operator:

        @store.task
        async def work() -> None:
            await asyncio.Event().wait()

        async with store.dispatcher(grace=0) as dispatcher:
            async with expect(store, TaskStarted):
                await work.enqueue()
            if in_a_transaction:
                async with operator.transaction():
                    await operator.queues.pause("mail")
            else:
                await operator.queues.pause("mail")
            await eventually(lambda: heeded(dispatcher).paused_queues == {"mail"})
            await operator.queues.resume("mail")
            await eventually(lambda: not heeded(dispatcher).paused_queues)


async def test_one_pass_leaves_a_paused_queue_alone(store: TaskStore):
    @store.task
    async def work() -> None: ...

    await store.queues.pause("a")
    held = [await work.options(queue="a").enqueue() for _ in range(3)]
    await work.options(queue="b").enqueue()
    assert await store.dispatcher().run_once() == 1
    assert await store.dispatcher(queues=["a", "b"]).run_once(limit=5) == 0
    assert [await one.status() for one in held] == [TaskStatus.PENDING] * 3
    await store.queues.resume("a")
    assert await store.dispatcher(queues="a").run_once() == 3


async def test_pausing_twice_keeps_the_instant_and_takes_the_new_reason(store: TaskStore):
    assert await store.queues.pause("mail", "first")
    (first,) = await store.queues.list()
    assert not await store.queues.pause("mail", "second")
    (second,) = await store.queues.list()
    assert (first.name, first.paused, first.pause_reason) == ("mail", True, "first")
    assert (second.pause_reason, second.paused_at) == ("second", first.paused_at)
    assert second.paused_at is not None
    assert second.paused_at.tzinfo is not None
    assert await store.queues.resume("mail")
    assert not await store.queues.resume("mail")
    assert not await store.queues.resume("never seen")
    (resumed,) = await store.queues.list()
    assert (resumed.paused, resumed.paused_at, resumed.pause_reason) == (False, None, "")
    assert set(resumed.depth.values()) == {0}


async def test_an_empty_name_is_the_default_queue(store: TaskStore):
    await store.queues.pause("")
    await store.queues.pause(None)
    assert [one.name for one in await store.queues.list()] == ["default"]
    assert await store.queues.resume(None)
    assert await store.queues.purge("") == 0


async def test_two_who_pause_at_once_both_succeed(store: TaskStore, url: str):
    async with TaskStore(url) as other, asyncio.TaskGroup() as group:
        for manager in (store.queues, other.queues) * 4:
            group.create_task(manager.pause("mail"))
    assert [one.paused for one in await store.queues.list()] == [True]


async def test_a_pause_in_a_transaction_counts_once_that_commits(store: TaskStore):
    @store.task
    async def work() -> None: ...

    async with store.dispatcher() as dispatcher:
        with pytest.raises(RuntimeError):
            async with store.transaction():
                await store.queues.pause("default")
                raise RuntimeError
        await (await work.enqueue()).wait(timeout=LIMIT)
        async with store.transaction():
            await store.queues.pause("default")
        held = await work.enqueue()
        await eventually(lambda: heeded(dispatcher).paused_queues == {"default"})
        await (await work.options(queue="other").enqueue()).wait(timeout=LIMIT)
        assert await held.status() is TaskStatus.PENDING
        async with store.transaction():
            assert await store.queues.purge("default") == 1
    assert await held.status() is None


async def test_a_queue_that_is_paused_keeps_no_dispatcher_from_sleeping(postgresql_url: str):
    """Processes that enqueue notify only while a dispatcher has marked itself as idle."""
    async with TaskStore(postgresql_url) as other:

        @other.task
        async def work() -> None: ...

        await other.queues.pause("a")
        await work.options(queue="a").enqueue()
        async with other.dispatcher():
            await eventually(lambda: _is_idle(other))


async def test_a_purge_deletes_what_has_not_finished_and_does_not_run(store: TaskStore):
    go = asyncio.Event()

    @store.task(queue="mail")
    async def work() -> str:
        await go.wait()
        return "done"

    @store.task(queue="mail")
    async def broken() -> None:
        raise ValueError

    failed = await broken.enqueue()
    await store.dispatcher().run_once()
    elsewhere = await work.options(queue="other").enqueue()
    async with store.dispatcher(queues={"mail": 1}):
        async with expect(store, TaskStarted):
            running = await work.options(external_id="running").enqueue()
        pending = await work.options(external_id="one").enqueue()
        scheduled = await work.options(delay=3600, external_id="two").enqueue()
        assert await store.queues.purge("mail") == 2
        assert [await one.status() for one in (pending, scheduled)] == [None, None]
        assert [await one.status() for one in (elsewhere, failed)] == [TaskStatus.PENDING, TaskStatus.FAILED]
        await work.options(external_id="two", delay=3600).enqueue()  # the external ids are free again
        with pytest.raises(DuplicateTaskError):
            await work.options(external_id="running").enqueue()
        go.set()
        assert await running.result(timeout=LIMIT) == "done"
    assert await store.queues.purge("mail") == 1
    assert await store.queues.purge("mail") == 0


async def test_a_key_that_a_paused_queue_holds_is_free_once_that_is_purged(store: TaskStore):
    @store.task
    async def work() -> str:
        return "done"

    await store.queues.pause("mail")
    holder = await work.options(queue="mail", serialization_key="customer 1").enqueue()
    behind = await work.options(queue="mail", serialization_key="customer 1").enqueue()
    async with store.dispatcher():
        successor = await work.options(queue="other", serialization_key="customer 1").enqueue()
        await (await work.options(queue="other").enqueue()).wait(timeout=LIMIT)
        assert [await one.status() for one in (holder, successor)] == [TaskStatus.PENDING, TaskStatus.WAITING]
        assert await store.queues.purge("mail") == 2
        assert await successor.result(timeout=LIMIT) == "done"
    assert await behind.status() is None


async def test_what_is_soft_deleted_is_neither_counted_nor_purged(store: TaskStore):
    @store.task
    async def work() -> None: ...

    hidden = await work.enqueue()
    await store.tasks.soft_delete(hidden.id)
    assert [sum(one.depth.values()) for one in await store.queues.list()] in ([], [0])
    assert await store.queues.purge("default") == 0
    assert (await store.tasks.restore(hidden.id)).status is TaskStatus.PENDING


async def test_a_purge_of_many_goes_in_batches(store: TaskStore):
    @store.task
    async def work(number: int) -> None: ...

    await store.enqueue_many([work.draft(number) for number in range(2_300)])
    assert await store.queues.purge("default") == 2_300
    assert await store.tasks.count() == 0


@pytest.mark.acceptance("A20")
async def test_tasks_of_a_cancelled_definition_are_not_claimed_until_it_is_active(store: TaskStore, url: str):
    @store.task(former_aliases=["old_report"])
    async def report() -> str:
        return "report"

    @store.task
    async def other() -> str:
        return "other"

    held = [await report.enqueue(), await store.enqueue("old_report", {}, unchecked=True)]
    async with TaskStore(url) as operator:
        await _set_status(operator, "report", "cancelled")
        await other.enqueue()
        assert await store.dispatcher(on_missing="fail").run_once() == 1
        assert [await one.status() for one in held] == [TaskStatus.PENDING] * 2
        async with store.dispatcher() as dispatcher:
            await eventually(lambda: heeded(dispatcher).cancelled_aliases == {"report"})
            await (await other.enqueue()).wait(timeout=LIMIT)
            assert [await one.status() for one in held] == [TaskStatus.PENDING] * 2
            async with expect(store, TaskFinished, TaskFinished, status=TaskStatus.SUCCEEDED):
                await _set_status(operator, "report", "active")
    assert [await one.status() for one in held] == [TaskStatus.SUCCEEDED] * 2


async def test_a_definition_cancelled_here_is_claimed_no_more_from_that_moment_on(store: TaskStore):
    @store.task
    async def report() -> None: ...

    store.include(noop)
    async with store.dispatcher():
        await (await report.enqueue()).wait(timeout=LIMIT)
        held = await report.options(delay=3600).enqueue()
        await _set_status(store, "report", "cancelled")
        await store.tasks.reschedule(held.id, delay=0)
        await (await noop.enqueue()).wait(timeout=LIMIT)
        assert await held.status() is TaskStatus.PENDING


async def test_a_dispatcher_all_of_whose_definitions_are_cancelled_claims_nothing(store: TaskStore):
    @store.task
    async def only() -> None: ...

    held = await only.enqueue()
    await _set_status(store, "only", "cancelled")
    assert await store.dispatcher().run_once() == 0
    await _set_status(store, "only", "active")
    assert await store.dispatcher().run_once() == 1
    assert await held.status() is TaskStatus.SUCCEEDED


@pytest.mark.acceptance("A43")
async def test_dispatchers_run_only_the_queues_that_they_serve_and_are_listed_with_them(store: TaskStore):
    ran: list[tuple[str, str]] = []

    @store.task
    async def work(queue: str) -> None: ...

    store.on(TaskStarted, lambda event: ran.append((event.queue, str(event.task_id))))
    async with store.dispatcher(queues="a", name="one"), store.dispatcher(name="two", queues=["b", "c"]):
        handles = [await work.options(queue=queue).enqueue(queue) for queue in "aabbd"]
        for handle in handles[:4]:
            await handle.wait(timeout=LIMIT)
        assert await handles[4].status() is TaskStatus.PENDING
        assert {queue for queue, _ in ran} == {"a", "b"}
        listed = {one.name: [two.name for two in one.dispatchers] for one in await store.queues.list()}
        assert listed == {"a": ["one"], "b": ["two"], "d": []}
        async with store.dispatcher(name="all"):
            listed = {one.name: [two.name for two in one.dispatchers] for one in await store.queues.list()}
            assert listed == {"a": ["one", "all"], "b": ["two", "all"], "d": ["all"]}
    assert [one.dispatchers for one in await store.queues.list()] == [()] * 3


@pytest.mark.parametrize(
    ("name", "words"),
    [("x" * 101, "at most 100 characters"), ("a\0b", "NUL"), (3, "must be text"), ("\ud800", "surrogate")],
)
async def test_a_name_that_no_queue_can_have_is_refused(sqlite_url: str, name: Any, words: str):
    async with TaskStore(sqlite_url) as store:
        for call in (store.queues.pause, store.queues.resume, store.queues.purge):
            with pytest.raises(ConfigurationError, match=words):
                await call(name)
        assert await store.queues.list() == []


@pytest.mark.parametrize(("reason", "words"), [(None, "must be text"), ("\0", "NUL"), ("x" * 10_001, "10000")])
async def test_a_reason_that_cannot_be_stored_is_refused(sqlite_url: str, reason: Any, words: str):
    async with TaskStore(sqlite_url) as store:
        with pytest.raises(ConfigurationError, match=words):
            await store.queues.pause("mail", reason)
        assert await store.queues.list() == []


async def test_queues_of_a_closed_store_are_neither_paused_nor_purged(sqlite_url: str):
    store = TaskStore(sqlite_url)
    for call in (store.queues.pause, store.queues.resume, store.queues.purge):
        with pytest.raises(ConfigurationError, match="closed"):
            await call("mail")


async def _is(handle: Any, status: TaskStatus) -> bool:
    return bool(await handle.status() is status)


async def _is_idle(store: TaskStore) -> bool:
    opened = store._require_open()
    rows = await opened.storage.database.read(opened.storage.dispatchers.list)
    return [row.idle for row in rows] == [True]


async def _set_status(store: TaskStore, alias: str, status: str) -> None:
    definition = await store.definitions.get_by_alias(alias)
    assert definition is not None
    change = store.definitions.cancel if status == "cancelled" else store.definitions.activate
    await change(definition.id)
