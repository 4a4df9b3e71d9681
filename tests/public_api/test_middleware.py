"""Middleware: around each run, the first outermost; it sees and changes what the handler returns and raises."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextvars import ContextVar
from functools import partial
from typing import Any, cast

import pytest

from aiotaskstore import (
    CallNext,
    Cancel,
    ConfigurationError,
    Draft,
    Fail,
    Middleware,
    PayloadError,
    Retry,
    Snooze,
    TaskContext,
    TaskStarted,
    TaskStatus,
    TaskStore,
    current_context,
)
from tests.helpers import LIMIT, eventually, expect

request: ContextVar[str] = ContextVar("request", default="none")


@pytest.fixture
async def memory() -> AsyncIterator[TaskStore]:
    """An open store in memory: none of this depends on the database."""
    async with TaskStore("sqlite://", transaction_timeout=LIMIT) as opened:
        yield opened


async def run_one(store: TaskStore, definition: Any, *args: Any, **options: Any) -> Any:
    handle = await definition.options(**options).enqueue(*args)
    await store.dispatcher().run_once(limit=1)
    return await handle.task()


async def test_middleware_is_around_the_handler_and_the_first_is_the_outermost(memory: TaskStore):
    seen: list[str] = []

    @memory.middleware
    async def outer(context: TaskContext, call_next: CallNext) -> Any:
        seen.append(f"outer {context.task.alias} {current_context() is context}")
        result = await call_next(context)
        seen.append(f"outer got {result}")
        return result * 10

    async def inner(context: TaskContext, call_next: CallNext) -> Any:
        seen.append("inner")
        result = await call_next(context)
        seen.append(f"inner got {result}")
        return result + 1

    assert memory.middleware(inner) is inner
    memory.before(lambda context: seen.append("before"))
    memory.after(lambda context, task, error: seen.append(f"after {task.result}"))

    @memory.task
    async def work(n: int) -> int:
        seen.append("work")
        return n

    assert (await run_one(memory, work, 4)).result == 50
    assert seen == [
        "outer work True", "inner", "before", "work", "inner got 4", "outer got 5", "after 50",
    ]  # fmt: skip
    assert await work(4) == 4, "a direct call has no middleware"


async def test_objects_and_partials_are_middleware_too(memory: TaskStore):
    seen: list[str] = []

    class Named:
        async def __call__(self, context: TaskContext, call_next: CallNext) -> Any:
            seen.append("object")
            return await call_next(context)

    async def named(name: str, context: TaskContext, call_next: CallNext) -> Any:
        seen.append(name)
        return await call_next()  # there is one context in a run, so it may be left out

    memory.middleware(Named())
    memory.middleware(partial(named, "partial"))

    @memory.task
    async def work() -> str:
        return "done"

    assert (await run_one(memory, work)).result == "done"
    assert seen == ["object", "partial"]


async def test_it_may_answer_without_the_handler(memory: TaskStore):
    called: list[str] = []

    @memory.middleware
    async def cached(context: TaskContext, call_next: CallNext) -> Any:
        return "cached"

    @memory.task
    async def work() -> str:
        called.append("work")
        return "made"

    task = await run_one(memory, work)
    assert (task.status, task.result, called) == (TaskStatus.SUCCEEDED, "cached", [])


async def test_it_may_catch_what_the_handler_raises(memory: TaskStore):
    @memory.middleware
    async def forgiving(context: TaskContext, call_next: CallNext) -> Any:
        try:
            return await call_next(context)
        except LookupError as error:
            return f"instead of {error}"

    @memory.task
    async def work() -> str:
        raise LookupError("nothing")

    task = await run_one(memory, work)
    assert (task.status, task.result, task.errors) == (TaskStatus.SUCCEEDED, "instead of nothing", [])


@pytest.mark.parametrize(
    ("raised", "status", "attempt"),
    [
        (Retry("later", delay=3600), TaskStatus.SCHEDULED, 1),
        (Snooze(3600), TaskStatus.SCHEDULED, 0),
        (Cancel("enough"), TaskStatus.CANCELLED, 1),
        (Fail("never"), TaskStatus.FAILED, 1),
        (ValueError("no good"), TaskStatus.SCHEDULED, 1),
    ],
    ids=["retry", "snooze", "cancel", "fail", "error"],
)
async def test_what_it_raises_ends_the_attempt_as_if_the_handler_had(
    memory: TaskStore, raised: BaseException, status: TaskStatus, attempt: int
):
    @memory.middleware
    async def deciding(context: TaskContext, call_next: CallNext) -> Any:
        await call_next(context)
        raise raised

    @memory.task(max_attempts=3, backoff=3600)
    async def work() -> str:
        return "done"

    task = await run_one(memory, work)
    assert (task.status, task.attempt, task.result) == (status, attempt, None)


async def test_a_value_that_does_not_fit_the_declared_type_fails_the_attempt(memory: TaskStore):
    @memory.middleware
    async def changing(context: TaskContext, call_next: CallNext) -> Any:
        return f"not {await call_next(context)}"

    @memory.task
    async def work() -> int:
        return 1

    task = await run_one(memory, work)
    assert task.status is TaskStatus.FAILED
    assert "work" in str(task.error)


async def test_a_payload_that_cannot_be_read_passes_through_it_and_is_decided_as_the_task_says(memory: TaskStore):
    seen: list[type[BaseException]] = []

    @memory.middleware
    async def watching(context: TaskContext, call_next: CallNext) -> Any:
        try:
            return await call_next(context)
        except BaseException as error:
            seen.append(type(error))
            raise

    @memory.task(on_decode_error="cancel", max_attempts=5)
    async def strict(n: int) -> None: ...

    @memory.task(max_attempts=5, backoff=3600)
    async def forgiving(n: int) -> None: ...

    drafts: list[Draft[Any]] = [
        Draft(alias, '{"n": "x"}', {"max_attempts": 5}, unchecked=True) for alias in ("strict", "forgiving")
    ]
    ids = await memory.enqueue_many(drafts)
    await memory.dispatcher().run_once()
    found = [(await memory.tasks.require(id)).status for id in ids]
    assert found == [TaskStatus.CANCELLED, TaskStatus.SCHEDULED]
    assert seen == [PayloadError, PayloadError]


async def test_context_variables_that_hooks_and_middleware_set_are_seen_by_the_handler(memory: TaskStore):
    @memory.before
    def in_a_hook(context: TaskContext) -> None:
        request.set(f"{request.get()}, hook")

    @memory.middleware
    async def setting(context: TaskContext, call_next: CallNext) -> Any:
        request.set("middleware")
        return await call_next(context)

    @memory.task
    async def on_the_loop() -> str:
        return request.get()

    @memory.task
    def in_a_thread() -> str:
        return request.get()

    for work in (on_the_loop, in_a_thread):
        assert (await run_one(memory, work)).result == "middleware, hook"
    assert request.get() == "none", "nothing leaks out of the run"


async def test_what_the_handler_wrote_in_its_transaction_is_committed_when_the_whole_chain_has_returned(
    store: TaskStore,
):
    @store.middleware
    async def last_word(context: TaskContext, call_next: CallNext) -> Any:
        result = await call_next(context)
        if result == "refused":
            raise ValueError("the middleware says no")
        return f"{result}, and passed on"

    @store.task
    async def work(word: str) -> str:
        async with current_context().transaction():
            await child.enqueue(word)
        return word

    @store.task
    async def child(word: str) -> None: ...

    done, refused = await work.enqueue("fine"), await work.enqueue("refused")
    async with store.dispatcher(queues={"default": 2}):
        assert (await done.wait(timeout=LIMIT)).result == "fine, and passed on"
        assert (await refused.wait(timeout=LIMIT)).status is TaskStatus.FAILED
    children = await store.tasks.list(alias="child")
    assert [one.payload for one in children] == [{"word": "fine"}]


@pytest.mark.parametrize("where", ["before", "handler", "after"])
async def test_a_timeout_ends_the_run_wherever_it_is(memory: TaskStore, where: str):
    cancelled: list[str] = []

    @memory.middleware
    async def slow(context: TaskContext, call_next: CallNext) -> Any:
        try:
            if where == "before":
                await asyncio.Event().wait()
            await call_next(context)
            if where == "after":
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(where)
            raise

    @memory.task(timeout=0.1)
    async def work() -> None:
        if where == "handler":
            await asyncio.Event().wait()

    task = await run_one(memory, work)
    assert (task.status, cancelled) == (TaskStatus.FAILED, [where])
    assert "timeout of 0.1 s" in str(task.error)


async def test_a_cancel_request_goes_through_it_and_a_handler_is_not_called_after_one(memory: TaskStore):
    waiting = asyncio.Event()
    called: list[str] = []

    @memory.middleware
    async def stubborn(context: TaskContext, call_next: CallNext) -> Any:
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await call_next(context)

    @memory.task
    def work() -> None:
        called.append("work")

    async with memory.dispatcher():
        handle = await work.enqueue()
        async with asyncio.timeout(LIMIT):
            await waiting.wait()
        await handle.cancel("enough")
        task = await handle.wait(timeout=LIMIT)
    assert (task.status, task.cancel_reason, called) == (TaskStatus.CANCELLED, "enough", [])


async def test_what_follows_a_thread_that_was_asked_to_end_has_a_limit(memory: TaskStore):
    let_go, after = threading.Event(), asyncio.Event()
    contexts: list[TaskContext] = []
    memory.before(contexts.append)

    @memory.middleware
    async def endless(context: TaskContext, call_next: CallNext) -> Any:
        await call_next(context)
        after.set()
        await asyncio.Event().wait()

    @memory.task
    def work() -> None:
        let_go.wait(LIMIT)

    async with memory.dispatcher(stuck_grace=0.1):
        async with expect(memory, TaskStarted):
            handle = await work.enqueue()
        await handle.cancel("enough")
        await eventually(lambda: contexts[0].cancelled)
        let_go.set()
        task = await handle.wait(timeout=LIMIT)
    assert (task.status, after.is_set()) == (TaskStatus.CANCELLED, True)


async def test_call_next_is_for_one_call_with_the_context_of_the_run_awaited_to_its_end(memory: TaskStore):
    called: list[int] = []
    kept: list[Any] = []

    @memory.middleware
    async def wrong(context: TaskContext, call_next: CallNext) -> Any:
        match context.param("n"):
            case 1:
                await call_next(context)
                return await call_next(context)
            case 2:
                return await call_next(cast("TaskContext", "another"))
            case 3:
                call_next(context)
                return None
            case _:
                kept.append(partial(call_next, context))
                return None

    @memory.task
    async def work(n: int) -> None:
        called.append(n)

    expected = {
        1: "called call_next twice in one run",
        2: "takes the context that the middleware was given",
        3: "returned before what it called with call_next had ended",
        4: "None",
    }
    for n, error in expected.items():
        assert error in str((await run_one(memory, work, n)).error)
    assert called == [1]
    with pytest.raises(ConfigurationError, match="had returned when call_next was called"):
        kept[0]()


@pytest.mark.parametrize("wrong", [None, "http", 7])
def test_what_is_no_function_is_no_middleware(wrong: Any):
    with pytest.raises(ConfigurationError, match=r"A middleware is an `async def` of \(context, call_next\), not"):
        TaskStore("sqlite://").middleware(wrong)


def test_what_cannot_be_called_as_middleware_is_refused_where_it_is_registered():
    class Class:
        async def __call__(self, context: TaskContext, call_next: CallNext) -> Any: ...

    def no_coroutine(context: TaskContext, call_next: CallNext) -> Any:
        return call_next(context)

    async def of_one(context: TaskContext) -> Any: ...

    async def yielding(context: TaskContext, call_next: CallNext) -> Any:
        yield

    cases = [
        (Class, r"Class is a class.*store.middleware\(Class\(\)\)"),
        (no_coroutine, r"no_coroutine is none.*`async def`"),
        (of_one, r"called with \(context, call_next\), which .*does not take"),
        (yielding, r"yielding is none"),
    ]
    for given, message in cases:
        with pytest.raises(ConfigurationError, match=message):
            TaskStore("sqlite://").middleware(cast("Middleware", given))
