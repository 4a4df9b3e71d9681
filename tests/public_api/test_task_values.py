"""What a task says of itself, from its beginning to its end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC
from typing import Any

import pytest

from aiotaskstore import Queue, Retry, TaskContext, TaskStatus, TaskStore, current_context
from tests.helpers import LIMIT


@pytest.mark.acceptance("A11")
async def test_a_new_task_says_nothing_that_nobody_has_said(store: TaskStore):
    @store.task
    async def work() -> None: ...

    for handle in (
        await work.enqueue(),
        await work.options(queue=None).enqueue(),
        await work.options(queue="").enqueue(),
    ):
        task = await handle.task()
        assert (task.status, task.queue, task.payload, task.attempt) == (TaskStatus.PENDING, "default", {}, 0)
        assert (task.max_attempts, task.priority, task.timeout, task.metadata) == (1, 0, None, {})
        nothing = ("result error progress owner source parent_id external_id serialization_key finish_reason "
                   "cancel_reason cancel_requested_at dispatcher_id started_at finished_at cancelled_at expires_at "
                   "deleted_at")  # fmt: skip
        assert {name: getattr(task, name) for name in nothing.split()} == dict.fromkeys(nothing.split())
        assert (task.errors, task.details) == ([], "")
        assert task.created_at == task.updated_at == task.run_at
        assert task.created_at.tzinfo is UTC


@pytest.mark.acceptance("A12", "A100")
async def test_a_task_has_one_status_and_it_is_seen_as_it_changes(store: TaskStore):
    running, let_go = asyncio.Event(), asyncio.Event()

    @store.task
    async def work(*, fails: bool) -> None:
        running.set()
        await let_go.wait()
        if fails:
            raise ValueError("no good")

    handle, other = await work.enqueue(fails=False), await work.options(delay=3600).enqueue(fails=True)
    assert await store.tasks.status("01a1ffd8-2c12-72be-b593-945095dbcb06") is None
    assert (await handle.status(), await other.status()) == (TaskStatus.PENDING, TaskStatus.SCHEDULED)
    async with store.dispatcher(), asyncio.timeout(LIMIT):
        await running.wait()
        assert await handle.status() is TaskStatus.RUNNING
        let_go.set()
        await handle.wait()
        await store.tasks.retry(other.id)
        await other.wait()
    assert (await handle.status(), await other.status()) == (TaskStatus.SUCCEEDED, TaskStatus.FAILED)
    for status in TaskStatus:
        found = [task.id for task in await store.tasks.list(status=status)]
        assert found == {TaskStatus.SUCCEEDED: [handle.id], TaskStatus.FAILED: [other.id]}.get(status, [])
        assert status.finished is (status in {"succeeded", "failed", "cancelled", "interrupted"})


@pytest.mark.acceptance("A13")
async def test_lines_of_details_are_kept_in_the_order_of_their_appending_over_all_attempts(store: TaskStore):
    @store.task(max_attempts=2, backoff=0)
    async def work(context: TaskContext) -> None:
        context.info(f"attempt {context.attempt}")
        context.error("second")
        if context.attempt == 1:
            raise ValueError("no good")

    handle = await work.enqueue()
    await store.dispatcher().run_once()
    assert (await handle.task()).details.splitlines() == ["attempt 1", "second", "attempt 2", "second"]


@pytest.mark.acceptance("A32")
async def test_with_one_slot_tasks_run_one_after_the_other(store: TaskStore):
    running, most, order = 0, 0, list[int]()

    @store.task
    async def work(n: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        order.append(n)
        await asyncio.sleep(0.02)
        running -= 1

    await store.enqueue_many([work.draft(n) for n in range(5)])
    assert await store.dispatcher(concurrency=1).run_once() == 5
    assert (most, order) == (1, [0, 1, 2, 3, 4])


@pytest.mark.acceptance("A33")
async def test_with_three_slots_three_run_at_once_and_never_four(store: TaskStore):
    running, most, three = 0, 0, asyncio.Event()

    @store.task
    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            three.set()
        await three.wait()
        await asyncio.sleep(0.01)
        running -= 1

    handles = [await work.enqueue() for _ in range(6)]
    async with asyncio.timeout(LIMIT):
        assert await store.dispatcher(concurrency=3).run_once() == 6
    assert most == 3
    assert {await handle.status() for handle in handles} == {TaskStatus.SUCCEEDED}


@pytest.mark.acceptance("A56")
async def test_without_a_timeout_no_limit_is_set(store: TaskStore):
    @store.task
    async def work() -> bool:
        assert current_context().task.timeout is None
        return store._require_open() is not None

    handle = await work.enqueue()
    async with store.dispatcher() as dispatcher:
        assert await handle.result(timeout=LIMIT)
        instance = dispatcher._instance
        assert instance is not None
        assert all(run.deadline == float("inf") for run in instance.in_flight.runs.values())
    limited = Queue("limited", timeout=5)
    assert limited.timeout == 5


@pytest.mark.acceptance("A49", "A57")
async def test_each_failed_attempt_adds_one_error_and_a_success_none(store: TaskStore):
    @store.task(max_attempts=3, backoff=0)
    async def work() -> str:
        attempt = current_context().attempt
        if attempt < 3:
            raise Retry(f"attempt {attempt}") if attempt == 2 else ValueError(f"attempt {attempt}")
        return "done"

    handle = await work.enqueue()
    await store.dispatcher().run_once()
    task = await handle.task()
    assert [(one.attempt, one.type, one.message) for one in task.errors] == [
        (1, "ValueError", "attempt 1"), (2, "Retry", "attempt 2"),
    ]  # fmt: skip
    assert task.errors[0].at <= task.errors[1].at
    assert (task.status, task.attempt, task.result) == (TaskStatus.SUCCEEDED, 3, "done")

    @store.task(max_attempts=2, backoff=0)
    async def fails() -> None:
        raise ValueError("no good")

    handle_of_none = await fails.enqueue()
    await store.dispatcher().run_once()
    failed = await handle_of_none.task()
    assert (failed.status, failed.finish_reason, failed.attempt) == (TaskStatus.FAILED, "exhausted", 2)
    assert len(failed.errors) == 2


@pytest.mark.acceptance("A68")
async def test_a_child_is_stored_whatever_becomes_of_its_parent(store: TaskStore):
    @store.task
    async def parent() -> None:
        await child.enqueue()
        raise ValueError("too late to take it back")

    @store.task
    async def child() -> None: ...

    handle = await parent.options(metadata={"trace": "t-1"}).enqueue()
    await store.dispatcher().run_once()
    assert await handle.status() is TaskStatus.FAILED
    (stored,) = await store.tasks.list(alias="child")
    assert (stored.status, stored.parent_id, stored.metadata) == (TaskStatus.SUCCEEDED, handle.id, {"trace": "t-1"})


@pytest.mark.acceptance("A70")
@pytest.mark.parametrize("text", ["not JSON", "[1, 2]", "7", ""])
async def test_stored_metadata_that_cannot_be_read_counts_as_none(url: str, store: TaskStore, text: str):
    if url.startswith("postgresql") and text in {"not JSON", ""}:
        pytest.skip("PostgreSQL stores JSON only")
    seen: list[Any] = []

    @store.task
    async def work() -> None:
        seen.append((current_context().metadata, current_context().task.metadata))
        await child.enqueue()

    @store.task
    async def child() -> None: ...

    handle = await work.options(metadata={"trace": "t-1"}).enqueue()
    async with store.transaction() as connection:
        sql = f"UPDATE aiotaskstore_tasks SET metadata = '{text}'"
        if hasattr(connection, "execute"):
            await connection.execute(sql)
        else:
            async with connection.cursor() as cursor:
                await cursor.execute(sql)
    assert (await handle.task()).metadata == {}
    await store.dispatcher().run_once()
    assert seen == [({}, {})]
    assert (await handle.task()).status is TaskStatus.SUCCEEDED
    assert [task.metadata for task in await store.tasks.list(alias="child")] == [{}]


@pytest.mark.acceptance("A134")
async def test_what_is_returned_is_a_copy(store: TaskStore):
    given = {"values": [1, 2]}

    @store.task
    async def work(values: list[int]) -> list[int]:
        values.append(3)
        return values

    metadata = {"tags": ["a"]}
    handle = await work.options(metadata=metadata).enqueue(**given)
    given["values"].append(9)
    metadata["tags"].append("z")
    first = await handle.task()
    first.payload["values"].append(7)
    first.metadata["tags"].append("y")
    await store.dispatcher().run_once()
    assert await handle.result() == [1, 2, 3]
    again = await handle.task()
    assert (again.payload, again.metadata) == ({"values": [1, 2]}, {"tags": ["a"]})


@pytest.mark.acceptance("A133")
def test_where_no_logging_is_set_up_a_run_prints_nothing():
    program = """
import asyncio
from aiotaskstore import TaskStore
store = TaskStore("sqlite://")
@store.task
async def work(): return "done"
async def main():
    async with store:
        handle = await work.enqueue()
        await store.dispatcher().run_once()
        assert await handle.result() == "done"
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
