"""The lifespan: entered before the first run, left after the last, in one asyncio task; and the state in every run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypedDict, cast

import anyio
import pytest

from aiotaskstore import (
    BackgroundEnded,
    CallNext,
    ConfigurationError,
    ListenerFailed,
    TaskContext,
    TaskStarted,
    TaskStatus,
    TaskStore,
    TaskStoreError,
    current_context,
)
from aiotaskstore.manage import entered_lifespan
from tests.helpers import LIMIT, expect


@dataclass
class Resources:
    """What the handlers use."""

    greeting: str = "hello"
    used: list[str] = field(default_factory=list)


class Lives:
    """A lifespan that notes what happens."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.tasks: list[Any] = []

    async def resources(self) -> AsyncIterator[Resources]:
        self.seen.append("entered")
        self.tasks.append(asyncio.current_task())
        try:
            yield Resources()
        finally:
            await asyncio.sleep(0)
            self.tasks.append(asyncio.current_task())
            self.seen.append("left")


@pytest.fixture
def lives() -> Lives:
    return Lives()


def memory_store(lifespan: Callable[[], Any] | None = None) -> TaskStore:
    """A store in memory: little of this depends on the database."""
    store = TaskStore("sqlite://")
    if lifespan is not None:
        store.lifespan(lifespan)

    @store.task
    async def work() -> str:
        return str(current_context().state_as(Resources).greeting)

    return store


async def error_of(call: Awaitable[Any]) -> LookupError | None:
    try:
        await call
    except LookupError as error:
        return error
    return None


async def test_it_is_entered_before_the_first_claim_and_left_after_the_last_run(url: str, lives: Lives):
    store = TaskStore(url)
    assert store.lifespan(lives.resources) == lives.resources
    let_go = asyncio.Event()

    @store.task
    async def work(context: TaskContext, *, wait: bool) -> str:
        lives.seen.append("began")
        await asyncio.sleep(0)
        if wait:
            await let_go.wait()
        lives.seen.append("ended")
        return context.state_as(Resources).greeting

    await store.open()
    done = await work.enqueue(wait=False)
    await store.dispatcher().run_once()
    assert await done.result() == "hello"
    assert lives.seen == ["entered", "began", "ended"]
    await store.dispatcher().start()  # on the same open store: it stays entered
    async with expect(store, TaskStarted):
        await work.enqueue(wait=True)
    async with asyncio.TaskGroup() as group:
        group.create_task(store.close())
        await asyncio.sleep(0)
        let_go.set()
    assert lives.seen == ["entered", "began", "ended", "began", "ended", "left"]
    assert lives.tasks[0] is lives.tasks[1], "in one asyncio task"
    async with store:
        await store.dispatcher().run_once()
    assert lives.seen[6:] == ["entered", "left"]


async def test_every_part_of_a_run_has_the_state_and_only_a_run(lives: Lives):
    store = memory_store(lives.resources)
    store.before(lambda context: context.state.used.append("before"))
    store.after(lambda context, task, error: context.state.used.append("after"))

    @store.middleware
    async def around(context: TaskContext, call_next: CallNext) -> Any:
        context.state.used.append("middleware")
        return await call_next(context)

    @store.task
    def in_a_thread(context: TaskContext) -> None:
        context.state.used.append("thread")

    @store.task
    async def calling() -> None:
        current_context().state.used.append("handler")
        await called()

    @store.task
    async def called() -> None:
        current_context().state.used.append("called directly")

    async with store:
        with pytest.raises(ConfigurationError, match=r"context.state was read while .*not entered"):
            _ = store.state
        await store.enter_lifespan()
        state = store.state
        for one in (in_a_thread, calling):
            await one.enqueue()
            await store.dispatcher().run_once()
        with pytest.raises(ConfigurationError, match=r'"called" is called directly, outside a run'):
            await called()
    around_one = ["middleware", "before", "{}", "after"]
    assert state.used == [
        *(name.format("thread") for name in around_one),
        "middleware", "before", "handler", "called directly", "after",
    ]  # fmt: skip
    assert lives.seen == ["entered", "left"]


async def test_a_store_without_a_lifespan_says_how_to_have_one():
    store = memory_store()
    async with store:
        handle = await store.enqueue("work")
        await store.dispatcher().run_once()
        await store.enter_lifespan()  # there is none: nothing to do
        task = await handle.task()
    assert task.status is TaskStatus.FAILED
    assert "this store has none. Declare it: @store.lifespan" in str(task.error)


async def test_starts_at_the_same_time_wait_for_the_one_entering(lives: Lives):
    entering, let_go = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[Resources]:
        lives.seen.append("entered")
        entering.set()
        await let_go.wait()
        yield Resources()
        lives.seen.append("left")

    store = memory_store(slow)
    async with store, asyncio.timeout(LIMIT):
        handle = await store.enqueue("work")
        one, other = store.dispatcher(), store.dispatcher()
        async with asyncio.TaskGroup() as group:
            starts = [group.create_task(one.start()), group.create_task(other.start())]
            await entering.wait()
            assert not any(start.done() for start in starts)
            assert await handle.status() is TaskStatus.PENDING, "nothing is claimed before"
            let_go.set()
        assert one.running
        assert other.running
        assert await handle.result() == "hello"
    assert lives.seen == ["entered", "left"]


async def test_an_error_of_it_is_raised_by_every_start_and_the_next_start_tries_again(lives: Lives):
    broken = True

    async def resources() -> AsyncIterator[Resources]:
        await asyncio.sleep(0)
        if broken:
            raise LookupError("no such server")
        async for one in lives.resources():
            yield one

    store = memory_store(resources)
    async with store:
        handle = await store.enqueue("work")
        dispatchers = [store.dispatcher(), store.dispatcher()]
        async with asyncio.TaskGroup() as group:
            errors = [group.create_task(error_of(dispatcher.start())) for dispatcher in dispatchers]
        assert [str(error.result()) for error in errors] == ["no such server"] * 2
        with pytest.raises(LookupError, match="no such server"):
            await dispatchers[0].run_once()
        assert not any(dispatcher.running for dispatcher in dispatchers)
        assert await store.dispatchers.list() == []
        assert await handle.status() is TaskStatus.PENDING
        broken = False
        await dispatchers[0].run_once()
        assert await handle.result() == "hello"
    assert lives.seen == ["entered", "left"]


async def test_a_close_that_is_cancelled_leaves_it_all_the_same(lives: Lives):
    left, handling, let_go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def resources() -> AsyncIterator[Resources]:
        async for one in lives.resources():
            yield one
        left.set()

    store = memory_store(resources)

    @store.task
    async def slow() -> None:
        handling.set()
        await let_go.wait()
        lives.seen.append("ended")

    async with store, asyncio.timeout(LIMIT):
        dispatcher = store.dispatcher()
        await dispatcher.start()
        await slow.enqueue()
        await handling.wait()
        async with asyncio.TaskGroup() as group:
            closing = group.create_task(store.close())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            closing.cancel()
        assert closing.cancelled()
        let_go.set()
        await left.wait()
        assert lives.seen == ["entered", "ended", "left"]
        handle = await store.enqueue("work")
        await store.dispatcher().run_once()  # the store is still open: a start enters it anew
        assert await handle.result() == "hello"
    assert lives.seen == ["entered", "ended", "left", "entered", "left"]


async def test_what_it_raises_when_it_is_left_is_reported_and_the_store_is_closed():
    reported: list[str] = []
    store = TaskStore("sqlite://", on_error=lambda queue, task_id, error: reported.append(str(error)))

    @store.lifespan
    @asynccontextmanager
    async def resources() -> AsyncIterator[Resources]:
        yield Resources()
        raise LookupError("cannot say goodbye")

    async with expect(store, ListenerFailed) as failures, store:
        await store.enter_lifespan()
    assert not store.is_open
    assert [cast("ListenerFailed", one).listener for one in failures] == [resources]
    assert reported == ["cannot say goodbye"]


@pytest.mark.parametrize("stubborn", [False, True])
async def test_leaving_has_a_limit(monkeypatch: pytest.MonkeyPatch, stubborn: bool):
    monkeypatch.setattr(entered_lifespan, "LEAVING_LIMIT", 0.05)
    monkeypatch.setattr(entered_lifespan, "_CANCELLED_LIMIT", 0.05 if stubborn else LIMIT)
    let_go = asyncio.Event()
    reported: list[str] = []

    async def resources() -> AsyncIterator[Resources]:
        yield Resources()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                if not stubborn:
                    raise

    store = memory_store(resources)
    store.on(ListenerFailed, lambda event: reported.append(str(event.error)))
    async with asyncio.timeout(LIMIT):
        async with store:
            await store.enter_lifespan()
        assert not store.is_open
        [message] = reported
        assert ("is left behind" if stubborn else "took longer than 50 ms") in message
        let_go.set()
        await asyncio.sleep(0)


async def test_a_lifespan_that_ends_by_itself_ends_its_dispatchers(lives: Lives):
    fail = asyncio.Event()

    async def background() -> None:
        await fail.wait()
        raise LookupError("the connection is gone")

    async def resources() -> AsyncIterator[Resources]:
        async with anyio.create_task_group() as group:
            if not fail.is_set():
                group.start_soon(background)
            async for one in lives.resources():
                yield one

    store = memory_store(resources)

    @store.task
    async def slow() -> None:
        fail.set()
        await asyncio.Event().wait()

    async with store:
        async with expect(store, BackgroundEnded, loop="lifespan") as ends:
            with pytest.raises(TaskStoreError, match="its lifespan did: ExceptionGroup"):
                async with store.dispatcher(), asyncio.timeout(LIMIT):
                    handle = await slow.enqueue()
                    await asyncio.Event().wait()
        [end] = ends
        assert cast("BackgroundEnded", end).dispatcher_id is not None
        assert await handle.status() is TaskStatus.PENDING, "it is returned to the queue"
        await handle.cancel()
        again = await store.enqueue("work")
        await store.dispatcher().run_once()  # enters it anew
        assert await again.result() == "hello"
    assert lives.seen == ["entered", "left", "entered", "left"]


async def test_a_close_ends_an_entering_that_hangs(lives: Lives):
    entering = asyncio.Event()

    async def resources() -> AsyncIterator[Resources]:
        entering.set()
        try:
            await asyncio.Event().wait()
            yield Resources()
        finally:
            lives.seen.append("cleaned up")

    store = memory_store(resources)
    async with store, asyncio.timeout(LIMIT):
        async with asyncio.TaskGroup() as group:
            starting = group.create_task(store.dispatcher().start())
            await entering.wait()
            starting.cancel()
        assert lives.seen == [], "the next start would wait for it"
    assert lives.seen == ["cleaned up"]


async def test_it_may_use_the_store_but_not_wait_for_itself():
    refused: list[str] = []
    store = TaskStore("sqlite://")

    @store.task
    async def work() -> None: ...

    @store.lifespan
    async def resources() -> AsyncIterator[None]:
        await work.enqueue()
        for call in (store.dispatcher().start, store.enter_lifespan, store.close):
            with pytest.raises(ConfigurationError, match="The lifespan function would wait for itself") as error:
                await call()
            refused.append(str(error.value))
        yield
        store.enqueue_soon(work.draft())

    async with store, asyncio.timeout(LIMIT):
        assert await store.dispatcher().run_once() == 1
    assert len(refused) == 3


def test_a_loop_that_is_gone_takes_its_lifespan_with_it(lives: Lives):
    store = memory_store(lives.resources)

    async def one_loop() -> str:
        await store.open()
        handle = await store.enqueue("work")
        await store.dispatcher().run_once()
        return cast("str", await handle.result())

    async def other_loop() -> str:
        async with store:
            return await one_loop()

    assert asyncio.run(one_loop()) == "hello"
    assert lives.seen == ["entered", "left"]
    assert asyncio.run(other_loop()) == "hello"
    assert lives.seen == ["entered", "left"] * 2


class Greets(Protocol):
    greeting: str


class Keys(TypedDict):
    key: str


async def test_state_as_compares_what_can_be_compared():
    states: list[Any] = [Resources(), {"key": "value"}]

    async def resources() -> AsyncIterator[Any]:
        yield states[0]

    store = TaskStore("sqlite://")
    store.lifespan(resources)
    kinds: list[Any] = [Resources, Greets, dict, dict[str, str], Keys, "Resources"]
    found: list[Any] = []

    @store.task
    async def work(context: TaskContext) -> None:
        for kind in kinds:
            try:
                assert context.state_as(kind) is states[0]
                found.append("ok")
            except ConfigurationError as error:
                found.append(str(error))

    while states:
        async with store:
            await work.enqueue()
            await store.dispatcher().run_once()
        states.pop(0)
    not_a_class = "state_as takes a class, such as Resources, not 'Resources'."
    asked = (
        "The store's lifespan yielded {}, which is a {}, and state_as was asked for a {}. Yield that, or ask for what "
        "is yielded."
    )
    no_dict = asked.format(repr(Resources()), "Resources", "dict")
    assert found[:6] == ["ok", "ok", no_dict, no_dict, "ok", not_a_class]
    assert found[6:] == [asked.format({"key": "value"}, "dict", "Resources"), *["ok"] * 4, not_a_class]


async def test_a_lifespan_that_does_not_yield_fails_the_start():
    async def resources() -> AsyncIterator[None]:
        if not store.is_open:
            yield

    store = memory_store(resources)
    async with store:
        with pytest.raises(ConfigurationError, match="that yields once; it returned without"):
            await store.dispatcher().start()


def test_what_is_no_lifespan_is_refused_where_it_is_registered(lives: Lives):
    async def with_app(app: object) -> AsyncIterator[None]:
        yield

    async def coroutine() -> None: ...

    def generator() -> Any:
        yield

    def function() -> None: ...

    cases: list[tuple[Any, str]] = [
        (None, "A lifespan is an async generator function without parameters.* not None"),
        (coroutine, "coroutine is neither"),
        (generator, "generator is neither"),
        (function, "function is neither"),
        (asynccontextmanager(lives.resources)(), "_AsyncGeneratorContextManager object .* is neither"),
        (with_app, r"This lifespan is called with \(\), which .*does not take.*'app'"),
    ]
    for given, message in cases:
        with pytest.raises(ConfigurationError, match=message):
            TaskStore("sqlite://").lifespan(given)
    store = memory_store(lives.resources)
    with pytest.raises(ConfigurationError, match=r"The store has a lifespan, Lives.resources, and .*would be a second"):
        store.lifespan(lives.resources)
