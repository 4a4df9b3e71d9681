"""How attempts end, what follows, and what a handler can say meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from aiotaskstore import (
    Cancel,
    ConfigurationError,
    DatabaseUnavailableError,
    Fail,
    Progress,
    Queue,
    Retention,
    Retry,
    Snooze,
    TaskCancelledError,
    TaskContext,
    TaskFailedError,
    TaskFinished,
    TaskHandle,
    TaskNotFoundError,
    TaskStarted,
    TaskStatus,
    TaskStore,
    current_context,
    is_retryable,
    steps,
)
from aiotaskstore.storage.operation import Query, Rows, Steps
from aiotaskstore.storage.tasks import Note, Recorded
from tests.helpers import LIMIT, ended, eventually, expect


@pytest.mark.acceptance("A49", "A51", "A57")
async def test_an_error_is_retried_with_backoff_while_attempts_remain(store: TaskStore):
    waits: list[tuple[int, str]] = []

    def backoff(attempt: int, error: BaseException) -> float:
        waits.append((attempt, str(error)))
        return 0

    @store.task(max_attempts=3, backoff=backoff)
    async def flaky(context: TaskContext) -> None:
        raise ValueError(f"attempt {context.attempt}")

    handle = await flaky.enqueue()
    assert await store.dispatcher().run_once() == 3
    task = await handle.task()
    assert (task.status, task.finish_reason, task.attempt) == (TaskStatus.FAILED, "exhausted", 3)
    assert [(one.attempt, one.type, one.message) for one in task.errors] == [
        (n, "ValueError", f"attempt {n}") for n in (1, 2, 3)
    ]
    assert task.error == "ValueError: attempt 3"
    assert waits == [(1, "attempt 1"), (2, "attempt 2")]
    with pytest.raises(TaskFailedError, match="attempt 3") as caught:
        await handle.result()
    assert caught.value.task == task


@pytest.mark.acceptance("A51")
async def test_a_retry_waits_for_its_backoff(url: str):
    async with TaskStore(url, queues=[Queue("slow", backoff=7200)]) as store:

        @store.task(max_attempts=9, backoff=steps([60, 120]))
        async def own() -> None:
            raise ValueError

        @store.task(max_attempts=9)
        async def default() -> None:
            raise ValueError

        handles = {
            60: await own.enqueue(), 10: await default.enqueue(), 7200: await default.options(queue="slow").enqueue(),
        }  # fmt: skip
        assert await store.dispatcher().run_once() == 3
        for wait, handle in handles.items():
            task = await handle.task()
            assert (task.status, task.attempt, task.error) == (TaskStatus.SCHEDULED, 1, "ValueError: ")
            assert task.run_at == task.updated_at + timedelta(seconds=wait)


@pytest.mark.acceptance("A47")
async def test_one_attempt_is_all_there_is_unless_told(store: TaskStore):
    @store.task
    async def fails() -> None:
        raise ValueError("once")

    handle = await fails.enqueue()
    assert await store.dispatcher().run_once() == 1
    task = await handle.task()
    assert (task.status, task.max_attempts, task.attempt, task.finish_reason) == (TaskStatus.FAILED, 1, 1, "error")


@pytest.mark.acceptance("A50")
async def test_retry_on_says_which_errors_are_worth_another_attempt(store: TaskStore):
    @store.task(max_attempts=3, backoff=0, retry_on=(OSError, KeyError))
    async def some(error: str) -> None:
        raise {"connection": ConnectionError, "key": KeyError, "value": ValueError}[error](error)

    @store.task(max_attempts=3, backoff=0, retry_on="retryable")
    async def only_when_asked(how: str) -> None:
        match how:
            case "directive":
                raise Retry("please", delay=0)
            case "cause":
                raise ValueError("wrapped") from Retry("please", delay=0)
            case _:
                raise ValueError("not asked for")

    attempts = {}
    for name in ("connection", "key", "value"):
        attempts[name] = await some.enqueue(name)
    for name in ("directive", "cause", "no"):
        attempts[name] = await only_when_asked.enqueue(name)
    await store.dispatcher().run_once()
    assert {name: (await handle.task()).attempt for name, handle in attempts.items()} == {
        "connection": 3, "key": 3, "value": 1, "directive": 3, "cause": 3, "no": 1,
    }  # fmt: skip
    assert is_retryable(Retry())
    assert not is_retryable(ValueError())


@pytest.mark.acceptance("A48", "A60")
async def test_a_directive_says_how_the_attempt_ends(store: TaskStore):
    @store.task(max_attempts=5)
    async def work(how: str) -> None:
        match how:
            case "retry":
                raise Retry("not yet", delay=600)
            case "snooze":
                raise Snooze(600)
            case "cancel":
                raise Cancel("no longer needed")
            case _:
                raise Fail("hopeless")

    handles = {how: await work.enqueue(how) for how in ("retry", "snooze", "cancel", "fail")}
    await store.dispatcher().run_once()
    tasks = {how: await handle.task() for how, handle in handles.items()}
    assert {how: (task.status, task.attempt, task.finish_reason) for how, task in tasks.items()} == {
        "retry": (TaskStatus.SCHEDULED, 1, None), "snooze": (TaskStatus.SCHEDULED, 0, None),
        "cancel": (TaskStatus.CANCELLED, 1, "handler"), "fail": (TaskStatus.FAILED, 1, "handler"),
    }  # fmt: skip
    for how in ("retry", "snooze"):
        assert tasks[how].run_at == tasks[how].updated_at + timedelta(seconds=600)
    assert tasks["cancel"].cancel_reason == "no longer needed"
    assert tasks["fail"].error == "Fail: hopeless"
    with pytest.raises(TaskCancelledError, match="no longer needed"):
        await handles["cancel"].result()
    with pytest.raises(TaskFailedError, match="hopeless"):
        await handles["fail"].result()


async def test_a_snoozed_task_may_snooze_for_ever(store: TaskStore):
    runs = []

    @store.task
    async def work(context: TaskContext) -> str:
        runs.append(context.attempt)
        if len(runs) < 5:
            raise Snooze(0)
        return "done"

    handle = await work.enqueue()
    assert await store.dispatcher().run_once() == 5
    assert runs == [1] * 5
    assert (await handle.task()).attempt == 1


async def test_a_def_handler_runs_in_a_thread_beside_the_loop(store: TaskStore):
    @store.task
    def blocking() -> int:
        return threading.get_ident()

    @store.task
    def failing() -> None:
        raise ValueError("in the thread")

    good, bad = await blocking.enqueue(), await failing.enqueue()
    await store.dispatcher().run_once()
    assert await good.result() != threading.get_ident()
    with pytest.raises(TaskFailedError, match="in the thread"):
        await bad.result()


async def test_the_context_knows_its_task(store: TaskStore):
    seen: list[Any] = []

    @store.task(max_attempts=3)
    async def work(context: TaskContext, name: str, other: str = "x") -> None:
        seen.append((context.task, context.attempt, context.metadata, context.store, context.cancelled))
        assert (context.param("name"), context.param("absent"), context.param("absent", 7)) == (name, "", 7)
        assert (context.param_list("name"), context.param_list("absent")) == (["a", "b"], [])
        assert current_context() is context

    handle = await work.options(metadata={"trace": 1}, owner=("user", "1")).enqueue("a;b")
    await store.dispatcher().run_once()
    ((task, attempt, metadata, its_store, cancelled),) = seen
    assert (task.id, task.status, task.owner, task.attempt) == (handle.id, TaskStatus.RUNNING, ("user", "1"), 1)
    assert (attempt, metadata, its_store, cancelled) == (1, {"trace": 1}, store, False)
    assert task.payload == {"name": "a;b"}
    assert task.started_at is not None
    with pytest.raises(ConfigurationError, match="inside a task"):
        current_context()


async def test_a_def_handler_has_a_context_too(store: TaskStore):
    @store.task
    def work() -> str:
        context = current_context()
        for n in range(5):
            context.info(f"line {n}")
        return f"{context.attempt}"

    handle = await work.enqueue()
    await store.dispatcher().run_once()
    assert await handle.result() == "1"
    assert (await handle.task()).details == "\n".join(f"line {n}" for n in range(5))


@pytest.mark.acceptance("A13")
async def test_what_a_handler_says_is_stored_with_the_outcome_at_the_latest(store: TaskStore):
    @store.task(max_attempts=2, backoff=0)
    async def work(context: TaskContext) -> str:
        context.info(f"attempt {context.attempt}")
        context.success("good")
        context.error("bad ⚙")
        assert (context.last_info, context.last_success, context.last_error) == (
            f"attempt {context.attempt}", "good", "bad ⚙",
        )  # fmt: skip
        if context.attempt == 1:
            raise ValueError
        return "done"

    handle = await work.enqueue()
    await store.dispatcher().run_once()
    assert (await handle.task()).details == "attempt 1\ngood\nbad ⚙\nattempt 2\ngood\nbad ⚙"


@pytest.mark.acceptance("A69")
async def test_details_can_be_read_while_the_task_runs(store: TaskStore):
    told, let_go = asyncio.Event(), asyncio.Event()

    @store.task
    async def work(context: TaskContext) -> None:
        context.info("so far so good")
        await context.progress("half")  # what was said before is stored with it
        told.set()
        await let_go.wait()

    handle = await work.enqueue()
    async with store.dispatcher(), asyncio.timeout(LIMIT):
        await told.wait()
        task = await handle.task()
        assert (task.status, task.details) == (TaskStatus.RUNNING, "so far so good")
        let_go.set()


@pytest.mark.acceptance("A69")
async def test_progress_can_be_followed_from_another_store(store: TaskStore, url: str):
    steps_to_go = asyncio.Semaphore(0)

    @store.task
    async def work(context: TaskContext) -> str:
        for n in range(1, 4):
            await context.progress(f"step {n}", fraction=n / 4)
            await steps_to_go.acquire()
        return "done"

    seen: list[Progress] = []
    async with TaskStore(url, wait_interval=0.01) as elsewhere, store.dispatcher(), asyncio.timeout(LIMIT):
        handle = await elsewhere.enqueue("work", unchecked=True)
        async for progress in handle.progress():
            seen.append(progress)
            steps_to_go.release()
        assert await handle.result() == "done"
    assert [(one.text, one.fraction) for one in seen] == [(f"step {n}", n / 4) for n in (1, 2, 3)]
    task = await store.handle(handle.id).task()
    assert task.progress == seen[-1]


async def test_output_is_the_result_of_a_handler_that_returns_nothing(store: TaskStore):
    @store.task
    async def says() -> None:
        current_context().output = "the output"

    @store.task
    async def returns() -> str:
        current_context().output = "the output"
        return "the value"

    first, second = await says.enqueue(), await returns.enqueue()
    await store.dispatcher().run_once()
    assert (await first.task()).result == "the output"
    assert await second.result() == "the value"


@pytest.mark.acceptance("A80")
async def test_a_result_can_be_waited_for_anywhere(store: TaskStore, url: str):
    let_go = asyncio.Event()

    @store.task
    async def work() -> str:
        await let_go.wait()
        return "done"

    async with TaskStore(url, wait_interval=0.01) as elsewhere, store.dispatcher():
        handle = await work.enqueue()
        with pytest.raises(TimeoutError):
            await handle.result(timeout=0.05)
        with pytest.raises(TimeoutError):
            await elsewhere.handle(str(handle.id)).wait(timeout=timedelta(seconds=0.05))
        waiters = [
            asyncio.ensure_future(one.handle(handle.id).result(timeout=LIMIT))  # noqa: TID251
            for one in (store, elsewhere) * 5
        ]
        await asyncio.sleep(0)
        waiters[0].cancel()
        let_go.set()
        await asyncio.wait(waiters)
    assert waiters[0].cancelled()
    assert {waiter.result() for waiter in waiters[1:]} == {"done"}
    assert await handle.result(timeout=0) == "done"
    with pytest.raises(TimeoutError):
        await (await work.enqueue()).result(timeout=0)


async def test_a_thousand_waiters_get_their_tasks(store: TaskStore):
    @store.task
    async def work(n: int) -> int:
        return n

    ids = await store.enqueue_many([work.draft(n) for n in range(1000)])
    async with store.dispatcher(concurrency=200), asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        waiters = [group.create_task(store.tasks.wait(task_id)) for task_id in ids]
    assert [waiter.result().result for waiter in waiters] == list(range(1000))


@pytest.mark.parametrize("keep", ["all", "failed", "none"])
@pytest.mark.acceptance("A97")
async def test_where_no_row_is_kept_there_is_none_to_be_had(store: TaskStore, keep):
    @store.task(retention=Retention(keep=keep))
    async def work(*, good: bool) -> None:
        if not good:
            raise ValueError

    good, bad = await work.enqueue(good=True), await work.options(external_id="one").enqueue(good=False)
    async with expect(store, TaskStarted, TaskStarted), store.dispatcher():
        for handle, kept in ((good, keep == "all"), (bad, keep != "none")):
            if kept:
                assert (await handle.wait(timeout=LIMIT)).status.finished
                continue
            for ask in (handle.result, handle.wait):
                with pytest.raises(TaskNotFoundError):
                    await ask(timeout=LIMIT)
            with pytest.raises(TaskNotFoundError):
                await store.tasks.require(handle.id)
            assert await handle.status() is None
            assert await store.tasks.get(handle.id) is None
    if keep == "none":
        assert await work.options(external_id="one").enqueue(good=False)


async def test_retention_says_whose_payload_is_kept(store: TaskStore):
    @store.task
    async def work(*, good: bool) -> None:
        if not good:
            raise ValueError

    kept = {}
    for payload in ("all", "failed", "none"):
        for good in (True, False):
            handle = await work.options(retention=Retention(payload=payload)).enqueue(good=good)
            kept[payload, good] = handle.id
    await store.dispatcher().run_once()
    found = {key: (await store.tasks.require(task_id)).payload is not None for key, task_id in kept.items()}
    assert [key for key, there in found.items() if there] == [("all", True), ("all", False), ("failed", False)]


async def test_the_cleaner_deletes_what_is_past_its_period(store: TaskStore):
    @store.task
    async def work() -> None: ...

    short = await work.options(retention=Retention(period=0)).enqueue()
    long = await work.options(retention=Retention(period=timedelta(days=1))).enqueue()
    ever = await work.options(retention=Retention(period=None)).enqueue()
    pending = await work.options(retention=Retention(period=0), queue="other").enqueue()
    async with store.dispatcher(queues="default", cleaner=0.05):
        await ended(store, [long.id, ever.id])
        await eventually(partial(_is_gone, short))  # the cleaner tells nobody
    assert await pending.status() is TaskStatus.PENDING
    tasks = await ended(store, [long.id, ever.id])
    assert [task.expires_at and task.expires_at - (task.finished_at or task.expires_at) for task in tasks] == [
        timedelta(days=1), None,
    ]  # fmt: skip


async def _is_gone(handle: TaskHandle[Any]) -> bool:
    return await handle.status() is None


async def test_an_outcome_is_stored_even_where_what_the_handler_said_cannot_be(store: TaskStore):
    @store.task
    async def work(context: TaskContext) -> str:
        context.info("nobody can store this")
        return "done"

    async with store.dispatcher():
        await _drop_details(store)
        async with expect(store, TaskFinished, TaskFinished):
            handle, other = await work.enqueue(), await work.enqueue()
        assert [await one.status() for one in (handle, other)] == [TaskStatus.SUCCEEDED] * 2


async def _drop_details(store: TaskStore) -> None:
    def drop() -> Steps[Rows]:
        return (yield Query("DROP TABLE aiotaskstore_task_details", {}))

    await store._require_open().storage.database.write(drop)


async def test_an_attempts_traceback_is_kept_short_and_without_our_own_frames(store: TaskStore):
    def divide(by: int) -> float:
        return 1 / by

    @store.task(max_attempts=2, backoff=0)
    async def deep(levels: int) -> float:
        return await deep.handler(levels - 1) if levels else divide(0)

    @store.task
    def in_a_thread() -> float:
        return divide(0)

    @store.task(timeout=0.05)
    async def slow() -> None:
        await asyncio.Event().wait()

    handles: list[TaskHandle[Any]] = [
        await deep.enqueue(0), await deep.enqueue(200), await in_a_thread.enqueue(), await slow.enqueue(),
    ]  # fmt: skip
    async with store.dispatcher():
        short, long, thread, late = [await handle.wait(timeout=LIMIT) for handle in handles]
    assert len(short.errors) == 2
    for error in (*short.errors, *long.errors, *thread.errors):
        assert error.traceback.startswith("Traceback (most recent call last)")
        assert error.traceback.endswith("ZeroDivisionError: division by zero")
        assert "in divide" in error.traceback
        assert "aiotaskstore/dispatch" not in error.traceback.replace("\\", "/")
        assert len(error.traceback.encode()) <= 4_096
    assert "in slow" in late.errors[0].traceback


async def test_a_handler_that_tells_very_much_holds_no_other_tasks_outcome_back(store: TaskStore):
    @store.task
    async def talkative(context: TaskContext) -> str:
        for number in range(8_000):
            context.info(f"{number} " + "x" * 9_000)
        return "told"

    @store.task
    async def quiet() -> str:
        return "done"

    handles = [await talkative.enqueue(), await quiet.enqueue()]
    async with store.dispatcher():
        assert [await handle.result(timeout=LIMIT) for handle in handles] == ["told", "done"]
    task = await handles[0].task()
    lines = task.details.split("\n")
    assert lines[0].startswith("0 ")
    assert lines[-1].startswith("7999 ")
    assert len(lines) - 1 + task.details_left_out == 8_000
    assert any(line == f"… {task.details_left_out:,} lines left out …" for line in lines)


async def test_notes_that_look_like_an_outage_and_are_none_hold_no_outcome_back(store: TaskStore):
    @store.task
    async def work(context: TaskContext) -> str:
        context.info("never stored")
        return "done"

    tasks = store._require_open().storage.tasks
    told: list[object] = []

    def report(_notes: object, *, wait: bool) -> Steps[set[UUID]]:
        told.append(1)
        raise DatabaseUnavailableError("somebody holds a lock")
        yield Query("", {})

    tasks.report = report  # type: ignore[method-assign, assignment]
    async with store.dispatcher(heartbeat=0.05, lease=LIMIT):
        handle = await work.enqueue()
        assert await handle.result(timeout=LIMIT) == "done"
    assert len(told) >= 3
    assert (await handle.task()).details == ""


async def test_of_notes_that_are_refused_together_only_what_is_at_fault_is_lost(store: TaskStore):
    all_here, many = asyncio.Barrier(20), 20

    @store.task
    async def work(context: TaskContext, number: int) -> int:
        await all_here.wait()
        context.info(f"told by {number}")
        return number

    tasks = store._require_open().storage.tasks
    real = tasks.report

    def tell(notes: Sequence[Note], *, wait: bool) -> Steps[Recorded]:
        if any(line.text == "told by 13" for note in notes for line in note.lines):
            raise DatabaseUnavailableError("whoever sends this is cut off")
        return (yield from real(notes, wait=wait))

    tasks.report = tell  # type: ignore[method-assign, assignment]
    async with store.dispatcher(heartbeat=0.05, lease=4 * LIMIT, concurrency=many):
        handles = [store.handle(id_) for id_ in await store.enqueue_many([work.draft(n) for n in range(many)])]
        assert [await handle.result(timeout=LIMIT) for handle in handles] == list(range(many))
    details = [(await handle.task()).details.strip() for handle in handles]
    assert details == ["" if n == 13 else f"told by {n}" for n in range(many)]
