"""Who is alive, who is dead, and whose a task is when nobody can be sure."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import pytest

from aiotaskstore import (
    ClaimLost,
    DatabaseUnavailableError,
    TaskContext,
    TaskFinished,
    TaskHandle,
    TaskRescued,
    TaskRetried,
    TaskStarted,
    TaskStatus,
    TaskStore,
)
from aiotaskstore.dispatch.heartbeat import HeartbeatReply
from aiotaskstore.dispatch.reconciler import Reconciler
from aiotaskstore.dispatch.run import StopReason
from aiotaskstore.events import BackgroundFailed
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.storage.operation import Query, Rows, Steps
from aiotaskstore.storage.storage import Storage
from aiotaskstore.storage.tasks import Rescue
from aiotaskstore.task import Claim
from tests.helpers import LIMIT, ended, eventually, expect, kept_from_writing


@pytest.mark.acceptance("A89")
async def test_a_dispatcher_whose_loop_is_blocked_for_longer_than_its_lease_keeps_its_tasks(store: TaskStore, url: str):
    other = TaskStore(url)
    rescued: list[object] = []
    runs = []
    other.on(TaskRescued, rescued.append)

    async def block() -> str:
        runs.append(1)
        time.sleep(4.5)  # noqa: ASYNC251 - the fault that is meant
        return "mine"

    task = store.task(block)
    healing = threading.Thread(target=lambda: asyncio.run(_heal_for(other, 4.2, started)))
    started = threading.Event()
    store.on(TaskStarted, lambda _event: started.set())
    healing.start()
    try:
        async with store.dispatcher(heartbeat=0.2, lease=4, healer=False):
            handle = await task.enqueue()
            assert await handle.result(timeout=LIMIT) == "mine"
    finally:
        await asyncio.to_thread(healing.join)
    assert (rescued, runs) == ([], [1])
    assert (await handle.task()).attempt == 1


async def _heal_for(store: TaskStore, seconds: float, started: threading.Event) -> None:
    """Look for the dead again and again while the other loop is blocked; with a task that it never runs."""

    @store.task
    async def other() -> None: ...

    async with store, store.dispatcher(queues="other", heartbeat=0.05, lease=LIMIT, healer=0.05):
        await asyncio.to_thread(started.wait, LIMIT)
        await asyncio.sleep(seconds)


async def test_a_claim_whose_reply_was_lost_is_released_with_its_attempt(store: TaskStore):
    @store.task
    async def work() -> str:
        return "done"

    async with store.dispatcher(heartbeat=0.1, lease=LIMIT, queues="elsewhere") as dispatcher:
        assert dispatcher.id is not None
        handle = await work.enqueue()
        (claim,) = await _claim(store, dispatcher.id)  # it never hears of that
        assert claim.id == handle.id
        await eventually(lambda: _is_no_longer_running(store, handle.id))  # the release is told to nobody
        task = await handle.task()
        assert (task.status, task.attempt, task.errors) == (TaskStatus.PENDING, 0, [])
    assert await store.dispatcher().run_once() == 1


async def test_a_claim_whose_reply_takes_longer_than_some_heartbeats_is_not_released(
    store: TaskStore, monkeypatch: pytest.MonkeyPatch
):
    database, heartbeats = store._lifecycle.require_open().storage.database, asyncio.Queue[None]()
    write, replied = database.write, Reconciler.replied
    lost, runs = list[ClaimLost](), list[int]()
    store.on(ClaimLost, lost.append)

    async def write_slowly(operation: Any, **how: Any) -> Any:
        result = await write(operation, **how)
        if isinstance(result, list) and result and isinstance(result[0], Claim):
            heartbeats = watched()
            for _ in range(4):  # one may have been sent before the claim
                await heartbeats.get()
        return result

    def watched() -> asyncio.Queue[None]:
        while not heartbeats.empty():
            heartbeats.get_nowait()
        return heartbeats

    def reply(self: Reconciler, given: HeartbeatReply) -> None:
        replied(self, given)
        heartbeats.put_nowait(None)

    monkeypatch.setattr(database, "write", write_slowly)
    monkeypatch.setattr(Reconciler, "replied", reply)

    @store.task
    async def work(context: TaskContext) -> int:
        runs.append(context.attempt)
        return context.attempt

    async with store.dispatcher(heartbeat=0.1, lease=LIMIT):
        handle = await work.enqueue()
        assert await handle.result(timeout=LIMIT) == 1
    assert (lost, runs) == ([], [1])


async def test_a_dispatcher_that_has_sent_no_heartbeat_for_too_long_ends_its_runs_as_lost(store: TaskStore, url: str):
    seen = asyncio.Event()

    @store.task
    async def work(context: TaskContext) -> str:
        if context.attempt > 1 or seen.is_set():
            return "again"
        try:
            await asyncio.Event().wait()
        finally:
            assert context.cancelled
            seen.set()
        return "never"

    async with store.dispatcher(heartbeat=0.2, lease=1.5, healer=False):
        async with expect(store, ClaimLost):
            async with expect(store, TaskStarted):
                handle = await work.enqueue()
            async with kept_from_writing(url, "aiotaskstore_dispatchers"), asyncio.timeout(LIMIT):
                await seen.wait()
        # Once it is heard again, the row it no longer runs is released, and runs.
        assert await handle.result(timeout=LIMIT) == "again"


@pytest.mark.acceptance("A86", "A92")
async def test_a_dead_dispatchers_task_runs_again_elsewhere(store: TaskStore):
    @store.task
    async def work(context: TaskContext) -> int:
        return context.attempt

    dead = await _register(store, lease=0.1)
    handle = await work.enqueue()
    await _claim(store, dead)
    told = expect(store, TaskRescued, task_id=handle.id, dispatcher_id=dead)
    async with told, store.dispatcher(heartbeat=0.05, lease=LIMIT, healer=0.05):
        assert await handle.result(timeout=LIMIT) == 2
    task = await handle.task()
    assert [error.type for error in task.errors] == ["Stuck"]
    assert "died" in task.errors[0].message


@pytest.mark.acceptance("A85")
async def test_on_stuck_says_what_becomes_of_a_dead_dispatchers_task(store: TaskStore):
    @store.task(on_stuck="fail", max_attempts=5)
    async def failing() -> None: ...

    @store.task(on_stuck="interrupt", max_attempts=5)
    async def interrupted() -> None: ...

    dead = await _register(store, lease=0.1)
    ids = [(await failing.enqueue()).id, (await interrupted.enqueue()).id]
    await _claim(store, dead, limit=2)
    async with store.dispatcher(heartbeat=0.05, lease=LIMIT, healer=0.05):
        tasks = await ended(store, ids)
    assert [(task.status, task.finish_reason) for task in tasks] == [
        (TaskStatus.FAILED, "stuck"), (TaskStatus.INTERRUPTED, "interrupted"),
    ]  # fmt: skip


async def test_an_error_with_one_dead_dispatcher_is_told_and_the_others_are_rescued(store: TaskStore):
    @store.task
    async def work() -> str:
        return "done"

    dead = [await _register(store, lease=0.1) for _ in range(3)]
    handles = []
    for dispatcher in dead:
        handles.append(await work.enqueue())
        await _claim(store, dispatcher)
    tasks = _storage(store).tasks
    rescue, broken = tasks.rescue, min(dead)

    def rescue_others(dispatcher: UUID, limit: int, **seen: Any) -> Steps[list[Rescue]]:
        if dispatcher == broken:
            raise DatabaseUnavailableError("this one cannot be rescued")
        return rescue(dispatcher, limit, **seen)

    tasks.rescue = rescue_others  # type: ignore[method-assign]
    told = expect(store, BackgroundFailed, loop="healer")
    async with told, store.dispatcher(heartbeat=0.05, lease=LIMIT, healer=0.05):
        others = [handle for handle, dispatcher in zip(handles, dead, strict=True) if dispatcher != broken]
        assert [await handle.result(timeout=LIMIT) for handle in others] == ["done", "done"]


async def test_a_database_clock_that_jumps_ahead_by_a_lease_makes_nobody_dead(store: TaskStore, url: str):
    async with _two_dispatchers(store, url) as handle:
        await _run(store, _AN_HOUR_EARLIER[url.partition(":")[0]])
        await eventually(lambda: _run(store, _HEARTBEAT_LATELY[url.partition(":")[0]]))
    assert (await handle.task()).attempt == 1


async def test_a_dispatcher_whose_row_is_gone_is_not_rescued_before_it_could_register_again(store: TaskStore, url: str):
    async with _two_dispatchers(store, url):
        await _run(store, "DELETE FROM aiotaskstore_dispatchers WHERE name = 'runs'")
        await eventually(lambda: _run(store, "SELECT 1 FROM aiotaskstore_dispatchers WHERE name = 'runs'"))


_AN_HOUR_EARLIER = {
    "postgresql": "UPDATE aiotaskstore_dispatchers SET heartbeat_at = heartbeat_at - interval '1 hour'",
    "mysql": "UPDATE aiotaskstore_dispatchers SET heartbeat_at = heartbeat_at - INTERVAL 1 HOUR",
    "sqlite": "UPDATE aiotaskstore_dispatchers SET heartbeat_at = heartbeat_at - 3600000000",
}
"""What a clock that jumps ahead by an hour makes of what it wrote before."""
_HEARTBEAT_LATELY = {
    "postgresql": "SELECT 1 FROM aiotaskstore_dispatchers WHERE name = 'runs' "
    "AND heartbeat_at > now() - interval '10 minutes'",
    "mysql": "SELECT 1 FROM aiotaskstore_dispatchers WHERE name = 'runs' "
    "AND heartbeat_at > UTC_TIMESTAMP(6) - INTERVAL 10 MINUTE",
    "sqlite": "SELECT 1 FROM aiotaskstore_dispatchers WHERE name = 'runs' "
    "AND heartbeat_at > (julianday('now') - 2440587.5) * 86400000000 - 600000000",
}


@asynccontextmanager
async def _two_dispatchers(store: TaskStore, url: str) -> AsyncIterator[TaskHandle[str]]:
    """One runs a task, another looks for the dead all the time, and takes nobody for dead while the block lasts."""
    let_go = asyncio.Event()
    other = TaskStore(url)
    rescued: list[object] = []
    other.on(TaskRescued, rescued.append)

    @store.task
    async def work() -> str:
        await let_go.wait()
        return "done"

    @other.task
    async def unused() -> None: ...

    running = store.dispatcher(heartbeat=1, lease=LIMIT, healer=False, name="runs")
    looking = other.dispatcher(queues="none", heartbeat=0.05, lease=LIMIT, healer=0.02, name="looks")
    async with other, running, looking:
        async with expect(store, TaskStarted):
            handle = await work.enqueue()
        assert looking._instance is not None
        instance = looking._instance
        await eventually(lambda: instance.assembly.lease.replies_in_a_row > 3)
        yield handle
        assert rescued == []
        let_go.set()
        assert await handle.result(timeout=LIMIT) == "done"
    assert rescued == []


async def _run(store: TaskStore, sql: str) -> Rows:
    def ask() -> Steps[Rows]:
        return (yield Query(sql, {}))

    return await _storage(store).database.write(ask)


async def test_run_once_rescues_the_dead_too(store: TaskStore):
    @store.task
    async def work() -> str:
        return "done"

    handle = await work.enqueue()
    await _claim(store, new_id())  # a dispatcher that left no row
    assert await store.dispatcher().run_once() == 1
    assert await handle.result() == "done"


@pytest.mark.acceptance("A89")
async def test_a_dispatcher_that_lives_is_never_rescued(store: TaskStore):
    let_go = asyncio.Event()
    rescued: list[object] = []
    store.on(TaskRescued, rescued.append)

    @store.task
    async def work() -> str:
        await let_go.wait()
        return "done"

    async with store.dispatcher(heartbeat=0.05, lease=LIMIT):
        async with expect(store, TaskStarted):
            handle = await work.enqueue()
        for _ in range(3):
            await store.dispatcher(queues="other", heartbeat=0.05, lease=LIMIT).run_once()
        let_go.set()
        assert await handle.result(timeout=LIMIT) == "done"
    assert rescued == []


async def test_a_late_success_of_a_rescued_task_is_accepted_while_nobody_has_claimed_it(store: TaskStore):
    let_go = asyncio.Event()

    @store.task
    async def work() -> str:
        await let_go.wait()
        return "late"

    async with store.dispatcher(heartbeat=2 * LIMIT, lease=4 * LIMIT, healer=False, concurrency=1) as dispatcher:
        assert dispatcher.id is not None
        async with expect(store, TaskStarted):
            handle = await work.enqueue()
        await _declare_dead(store, dispatcher.id)
        async with expect(store, TaskFinished, status=TaskStatus.SUCCEEDED):
            let_go.set()  # before the next heartbeat: it knows nothing of its death
    assert await handle.result() == "late"


@pytest.mark.parametrize("rescued", [False, True], ids=["left alone", "rescued"])
async def test_a_late_success_counts_although_the_run_was_told_that_its_claim_is_lost(
    store: TaskStore,
    rescued: bool,
):
    let_go = threading.Event()

    @store.task
    def in_a_thread(context: TaskContext) -> str:
        while not context.cancelled:
            let_go.wait(0.01)
        assert let_go.wait(LIMIT)
        return "late"

    @store.task
    async def stubborn(context: TaskContext) -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await eventually(let_go.is_set)
        return f"late: {context.cancelled}"

    async with store.dispatcher(heartbeat=0.1, lease=60, healer=False, concurrency=2) as dispatcher:
        assert dispatcher.id is not None
        async with expect(store, TaskStarted, TaskStarted):
            handles = [await in_a_thread.enqueue(), await stubborn.enqueue()]
        instance = dispatcher._instance
        assert instance is not None
        if rescued:
            # Nobody else claims them, and neither do we: they stay where the rescue has put them.
            dispatcher.begin_stop(LIMIT)
            await _declare_dead(store, dispatcher.id)
            await eventually(lambda: all(run.stopping for run in instance.in_flight.runs.values()))
        else:
            instance.in_flight.stop(StopReason.LOST)  # what the guard does at the end of the lease
        async with expect(store, TaskFinished, TaskFinished, status=TaskStatus.SUCCEEDED):
            let_go.set()
    assert [await handle.result() for handle in handles] == ["late", "late: True"]


async def test_a_value_that_comes_after_the_slot_was_taken_from_a_lost_run_counts_too(store: TaskStore):
    let_go = threading.Event()

    @store.task
    async def stubborn() -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await eventually(let_go.is_set)
        return "very late"

    async with store.dispatcher(heartbeat=30, lease=60, healer=False, stuck_grace=0.05) as dispatcher:
        async with expect(store, TaskStarted):
            handle = await stubborn.enqueue()
        async with expect(store, ClaimLost):
            assert dispatcher._instance is not None
            dispatcher._instance.in_flight.stop(StopReason.LOST)
        async with expect(store, TaskFinished, status=TaskStatus.SUCCEEDED):
            let_go.set()
    assert await handle.result() == "very late"


async def test_a_disowned_dispatcher_ends_its_runs_and_goes_on_under_its_identity(store: TaskStore):
    first = asyncio.Event()
    cancelled = []

    @store.task(max_attempts=3)
    async def work() -> str:
        if first.is_set():
            return "second run"
        first.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise
        return "never"

    async with store.dispatcher(heartbeat=0.1, lease=LIMIT, healer=False, queues="default") as dispatcher:
        assert dispatcher.id is not None
        async with expect(store, ClaimLost):
            async with expect(store, TaskStarted):
                handle = await work.enqueue()
            identity = dispatcher.id
            await _declare_dead(store, identity)
        assert await handle.result(timeout=LIMIT) == "second run"
        assert dispatcher.id == identity
        assert await (await work.enqueue()).result(timeout=LIMIT) == "second run"
    assert cancelled == [1]


async def test_a_database_that_is_away_for_a_while_stops_no_dispatcher(store: TaskStore, url: str):
    @store.task
    async def work(n: int) -> int:
        return n

    async with store.dispatcher(heartbeat=0.1, lease=1, poll_interval=0.2):
        before = await work.enqueue(1)
        assert await before.result(timeout=LIMIT) == 1
        async with kept_from_writing(url, "aiotaskstore_tasks", "aiotaskstore_dispatchers", "aiotaskstore_history"):
            handles = [asyncio.ensure_future(work.enqueue(n)) for n in range(5)]  # noqa: TID251
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.2):  # longer than the lease
                    await asyncio.Event().wait()
        tasks = await ended(store, [(await handle).id for handle in handles])
        assert sorted(task.result for task in tasks) == list(range(5))
        assert {task.status for task in tasks} == {TaskStatus.SUCCEEDED}


@pytest.mark.acceptance("A71")
async def test_an_outcome_whose_write_fails_for_a_while_is_written_in_the_end(store: TaskStore, url: str):
    let_go = asyncio.Event()

    @store.task(max_attempts=2)
    async def work() -> str:
        await let_go.wait()
        return "kept"

    async with store.dispatcher(heartbeat=5, lease=60):
        async with expect(store, TaskStarted):
            handle = await work.enqueue()
        async with kept_from_writing(url, "aiotaskstore_history", "aiotaskstore_tasks"):
            let_go.set()
            with pytest.raises(TimeoutError):
                await handle.wait(timeout=0.2)
        assert await handle.result(timeout=LIMIT) == "kept"
    assert (await handle.task()).attempt == 1


async def test_a_snoozed_or_retried_task_of_a_run_is_told_with_its_wait(store: TaskStore):
    @store.task(max_attempts=2, backoff=3600)
    async def work() -> None:
        raise ValueError("later")

    async with expect(store, TaskRetried, reason="error") as facts:
        handle = await work.enqueue()
        await store.dispatcher().run_once()
    (fact,) = facts
    assert isinstance(fact, TaskRetried)
    assert (fact.task_id, fact.delay, str(fact.error)) == (handle.id, 3600, "later")


async def _is_no_longer_running(store: TaskStore, task_id: UUID) -> bool:
    return await store.tasks.status(task_id) is not TaskStatus.RUNNING


def _storage(store: TaskStore) -> Storage:
    return store._require_open().storage


async def _claim(store: TaskStore, dispatcher: UUID, limit: int = 1) -> list[Claim]:
    """Claim as a dispatcher would, and then say nothing."""
    storage = _storage(store)
    aliases = [definition.alias for definition in store.handlers]
    return await storage.database.write(lambda: storage.tasks.claim(dispatcher, [("default", limit)], aliases))


async def _register(store: TaskStore, lease: float) -> UUID:
    storage, dispatcher = _storage(store), new_id()
    await storage.database.write(
        lambda: storage.dispatchers.register(dispatcher, name="dead", host="gone", pid=1, lease=lease)
    )
    return dispatcher


async def _declare_dead(store: TaskStore, dispatcher: UUID) -> None:
    """Do what a healer elsewhere would do to a dispatcher that has been silent for its lease."""
    storage = _storage(store)
    await storage.database.write(lambda: storage.dispatchers.deregister(dispatcher))
    await storage.database.write(lambda: storage.tasks.rescue(dispatcher, 100))


async def test_a_run_whose_task_was_taken_away_by_force_is_cancelled_with_the_next_heartbeat(store: TaskStore):
    seen = asyncio.Event()

    @store.task
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.set()

    async with store.dispatcher(heartbeat=0.1, lease=LIMIT):
        for take in (store.tasks.delete, store.tasks.cancel):
            seen.clear()
            async with expect(store, TaskStarted):
                handle = await work.enqueue()
            async with expect(store, ClaimLost, task_id=handle.id), asyncio.timeout(LIMIT):
                await take(handle.id, force=True)
                await seen.wait()
