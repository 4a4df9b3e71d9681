"""Events, listeners and errors: told once, to whoever listens, and harmless."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from aiotaskstore import (
    ClaimLost,
    DispatcherStarted,
    DispatcherStopped,
    Event,
    PayloadError,
    TaskClaimed,
    TaskEnqueued,
    TaskFinished,
    TaskRetried,
    TaskStarted,
    TaskStatus,
    TaskStore,
)
from aiotaskstore.events import TaskEvent
from tests.helpers import LIMIT, expect


async def test_every_step_of_a_task_is_told_once_and_in_order(store: TaskStore):
    @store.task(max_attempts=2, backoff=0)
    async def work(n: int) -> None:
        if n:
            raise ValueError("no good")

    received: list[TaskEvent] = []
    for kind in (TaskEnqueued, TaskClaimed, TaskStarted, TaskRetried, TaskFinished):
        store.on(kind, received.append)
    handle = await work.options(queue="q").enqueue(1)
    await store.dispatcher().run_once()
    # The next attempt may be claimed before the database's answer is here that the one before is stored.
    received[1:] = sorted(received[1:], key=lambda event: event.attempt)  # type: ignore[attr-defined]
    assert [type(event) for event in received] == [
        TaskEnqueued, TaskClaimed, TaskStarted, TaskRetried, TaskClaimed, TaskStarted, TaskFinished,
    ]  # fmt: skip
    assert {(event.task_id, event.alias, event.queue) for event in received} == {(handle.id, "work", "q")}
    retried, finished = received[3], received[6]
    assert isinstance(retried, TaskRetried)
    assert isinstance(finished, TaskFinished)
    assert (retried.attempt, retried.delay, retried.reason, str(retried.error)) == (1, 0, "error", "no good")
    assert (finished.attempt, finished.status, finished.reason) == (2, TaskStatus.FAILED, "exhausted")
    assert str(finished.error) == "no good"
    assert finished.took >= 0


async def test_the_end_is_told_once_it_is_stored(store: TaskStore):
    seen: asyncio.Queue[Any] = asyncio.Queue()

    @store.task
    async def work() -> str:
        return "done"

    async def look(event: TaskFinished) -> None:
        seen.put_nowait((await store.tasks.require(event.task_id)).result)

    store.on(TaskFinished, look)
    async with store.dispatcher(), asyncio.timeout(LIMIT):
        await work.enqueue()
        assert await seen.get() == "done"


async def test_events_tell_sizes_and_times(store: TaskStore):
    @store.task
    async def shout(word: str) -> str:
        return word * 2

    received: list[Any] = []
    for kind in (TaskEnqueued, TaskClaimed, TaskFinished):
        store.on(kind, received.append)
    due = datetime.now(UTC) - timedelta(hours=1)
    await shout.options(run_at=due).enqueue("жълъд")
    await store.dispatcher().run_once()
    enqueued, claimed, finished = received
    payload, result = '{"word":"жълъд"}'.encode(), '"жълъджълъд"'.encode()
    assert (enqueued.payload_size, enqueued.committed) == (len(payload), True)
    assert claimed.payload_size == len(payload)
    assert 3600 - 60 < claimed.wait < 3600 + LIMIT
    assert (finished.result_size, finished.undecodable) == (len(result), False)
    assert finished.took <= finished.end_to_end < LIMIT


async def test_what_a_transaction_enqueues_is_told_as_not_committed_yet(store: TaskStore):
    @store.task
    async def work() -> None: ...

    received: list[TaskEnqueued] = []
    store.on(TaskEnqueued, received.append)
    async with store.transaction():
        await work.enqueue()
        await store.enqueue_many([work.draft()])
    await work.enqueue()
    assert [event.committed for event in received] == [False, False, True]


async def test_a_payload_that_does_not_fit_is_told_apart_from_an_error_of_the_handler(sqlite_url: str):
    received: list[Any] = []
    async with TaskStore(sqlite_url) as enqueues:
        for alias in ("fails", "cancels", "retries"):
            await enqueues.enqueue(alias, {"text": "no number"}, unchecked=True, max_attempts=2)
    runs = TaskStore(sqlite_url)

    @runs.task(on_decode_error="fail")
    async def fails(number: int) -> None: ...

    @runs.task(on_decode_error="cancel")
    async def cancels(number: int) -> None: ...

    @runs.task(backoff=3600)
    async def retries(number: int) -> None: ...

    @runs.task(max_attempts=1)
    async def raises() -> None:
        raise PayloadError("of another payload")

    for kind in (TaskFinished, TaskRetried):
        runs.on(kind, received.append)
    async with runs:
        await raises.enqueue()
        await runs.dispatcher().run_once()
    told = {(event.alias, type(event).__name__, event.undecodable) for event in received}
    assert told == {
        ("fails", "TaskFinished", True), ("cancels", "TaskFinished", True), ("retries", "TaskRetried", True),
        ("raises", "TaskFinished", False),
    }  # fmt: skip


async def test_dispatchers_tell_when_they_start_and_stop(store: TaskStore):
    @store.task
    async def work() -> None: ...

    told = expect(store, DispatcherStarted, DispatcherStopped, name="mine")
    async with told as facts, store.dispatcher(name="mine") as dispatcher:
        identity = dispatcher.id
    started, stopped = facts
    assert isinstance(started, DispatcherStarted)
    assert isinstance(stopped, DispatcherStopped)
    assert (started.dispatcher_id, stopped.dispatcher_id, stopped.drained) == (identity, identity, True)
    assert started.waking in {"notify", "data_version", "poll", "memory"}


async def test_a_decorated_listener_is_called_and_stays_a_function(store: TaskStore):
    received = []

    @store.on(TaskEnqueued)
    def listen(event: TaskEnqueued) -> None:
        received.append(event.alias)

    @store.task
    async def work() -> None: ...

    await work.enqueue()
    assert received == ["work"]
    assert listen.__name__ == "listen"


async def test_a_listener_that_raises_is_logged_and_changes_nothing(store: TaskStore, caplog: pytest.LogCaptureFixture):
    received: list[Event] = []

    @store.task
    async def work() -> str:
        return "done"

    def broken(event: Event) -> None:
        raise LookupError("a broken listener")

    async def broken_later(event: Event) -> None:
        raise LookupError("a broken async listener")

    for kind in (TaskEnqueued, TaskClaimed, TaskStarted, TaskFinished, DispatcherStarted, DispatcherStopped):
        store.on(kind, broken)
        store.on(kind, broken_later)
        store.on(kind, received.append)
    async with store.dispatcher():
        assert await (await work.enqueue()).result(timeout=LIMIT) == "done"
    assert len(received) == 6
    assert "a broken listener" in caplog.text
    assert "a broken async listener" in caplog.text


@pytest.mark.acceptance("A130")
async def test_on_error_receives_every_failed_attempt(url: str):
    received: list[tuple[str | None, UUID | None, BaseException]] = []
    store = TaskStore(url, on_error=lambda queue, task_id, error: received.append((queue, task_id, error)))

    @store.task(max_attempts=2, backoff=0, queue="q")
    async def work() -> None:
        raise ValueError("no good")

    async with store:
        handle = await work.enqueue()
        await store.dispatcher().run_once()
    assert [(queue, task_id, str(error)) for queue, task_id, error in received] == [("q", handle.id, "no good")] * 2


async def test_failed_attempts_and_lost_claims_are_logged(store: TaskStore, caplog: pytest.LogCaptureFixture):
    let_go = asyncio.Event()

    @store.task
    async def lost() -> None:
        await let_go.wait()

    @store.task(max_attempts=2, backoff=3600)
    async def fails() -> None:
        raise ValueError("no good")

    with caplog.at_level(logging.INFO, "aiotaskstore"):
        await fails.enqueue()
        await store.dispatcher().run_once()
        async with store.dispatcher():
            async with expect(store, TaskStarted):
                handle = await lost.enqueue()
            async with expect(store, ClaimLost):
                await store.tasks.delete(handle.id, force=True)
                let_go.set()
    assert "no good" in caplog.text
    assert "the claim was lost" in caplog.text


@pytest.fixture
def sql_log() -> Iterator[logging.Logger]:
    logger = logging.getLogger("aiotaskstore.sql")
    before = logger.level
    logger.setLevel(logging.NOTSET)
    yield logger
    logger.setLevel(before)


async def test_debug_logs_the_sql(url: str, caplog: pytest.LogCaptureFixture, sql_log: logging.Logger):
    async with TaskStore(url, debug=True) as store:
        await store.tasks.count()
    assert "SELECT" in caplog.text
    assert sql_log.level == logging.DEBUG


async def test_an_application_that_logs_all_at_debug_gets_no_sql_unless_it_asks(
    sqlite_url: str, caplog: pytest.LogCaptureFixture, sql_log: logging.Logger
):
    with caplog.at_level(logging.DEBUG):
        async with TaskStore(sqlite_url) as store:
            await store.tasks.count()
            assert [one for one in caplog.records if one.name == sql_log.name] == []
            sql_log.setLevel(logging.DEBUG)
        async with TaskStore(sqlite_url) as store:
            await store.tasks.count()
    assert "SELECT" in caplog.text
