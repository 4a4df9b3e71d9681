"""Hooks before and after each run: called in order, with what there is to see, and harmless."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

import pytest

from aiotaskstore import (
    BackgroundFailed,
    Cancel,
    ClaimLost,
    ConfigurationError,
    ListenerFailed,
    Retention,
    Retry,
    Snooze,
    Task,
    TaskClaimed,
    TaskContext,
    TaskStarted,
    TaskStatus,
    TaskStore,
    current_context,
    run_hooks,
)
from aiotaskstore.dispatch import after_hooks
from aiotaskstore.dispatch.after_hooks import AfterHooks
from tests.helpers import LIMIT, ended, eventually, expect, my_connection


@pytest.mark.acceptance("A64")
async def test_hooks_are_called_in_order_with_the_run_and_with_the_task_as_it_is_stored(store: TaskStore):
    seen: list[Any] = []

    @store.before
    def first(context: TaskContext) -> None:
        seen.append(("first", context.task.status, context.attempt))

    @store.before
    async def second(context: TaskContext) -> None:
        await asyncio.sleep(0)
        stored = await store.tasks.require(context.task.id)
        seen.append(("second", stored.status, stored.attempt, current_context() is context))

    @store.after
    async def third(context: TaskContext, task: Task, error: BaseException | None) -> None:
        stored = await store.tasks.require(task.id)
        seen.append(("third", task.status, task.result, error, stored.status))

    @store.after
    def fourth(context: TaskContext, task: Task, error: BaseException | None) -> None:
        seen.append(("fourth", task.id == context.task.id, task.finished_at is not None, context.output))

    @store.task
    async def work(context: TaskContext) -> None:
        seen.append("work")
        context.output = "done"

    await work.enqueue()
    await store.dispatcher().run_once()
    running, succeeded = TaskStatus.RUNNING, TaskStatus.SUCCEEDED
    assert seen == [
        ("first", running, 1), ("second", running, 1, True), "work",
        ("third", succeeded, "done", None, succeeded), ("fourth", True, True, "done"),
    ]  # fmt: skip
    assert first.__name__ == "first"


@pytest.mark.parametrize(
    ("raised", "status", "errors"),
    [
        (ValueError("no good"), TaskStatus.FAILED, ["no good"]),
        (Retry("later", delay=3600), TaskStatus.SCHEDULED, ["later"]),
        (Cancel("enough"), TaskStatus.CANCELLED, []),
        (Snooze(3600), TaskStatus.SCHEDULED, []),
    ],
    ids=["error", "retry", "cancel", "snooze"],
)
async def test_an_after_hook_has_the_error_that_ended_the_run(
    store: TaskStore, raised: BaseException, status: TaskStatus, errors: list[str]
):
    seen: list[Any] = []
    store.after(lambda context, task, error: seen.append((task.status, [one.message for one in task.errors], error)))

    @store.task(max_attempts=2, retry_on="retryable")
    async def work() -> None:
        raise raised

    await work.enqueue()
    await store.dispatcher().run_once()
    assert seen == [(status, errors, raised)]


async def test_every_attempt_has_its_hooks_and_so_has_a_payload_that_cannot_be_read(store: TaskStore):
    seen: list[Any] = []
    store.before(lambda context: seen.append(context.attempt))
    store.after(lambda context, task, error: seen.append((context.attempt, type(error).__name__, task.status)))

    @store.task(max_attempts=2, backoff=0)
    async def work(n: int) -> None:
        raise ValueError("no good")

    await store.enqueue("work", {"n": 1}, unchecked=True)
    await store.dispatcher().run_once()
    before, after = [one for one in seen if isinstance(one, int)], [one for one in seen if isinstance(one, tuple)]
    assert before == [1, 2]
    assert [one[:2] for one in after] == [(1, "ValueError"), (2, "ValueError")]
    assert seen.index(1) < seen.index(after[0])
    assert seen.index(2) < seen.index(after[1])
    seen.clear()
    unreadable = await store.enqueue("later", {"n": "x"}, unchecked=True)

    @store.task(alias="later", on_decode_error="fail")
    async def later(n: int) -> None:
        seen.append("called")

    await store.dispatcher().run_once()
    assert (await unreadable.task()).status is TaskStatus.FAILED
    assert seen == [1, (1, "PayloadError", TaskStatus.FAILED)]


async def test_a_hook_sees_the_task_as_its_own_attempt_left_it(store: TaskStore, monkeypatch: pytest.MonkeyPatch):
    seen: list[Any] = []
    again, told = asyncio.Event(), asyncio.Event()
    read = AfterHooks._stored

    async def read_late(hooks: AfterHooks, ids: Sequence[UUID]) -> dict[UUID, Task]:
        await again.wait()
        return await read(hooks, ids)

    @store.after
    def after(context: TaskContext, task: Task, error: BaseException | None) -> None:
        seen.append((context.attempt, task.attempt, task.status, [one.message for one in task.errors], task.error))
        told.set()

    @store.task(max_attempts=2, backoff=0)
    async def work() -> None:
        attempt = current_context().attempt
        if attempt == 2:
            again.set()
            await told.wait()
        raise ValueError(f"number {attempt}")

    monkeypatch.setattr(AfterHooks, "_stored", read_late)
    await work.enqueue()
    await store.dispatcher().run_once()
    assert seen == [
        (1, 1, TaskStatus.PENDING, ["number 1"], "ValueError: number 1"),
        (2, 2, TaskStatus.FAILED, ["number 1", "number 2"], "ValueError: number 2"),
    ]


async def test_hooks_that_raise_are_logged_reported_and_change_nothing(url: str, caplog: pytest.LogCaptureFixture):
    received: list[Any] = []
    store = TaskStore(url, on_error=lambda queue, task_id, error: received.append((queue, task_id, str(error))))
    calls: list[str] = []

    @store.before
    def broken(context: TaskContext) -> None:
        raise LookupError("broken before")

    @store.before
    async def gives_up(context: TaskContext) -> None:
        raise asyncio.CancelledError("of its own")

    @store.after
    async def broken_after(context: TaskContext, task: Task, error: BaseException | None) -> None:
        raise SystemExit("broken after")

    store.before(lambda context: calls.append("before"))
    store.after(lambda context, task, error: calls.append("after"))

    @store.task(queue="q")
    async def work() -> str:
        return "done"

    async with store:
        async with expect(store, ListenerFailed, ListenerFailed, ListenerFailed) as failures, store.dispatcher():
            handle = await work.enqueue()
            assert await handle.result(timeout=LIMIT) == "done"
        assert (await handle.task()).errors == []
    assert calls == ["before", "after"]
    expected = [("q", handle.id, "broken before"), ("q", handle.id, "of its own"), ("q", handle.id, "broken after")]
    assert received == expected
    assert [(event.queue, event.task_id) for event in cast("list[ListenerFailed]", failures)] == [("q", handle.id)] * 3
    assert "broken before" in caplog.text
    assert "gives_up" in caplog.text
    assert "broken after" in caplog.text


async def test_a_hook_before_the_run_is_part_of_its_time_and_ends_with_it(store: TaskStore):
    called: list[str] = []
    ended: list[Any] = []

    @store.before
    async def slow(context: TaskContext) -> None:
        await asyncio.Event().wait()

    store.after(lambda context, task, error: ended.append((task.alias, type(error))))

    @store.task(timeout=0.1)
    async def work() -> None:
        called.append("work")

    @store.task(timeout=0.1)
    def in_a_thread() -> None:
        called.append("in_a_thread")

    handles = [await work.enqueue(), await in_a_thread.enqueue()]
    await store.dispatcher().run_once()
    for handle in handles:
        assert "timeout of 0.1 s" in str((await handle.task()).error)
    assert called == []
    assert sorted(ended) == [("in_a_thread", TimeoutError), ("work", TimeoutError)]


async def test_a_cancel_request_ends_a_run_whose_hook_swallows_it(store: TaskStore):
    waiting, called = asyncio.Event(), asyncio.Event()

    @store.before
    async def stubborn(context: TaskContext) -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    @store.task
    async def work() -> None:
        called.set()

    async with store.dispatcher():
        handle = await work.enqueue()
        async with asyncio.timeout(LIMIT):
            await waiting.wait()
        await handle.cancel("enough")
        task = await handle.wait(timeout=LIMIT)
    assert (task.status, task.cancel_reason, called.is_set()) == (TaskStatus.CANCELLED, "enough", False)


async def test_what_a_hook_sets_in_its_context_the_handler_sees_and_what_it_enqueues_is_a_child(store: TaskStore):
    @store.before
    async def prepare(context: TaskContext) -> None:
        if context.task.alias == "work":
            context.metadata["trace"] = "t-1"
            await child.enqueue()

    @store.task
    async def work() -> str:
        return str(current_context().metadata["trace"])

    @store.task
    async def child() -> None: ...

    parent = await work.enqueue()
    await store.dispatcher().run_once()
    assert await parent.result() == "t-1"
    (stored,) = await store.tasks.list(alias="child")
    assert (stored.parent_id, stored.metadata) == (parent.id, {"trace": "t-1"})


async def test_a_slow_hook_after_a_run_keeps_no_slot_and_the_stop_waits_for_it(store: TaskStore):
    let_go, entered = asyncio.Event(), asyncio.Event()
    returned: list[int] = []

    @store.after
    async def slow(context: TaskContext, task: Task, error: BaseException | None) -> None:
        if not returned and not entered.is_set():
            entered.set()
            await let_go.wait()
        returned.append(cast("int", task.result))

    @store.task
    async def work(n: int) -> int:
        return n

    async with store.dispatcher(concurrency=1) as dispatcher, asyncio.timeout(LIMIT):
        await work.enqueue(1)
        await entered.wait()
        assert await (await work.enqueue(2)).result() == 2
        async with asyncio.TaskGroup() as group:
            stopping = group.create_task(dispatcher.stop())
            await asyncio.sleep(0)
            assert not stopping.done()
            let_go.set()
        assert stopping.result() is True
    assert sorted(returned) == [1, 2]


async def test_a_hook_that_outlasts_the_grace_is_cancelled(store: TaskStore, caplog: pytest.LogCaptureFixture):
    entered, cancelled = asyncio.Event(), asyncio.Event()

    @store.after
    async def endless(context: TaskContext, task: Task, error: BaseException | None) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    @store.task
    async def work() -> None: ...

    async with store.dispatcher(grace=0.1), asyncio.timeout(LIMIT):
        await work.enqueue()
        await entered.wait()
    assert cancelled.is_set()
    assert "outlast their dispatcher" in caplog.text


async def test_a_task_that_is_not_kept_is_shown_as_it_ended(store: TaskStore):
    seen: list[Task] = []
    store.after(lambda context, task, error: seen.append(task))

    @store.task(retention=Retention(keep="none"))
    async def work(n: int) -> int:
        if n:
            raise ValueError("no good")
        return 7

    for n in range(2):
        await work.enqueue(n)
    await store.dispatcher(concurrency=1).run_once()
    assert await store.tasks.count() == 0
    found = sorted((task.status, task.result, task.error, task.finish_reason) for task in seen)
    assert found == [
        (TaskStatus.FAILED, None, "ValueError: no good", "error"), (TaskStatus.SUCCEEDED, 7, None, "ok"),
    ]  # fmt: skip


async def test_a_lost_claim_and_a_direct_call_have_no_hook_after_them(store: TaskStore):
    seen: list[str] = []
    let_go = asyncio.Event()
    store.before(lambda context: seen.append("before"))
    store.after(lambda context, task, error: seen.append("after"))

    @store.task
    async def work(*, wait: bool) -> None:
        if wait:
            await let_go.wait()

    await work(wait=False)
    assert seen == []
    async with store.dispatcher():
        async with expect(store, TaskStarted):
            handle = await work.enqueue(wait=True)
        async with expect(store, ClaimLost):
            await store.tasks.delete(handle.id, force=True)
            let_go.set()
    assert seen == ["before"]


@pytest.mark.parametrize("hook", [None, "before", 7])
def test_what_is_no_function_is_no_hook(hook: Any):
    store = TaskStore("sqlite://")
    for register in (store.before, store.after):
        with pytest.raises(ConfigurationError, match=r"A hook is a function of \(context"):
            register(hook)


def test_a_function_that_cannot_be_called_with_what_a_hook_is_given_is_refused():
    store = TaskStore("sqlite://")
    with pytest.raises(ConfigurationError, match=r"called with \(context\), which .*does not take"):
        store.before(cast("Any", lambda: None))
    with pytest.raises(ConfigurationError, match=r"called with \(context, task, error\), which .*does not take"):
        store.after(cast("Any", lambda context: None))


async def test_stored_metadata_is_what_the_caller_gave_whatever_a_hook_did_with_its_own(store: TaskStore):
    store.before(lambda context: context.metadata.update(trace="changed"))

    @store.task
    async def work() -> str:
        return json.dumps(current_context().task.metadata)

    handle = await work.options(metadata={"trace": "mine"}).enqueue()
    await store.dispatcher().run_once()
    assert json.loads(await handle.result()) == {"trace": "mine"}
    assert (await handle.task()).metadata == {"trace": "mine"}


async def test_a_row_that_cannot_be_read_keeps_no_other_from_its_hooks(url: str, caplog: pytest.LogCaptureFixture):
    if url.startswith("postgresql"):
        pytest.skip("PostgreSQL stores JSON only")
    received: list[Any] = []
    seen: list[str] = []
    store = TaskStore(url, on_error=lambda queue, task_id, error: received.append(type(error).__name__))
    store.after(lambda context, task, error: seen.append(f"{task.alias} {task.status}"))

    @store.task
    async def unreadable() -> None: ...

    @store.task
    async def readable() -> None: ...

    async with store:
        await unreadable.enqueue()
        async with my_connection(url) as mine:
            await mine.begin()
            await mine.execute("UPDATE aiotaskstore_tasks SET payload = 'no JSON'")
            await mine.commit()
        for _ in range(3):
            await readable.enqueue()
        assert await store.dispatcher().run_once() == 4
    assert seen == ["readable succeeded"] * 3
    assert "PayloadError" in received
    assert "JSONDecodeError" in received


async def test_a_success_that_the_handlers_transaction_committed_has_its_hooks_too(store: TaskStore):
    seen: list[Any] = []
    store.after(lambda context, task, error: seen.append((task.status, task.result, error)))

    @store.task
    async def work(context: TaskContext) -> str:
        async with context.transaction():
            return "committed"

    await work.enqueue()
    await store.dispatcher().run_once()
    assert seen == [(TaskStatus.SUCCEEDED, "committed", None)]


@pytest.mark.parametrize("stubborn", [False, True], ids=["hangs", "ignores its cancellation"])
async def test_a_hook_after_a_run_that_hangs_is_cancelled_and_named_and_keeps_no_task_from_being_claimed(
    store: TaskStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, stubborn: bool
):
    monkeypatch.setattr(run_hooks, "AFTER_LIMIT", 0.05)
    monkeypatch.setattr(after_hooks, "MOST_WAITING", 1)
    let_go = asyncio.Event()
    cancelled, called_too = 0, 0

    @store.after
    async def hangs(context: TaskContext, task: Task, error: BaseException | None) -> None:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            if not stubborn:
                raise
            await let_go.wait()

    @store.after
    def follows(context: TaskContext, task: Task, error: BaseException | None) -> None:
        nonlocal called_too
        called_too += 1

    @store.task(queue="q")
    async def work() -> None: ...

    async with store.dispatcher(concurrency=1, poll_interval=0.05):
        async with expect(store, *[ListenerFailed] * 5) as told:
            ids = await store.enqueue_many([work.draft() for _ in range(5)])
        assert {task.status for task in await ended(store, ids)} == {TaskStatus.SUCCEEDED}
        await eventually(lambda: called_too == 5)
        let_go.set()
    assert cancelled == 5
    failures = cast("list[ListenerFailed]", told)
    assert {(event.queue, event.task_id) for event in failures} == {("q", id_) for id_ in ids}
    for event in failures:
        assert isinstance(event.error, TimeoutError)
        assert "hangs took longer than 0.05 s" in str(event.error)
        assert f"work {event.task_id}" in str(event.error)
    assert "hangs raised" in caplog.text


async def test_hooks_that_keep_tasks_from_being_claimed_are_told_once_a_period(
    store: TaskStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(after_hooks, "MOST_WAITING", 2)
    let_go, three_hang, refused, told = asyncio.Event(), asyncio.Barrier(3 + 1), asyncio.Queue[None](), list[str]()
    claimed, has_room = 0, AfterHooks.has_room

    def watched(self: AfterHooks) -> bool:
        room = has_room(self)
        if not room:
            refused.put_nowait(None)
        return room

    monkeypatch.setattr(AfterHooks, "has_room", watched)

    @store.after
    async def slow(context: TaskContext, task: Task, error: BaseException | None) -> None:
        if not let_go.is_set():
            await three_hang.wait()
        await let_go.wait()

    @store.on(TaskClaimed)
    def count(_event: TaskClaimed) -> None:
        nonlocal claimed
        claimed += 1

    @store.on(BackgroundFailed)
    def report(event: BackgroundFailed) -> None:
        assert event.loop == "after hooks", event.error
        told.append(str(event.error))

    @store.task
    async def work() -> None: ...

    async with store.dispatcher(concurrency=1, poll_interval=0.05), asyncio.timeout(LIMIT):
        first = await store.enqueue_many([work.draft() for _ in range(3)])
        await three_hang.wait()
        others = await store.enqueue_many([work.draft() for _ in range(3)])
        for _ in range(3):
            await refused.get()
        assert len(told) == 1
        assert "hooks have not returned, so no task is claimed" in told[0]
        monkeypatch.setattr(after_hooks, "TELL_EVERY", 0)
        while len(told) < 3:
            await refused.get()
        assert claimed == 3
        let_go.set()
        assert {task.status for task in await ended(store, [*first, *others])} == {TaskStatus.SUCCEEDED}
    assert "no task is claimed" in caplog.text
