"""`await send_welcome(42)` just runs the function: outside a run as a run of its own, inside one within it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from aiotaskstore import (
    Cancel,
    ConfigurationError,
    Fail,
    Queue,
    Retry,
    Snooze,
    Task,
    TaskContext,
    TaskRouter,
    TaskStatus,
    TaskStore,
    current_context,
)
from tests.helpers import LIMIT, eventually

router = TaskRouter()


@router.task(queue="imports", max_attempts=5, timeout=30, priority=3)
async def import_file(context: TaskContext, name: str, *, rows: int = 10) -> tuple[TaskContext, str, int]:
    assert current_context() is context
    return context, name, rows


@router.task
def import_in_thread(context: TaskContext, name: str) -> tuple[TaskContext, str, int]:
    assert current_context() is context
    assert threading.current_thread() is not threading.main_thread()
    return context, name, 0


@router.task
async def no_context(name: str) -> Task:
    return current_context().task


async def test_a_handler_that_reads_its_context_is_called_without_one():
    context, name, rows = await import_file("x", rows=5)
    task = context.task
    assert (name, rows) == ("x", 5)
    assert (task.alias, task.queue, task.status, task.attempt) == ("import_file", "imports", TaskStatus.RUNNING, 1)
    assert (task.max_attempts, task.priority, task.timeout and task.timeout.seconds) == (5, 3, 30)
    assert task.payload == {"name": "x", "rows": 5}
    assert (context.attempt, context.metadata, context.cancelled, context.store) == (1, {}, False, None)
    assert (context.param("name"), context.param("absent", 7)) == ("x", 7)
    assert (await import_file(name="y"))[1] == "y"
    assert (await import_in_thread("z"))[1] == "z"
    assert (await no_context("x")).alias == "no_context"
    with pytest.raises(ConfigurationError, match="works only inside"):
        current_context()


async def test_each_direct_call_is_a_run_of_its_own():
    one, two = (await import_file("x"))[0], (await import_file("x"))[0]
    assert one is not two
    assert one.task.id != two.task.id
    assert one.task is one.task


async def test_a_context_can_be_passed_first_or_by_its_name():
    mine, *_ = await import_file("x")
    assert await import_file(mine, "y", rows=1) == (mine, "y", 1)
    assert await import_file(mine, name="y") == (mine, "y", 10)
    by_name: Any = import_file
    assert await by_name("y", context=mine) == (mine, "y", 10)
    assert await by_name(name="y", context=mine) == (mine, "y", 10)
    assert (await import_in_thread(mine, "y"))[0] is mine
    assert await no_context(mine, "y") is mine.task, "also where the handler asks for it"
    for nonsense in (None, "context"):
        with pytest.raises(ConfigurationError, match='"context" of "import_file" is its TaskContext'):
            await by_name("y", context=nonsense)


async def test_what_cannot_be_stored_can_still_be_passed():
    """A direct call is checked by nobody: a test passes what stands for the real thing."""

    @router.task
    async def takes(thing: Any) -> tuple[Any, Any]:
        return thing, current_context().task.payload

    thing = object()
    assert await takes(thing) == (thing, None)


async def test_progress_and_details_stay_in_memory(store: TaskStore):
    @store.task
    async def tells(context: TaskContext) -> TaskContext:
        await context.progress("halfway", fraction=0.5)
        context.info("one")
        context.error("two")
        context.output = "out"
        return context

    context = await tells()
    assert (context.last_info, context.last_error, context.output) == ("one", "two", "out")
    run: Any = context._run
    assert (run.progress.text, run.progress.fraction, run.details) == ("halfway", 0.5, ["one", "two"])
    assert context.store is store
    assert await store.tasks.count() == 0
    assert await store.tasks.get(context.task.id) is None


@pytest.mark.parametrize(
    "error", [Retry("why"), Snooze(5), Cancel("why"), Fail("why"), ValueError("x"), StopIteration()]
)
async def test_what_a_handler_raises_comes_out(error: BaseException):
    def raises() -> None:
        raise error

    with pytest.raises(type(error) if not isinstance(error, StopIteration) else (StopIteration, RuntimeError)):
        await TaskRouter().task(raises)()

    async def raises_too() -> None:
        raise error

    with pytest.raises(type(error) if not isinstance(error, StopIteration) else RuntimeError):
        await TaskRouter().task(raises_too)()


async def test_children_of_a_direct_call_have_no_parent(store: TaskStore):
    @store.task
    async def child() -> None: ...

    @store.task
    async def parent() -> Any:
        return (await child.enqueue()).id

    assert (await store.tasks.require(await parent())).parent_id is None
    handle = await parent.enqueue()
    await store.dispatcher().run_once()
    (queued,) = await store.tasks.list(parent_id=handle.id)
    assert queued.alias == "child"


async def test_inside_a_run_a_direct_call_has_the_callers_context(store: TaskStore):
    @store.task
    async def helper(context: TaskContext, n: int) -> str:
        context.info(f"helper {n}")
        return str(current_context().task.id)

    @store.task
    def threaded(context: TaskContext) -> str:
        return str(context.task.id)

    @store.task
    async def work(context: TaskContext) -> list[str]:
        return [await helper(1), await helper(context, 2), await threaded(), str(current_context().task.id)]

    handle = await work.enqueue()
    await store.dispatcher().run_once()
    assert await handle.result(LIMIT) == [str(handle.id)] * 4
    assert (await handle.task()).details == "helper 1\nhelper 2"


async def test_a_cancelled_call_tells_the_thread_that_goes_on():
    began, saw = threading.Event(), threading.Event()

    @router.task
    def works(context: TaskContext) -> None:
        began.set()
        while not context.cancelled:
            threading.Event().wait(0.01)
        saw.set()

    call = asyncio.get_running_loop().create_task(works())
    await eventually(began.is_set)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await eventually(saw.is_set)


async def test_a_queues_defaults_do_not_hold_a_direct_call_back(url: str):
    store = TaskStore(url, queues=[Queue("slow", concurrency=1)])

    @store.task(queue="slow")
    async def work(n: int) -> int:
        return n

    assert [await work(n) for n in range(3)] == [0, 1, 2], "the store is not even open"
