"""How an operator says that a task ended, what arrives late, and a rescue that somebody asks for."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from aiotaskstore import (
    ClaimLost,
    ConfigurationError,
    InvalidQueryError,
    InvalidTransitionError,
    PayloadError,
    Retention,
    TaskFailedError,
    TaskFinished,
    TaskRescued,
    TaskStarted,
    TaskStatus,
    TaskStore,
)
from aiotaskstore.mechanics.ids import new_id
from tests.helpers import LIMIT, expect


@pytest.mark.acceptance("A21")
async def test_a_task_is_marked_as_succeeded_with_a_result_or_as_failed_with_a_reason(store: TaskStore):
    @store.task
    async def work() -> int:
        return 1

    good, bad, none = [await work.enqueue() for _ in range(3)]
    task = await store.tasks.mark_succeeded(good.id, 5)
    assert (task.status, task.result, task.finish_reason, task.attempt) == (TaskStatus.SUCCEEDED, 5, "forced", 0)
    assert task.finished_at is not None
    assert task.expires_at == task.finished_at + timedelta(days=7)
    assert await good.result() == 5
    task = await store.tasks.mark_failed(bad.id, "the printer burns")
    assert (task.status, task.error, task.finish_reason) == (TaskStatus.FAILED, "the printer burns", "forced")
    with pytest.raises(TaskFailedError, match="the printer burns"):
        await bad.result()
    assert (await store.tasks.mark_failed(none.id)).error == "marked as failed"
    assert await store.dispatcher().run_once() == 0


@pytest.mark.acceptance("A21")
async def test_a_finished_task_is_marked_otherwise(store: TaskStore):
    @store.task
    async def work(ok: bool) -> str:
        if not ok:
            raise ValueError("no good")
        return "mine"

    failed, succeeded, cancelled = await work.enqueue(False), await work.enqueue(True), await work.enqueue(True)
    await cancelled.cancel()
    await store.dispatcher().run_once()
    task = await store.tasks.mark_succeeded(failed.id, "after all")
    assert (task.status, task.result, task.error, len(task.errors)) == (TaskStatus.SUCCEEDED, "after all", None, 1)
    assert (await store.tasks.mark_succeeded(succeeded.id)).result == "mine"
    assert (await store.tasks.mark_succeeded(succeeded.id, "yours")).result == "yours"
    for act in (store.tasks.mark_succeeded, store.tasks.mark_failed):
        with pytest.raises(InvalidTransitionError, match="cancelled"):
            await act(cancelled.id)
    with pytest.raises(InvalidTransitionError, match="succeeded"):
        await store.tasks.mark_failed(succeeded.id)
    assert await store.tasks.mark_failed(where="all") == 0
    assert await store.tasks.mark_succeeded(where="all") == 0
    assert await store.tasks.retry(failed.id, force=True)
    assert await store.tasks.mark_failed(failed.id, "first")
    assert (await store.tasks.mark_failed(failed.id, "second")).error == "second"


async def test_many_are_marked_in_batches(store: TaskStore):
    await store.enqueue_many([store.draft("work", {"n": n}, unchecked=True) for n in range(1100)])
    assert await store.tasks.mark_failed(where={"alias": "work", "limit": 1050}, reason="all") == 1050
    assert await store.tasks.mark_succeeded(where={"status": "failed"}, result=[1]) == 1050
    assert await store.tasks.count(status="succeeded") == 1050
    assert (await store.tasks.list(status="succeeded", limit=1))[0].result == [1]


async def test_a_mark_follows_the_tasks_retention(store: TaskStore):
    kept = Retention(keep="failed", period=60, payload="failed")
    ids = await store.enqueue_many([store.draft("work", unchecked=True, retention=kept) for _ in range(3)])
    task = await store.tasks.mark_succeeded(ids[0], 1)
    assert (task.status, task.finish_reason) == (TaskStatus.SUCCEEDED, "forced")
    assert await store.tasks.get(ids[0]) is None
    failed = await store.tasks.mark_failed(ids[1])
    assert failed.payload == {}
    assert failed.finished_at is not None
    assert failed.expires_at == failed.finished_at + timedelta(seconds=60)
    assert await store.tasks.mark_succeeded(where={"id_in": ids}) == 2
    assert await store.tasks.count() == 0


async def test_a_result_that_its_handler_could_not_return_is_refused(store: TaskStore):
    @store.task
    async def work() -> int:
        return 1

    handle = await work.enqueue()
    other = await store.enqueue("other", unchecked=True)
    wrong: list[Any] = ["text", [1], {"a": 1}, object(), float("nan"), 10**5000]
    for result in wrong:
        with pytest.raises(PayloadError):
            await store.tasks.mark_succeeded(handle.id, result)
        with pytest.raises(PayloadError):
            await store.tasks.mark_succeeded(where="all", result=result)
    with pytest.raises(PayloadError):
        await store.tasks.mark_succeeded(other.id, "x" * 2_000_000)
    for reason in ("\0", "x" * 10_001, 7):
        with pytest.raises(ConfigurationError, match="reason"):
            await store.tasks.mark_failed(handle.id, reason)  # type: ignore[arg-type]
    assert await store.tasks.count(status="pending") == 2


async def test_a_running_task_that_is_marked_as_succeeded_has_lost_its_claim(store: TaskStore):
    let_go = asyncio.Event()

    @store.task
    async def work() -> str:
        await let_go.wait()
        return "the handler's"

    async with store.dispatcher(heartbeat=1, lease=30):
        async with expect(store, TaskStarted):
            handle = await work.enqueue()
        async with expect(store, ClaimLost, task_id=handle.id):
            await store.tasks.mark_succeeded(handle.id, "the operator's")
            let_go.set()
    assert await handle.result() == "the operator's"


async def test_a_success_that_comes_after_a_mark_as_failed_counts(store: TaskStore):
    let_go = asyncio.Event()

    @store.task
    async def work(ok: bool) -> str:
        await let_go.wait()
        if not ok:
            raise ValueError
        return "done"

    async with store.dispatcher(heartbeat=50, lease=600):
        async with expect(store, TaskStarted, TaskStarted):
            good, bad = await work.enqueue(True), await work.enqueue(False)
        async with expect(store, TaskFinished, task_id=good.id), expect(store, ClaimLost, task_id=bad.id):
            assert await store.tasks.mark_failed(where={"alias": "work"}, reason="forced") == 2
            let_go.set()
    task = await good.task()
    assert (task.status, task.result, task.finish_reason, task.error) == (TaskStatus.SUCCEEDED, "done", "ok", None)
    assert (await bad.task()).error == "forced"


async def claimed(store: TaskStore, count: int, **options: Any) -> list[Any]:
    """Have a dispatcher that died before its first heartbeat claim new tasks; return its claims."""
    drafts = [store.draft("work", unchecked=True, **options) for _ in range(count)]
    await store.enqueue_many(drafts)
    storage, queue = store._require_open().storage, options.get("queue", "default")
    return await storage.database.write(lambda: storage.tasks.claim(new_id(), [(queue, count)], ["work"]))


async def test_a_rescue_ends_the_runs_of_dead_dispatchers_of_one_queue_or_of_all(store: TaskStore):
    @store.task
    async def work() -> str:
        return "done"

    await claimed(store, 3, queue="a")
    await claimed(store, 2, queue="b")
    assert await store.tasks.rescue("c") == 0
    async with expect(store, *[TaskRescued] * 2):
        assert await store.tasks.rescue("b") == 2
    assert await store.tasks.count(queue="a", status="running") == 3
    assert await store.tasks.count(queue="b", status="pending") == 2
    assert await store.tasks.rescue() == 3
    assert await store.tasks.rescue() == 0
    assert await store.dispatcher().run_once() == 5
    assert {task.attempt for task in await store.tasks.list()} == {2}


@pytest.mark.acceptance("A90")
async def test_a_rescue_leaves_alone_what_lives_and_what_has_not_run_for_so_long(store: TaskStore):
    let_go = asyncio.Event()

    @store.task
    async def work() -> None:
        await let_go.wait()

    waiting = await work.options(delay=3600).enqueue()
    async with store.dispatcher(heartbeat=1, lease=600):
        async with expect(store, TaskStarted):
            running = await work.enqueue()
        assert await store.tasks.rescue() == 0
        assert await store.tasks.rescue("default", older_than=3600) == 0
        assert await running.status() is TaskStatus.RUNNING
        async with expect(store, ClaimLost, task_id=running.id):
            assert await store.tasks.rescue(older_than=0) == 1
        assert (await running.task()).errors[-1].type == "Stuck"
        let_go.set()
        assert (await running.wait(timeout=LIMIT)).attempt == 2, "it was claimed again"
    assert await waiting.status() is TaskStatus.SCHEDULED


async def test_a_rescue_that_cannot_be_meant_is_refused(store: TaskStore):
    for queue in ("", [], 7, ["a", ""]):
        with pytest.raises(InvalidQueryError, match="queue"):
            await store.tasks.rescue(queue)  # type: ignore[arg-type]
    for span in (-1, "1h", float("nan")):
        with pytest.raises(ConfigurationError, match="older_than"):
            await store.tasks.rescue(older_than=span)  # type: ignore[arg-type]
    claims = await claimed(store, 1)
    with pytest.raises(ZeroDivisionError):
        async with store.transaction():
            assert await store.tasks.rescue() == 1
            raise ZeroDivisionError
    assert await store.tasks.status(claims[0].id) is TaskStatus.RUNNING
