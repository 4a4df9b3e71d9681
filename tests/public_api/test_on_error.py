"""`on_error`: what goes wrong where no call of the application could raise it, from every loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import UUID

import pytest

from aiotaskstore import (
    ClaimLostError,
    ConfigurationError,
    DatabaseUnavailableError,
    TaskEnqueued,
    TaskFinished,
    TaskStarted,
    TaskStore,
    TaskStoreError,
    UnknownAliasError,
)
from tests.helpers import LIMIT, eventually, expect

Report = tuple[str | None, UUID | None, BaseException]


class Reports:
    """What `on_error` was called with."""

    def __init__(self) -> None:
        self.all: list[Report] = []
        self._arrived = asyncio.Event()

    def receive(self, queue: str | None, task_id: UUID | None, error: BaseException) -> None:
        self.all.append((queue, task_id, error))
        self._arrived.set()

    async def wait_for(self, condition: Callable[[Report], bool]) -> Report:
        async with asyncio.timeout(LIMIT):
            while True:
                self._arrived.clear()
                for report in self.all:
                    if condition(report):
                        return report
                await self._arrived.wait()


@asynccontextmanager
async def reporting(url: str) -> AsyncIterator[tuple[TaskStore, Reports]]:
    reports = Reports()
    async with TaskStore(url, on_error=reports.receive) as store:

        @store.task(queue="q")
        async def work() -> str:
            return "done"

        yield store, reports


@contextmanager
def failing_once(part: Any, operation: str) -> Iterator[None]:
    """Let an operation of the storage fail once, wherever it is called."""
    kind, works, left = type(part), getattr(type(part), operation), 1

    def fails(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        if left:
            left = 0
            raise DatabaseUnavailableError(f"no {operation}")
        return works(*arguments, **options)

    own = operation in vars(kind)
    setattr(kind, operation, fails)
    try:
        yield
    finally:
        if own:
            setattr(kind, operation, works)
        else:
            delattr(kind, operation)


@pytest.mark.parametrize(
    ("part", "operation"),
    [
        ("tasks", "promote"), ("tasks", "pending_queues"), ("tasks", "claim"), ("tasks", "record"),
        ("tasks", "clean"), ("tasks", "orphaned_dispatchers"),
        ("dispatchers", "heartbeat"),
    ],
)  # fmt: skip
@pytest.mark.acceptance("A71", "A130")
async def test_a_failure_in_a_loop_is_reported_and_the_loop_goes_on(url: str, part: str, operation: str):
    async with reporting(url) as (store, reports):
        storage = store._require_open().storage
        dispatcher = store.dispatcher(heartbeat=0.1, lease=5, healer=0.1, cleaner=0.1, poll_interval=0.1)
        with failing_once(getattr(storage, part), operation):
            async with dispatcher:
                handle = await store.enqueue("work")
                _, _, error = await reports.wait_for(lambda report: f"no {operation}" in str(report[2]))
                assert isinstance(error, DatabaseUnavailableError)
                assert await handle.result(timeout=LIMIT) == "done"
                assert await (await store.enqueue("work")).result(timeout=LIMIT) == "done"


async def test_a_failed_look_for_cancel_requests_is_reported_and_the_request_is_heeded(url: str):
    async with reporting(url) as (store, reports):

        @store.task
        async def waits() -> None:
            await asyncio.Event().wait()

        with failing_once(store._require_open().storage.tasks, "cancel_requests"):
            async with store.dispatcher():
                handle = await waits.enqueue()
                await reports.wait_for(lambda report: "no cancel_requests" in str(report[2]))
                await handle.cancel("enough")
                assert (await handle.wait(timeout=LIMIT)).cancel_reason == "enough"


@pytest.mark.acceptance("A71")
async def test_a_failed_look_for_those_who_wait_is_reported(url: str):
    async with reporting(url) as (store, reports):
        handle = await store.enqueue("work")
        with failing_once(store._require_open().storage.tasks, "finished_among"):
            async with asyncio.TaskGroup() as group:
                waiting = group.create_task(handle.result(timeout=LIMIT))
                await reports.wait_for(lambda report: "no finished_among" in str(report[2]))
                await store.dispatcher().run_once()
        assert waiting.result() == "done"


async def test_a_failure_to_wake_others_is_reported(postgresql_url: str):
    async with reporting(postgresql_url) as (store, reports):
        database = store._require_open().storage.database

        async def fails(_hint: object) -> None:
            raise DatabaseUnavailableError("no notify")

        database.notify = fails  # type: ignore[method-assign]
        await store.enqueue("work")
        await reports.wait_for(lambda report: str(report[2]) == "no notify")


@pytest.mark.acceptance("A130")
async def test_every_failed_attempt_is_reported_from_every_way_to_run(url: str):
    async with reporting(url) as (store, reports):

        @store.task(max_attempts=2, backoff=0, queue="q")
        async def fails() -> None:
            raise ValueError("no good")

        once = await fails.enqueue()
        await store.dispatcher().run_once()
        async with store.dispatcher():
            running = await fails.enqueue()
            await running.wait(timeout=LIMIT)
    seen = [(queue, task_id, str(error)) for queue, task_id, error in reports.all]
    assert seen == [("q", once.id, "no good")] * 2 + [("q", running.id, "no good")] * 2


async def test_a_task_that_nobody_can_run_is_reported_where_that_fails_it(url: str):
    async with reporting(url) as (store, reports):
        handle = await store.enqueue("unknown", unchecked=True, queue="q")
        await store.dispatcher(on_missing="fail").run_once()
        assert [(queue, task_id) for queue, task_id, _ in reports.all] == [("q", handle.id)]
        assert isinstance(reports.all[0][2], UnknownAliasError)


@pytest.mark.acceptance("A71")
async def test_an_outcome_that_the_database_refuses_is_reported(url: str):
    async with reporting(url) as (store, reports):
        tasks = store._require_open().storage.tasks
        handle = await store.enqueue("work")
        works, refused = type(tasks).record, 1

        def refuses(*arguments: Any, **options: Any) -> Any:
            nonlocal refused
            if refused:
                refused = 0
                raise TaskStoreError("refused")
            return works(*arguments, **options)

        type(tasks).record = refuses  # type: ignore[method-assign]
        try:
            await store.dispatcher().run_once()
        finally:
            type(tasks).record = works  # type: ignore[method-assign]
        assert [(queue, task_id, str(error)) for queue, task_id, error in reports.all] == [("q", handle.id, "refused")]
        assert (await handle.task()).finish_reason == "unstorable"


async def test_a_lost_claim_is_reported(url: str):
    async with reporting(url) as (store, reports):
        let_go = asyncio.Event()

        @store.task(queue="q")
        async def waits() -> None:
            await let_go.wait()

        async with store.dispatcher():
            async with expect(store, TaskStarted):
                handle = await waits.enqueue()
            await store.tasks.delete(handle.id, force=True)
            let_go.set()
            queue, task_id, _ = await reports.wait_for(lambda report: isinstance(report[2], ClaimLostError))
        assert (queue, task_id) == ("q", handle.id)


@pytest.mark.acceptance("A107")
async def test_what_could_not_be_enqueued_soon_is_reported_with_its_task(url: str):
    async with reporting(url) as (store, reports):
        handle = store.enqueue_soon(store.draft("unknown", unchecked=True, queue="q"))
        lost = store.enqueue_soon(store.draft("nowhere"))
        await store.flush()
        assert await handle.status() is not None
        assert [(queue, task_id) for queue, task_id, _ in reports.all] == [("default", lost.id)]
        assert isinstance(reports.all[0][2], UnknownAliasError)


async def test_a_listener_that_raises_is_reported_with_the_task_of_its_event(url: str):
    async with reporting(url) as (store, reports):

        @store.on(TaskEnqueued)
        def broken(event: TaskEnqueued) -> None:
            raise LookupError("at once")

        @store.on(TaskFinished)
        async def broken_later(event: TaskFinished) -> None:
            raise LookupError("later")

        handle = await store.enqueue("work")
        await store.dispatcher().run_once()
        for text in ("at once", "later"):
            queue, task_id, _ = await reports.wait_for(lambda report, text=text: str(report[2]) == text)  # type: ignore[misc]
            assert (queue, task_id) == ("q", handle.id)


async def test_on_error_may_be_a_coroutine_function_and_may_fail_itself(url: str, caplog: pytest.LogCaptureFixture):
    received: list[UUID | None] = []

    async def on_error(queue: str | None, task_id: UUID | None, error: BaseException) -> None:
        received.append(task_id)
        raise LookupError("the reporter is broken")

    store = TaskStore(url, on_error=on_error)

    @store.task
    async def work() -> None:
        raise ValueError("no good")

    async with store:
        handle = await work.enqueue()
        await store.dispatcher().run_once()
        await eventually(lambda: "the reporter is broken" in caplog.text)
        assert (await handle.task()).error == "ValueError: no good"
    assert received == [handle.id]


def test_on_error_must_be_a_function():
    with pytest.raises(ConfigurationError, match=r"on_error must be a function of \(queue, task_id, error\)"):
        TaskStore("sqlite://", on_error="log")  # type: ignore[arg-type]
