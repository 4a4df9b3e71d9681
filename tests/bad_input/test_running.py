"""What a handler does wrong costs its own task, and nobody else's; the dispatcher goes on."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from pydantic import BaseModel, field_validator, model_serializer

from aiotaskstore import Fail, PayloadError, Retry, Snooze, Task, TaskContext, TaskStatus, TaskStore, current_context
from aiotaskstore.events import BackgroundFailed
from tests.bad_input.refusals import judge, together
from tests.helpers import LIMIT

TEN_MEGABYTES = 10_000_000
HARD = "NUL \0 surrogate \ud800 emoji 🎈 end"


class Unprintable(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Textless(Exception):  # noqa: N818
    def __str__(self) -> str:
        return cast("str", 5)


LongName = type("L" * 5_000, (Exception,), {})


@asynccontextmanager
async def working(store: TaskStore, **options: Any) -> AsyncIterator[list[BackgroundFailed]]:
    """Dispatch while the block lasts; afterwards everything still works, and no loop was troubled."""
    failures: list[BackgroundFailed] = []
    store.on(BackgroundFailed, failures.append)

    @store.task
    async def innocent(n: int) -> int:
        await asyncio.sleep(0.01)
        return n

    async with store.dispatcher(concurrency=20, **options) as dispatcher:
        before = [await innocent.enqueue(n) for n in range(5)]
        yield failures
        after = [await innocent.enqueue(n) for n in range(5, 10)]
        assert [await handle.result(LIMIT) for handle in [*before, *after]] == list(range(10))
        assert dispatcher.running
    assert failures == []


async def finished(handle: Any) -> Task:
    task = await handle.wait(LIMIT)
    assert isinstance(task, Task)
    return task


# ── results ───────────────────────────────────────────────────────────────────────────────────────────────────

RESULTS = {
    "NaN": (lambda: float("nan"), 'The result of "returns" contains NaN or infinity'),
    "NaN deep within": (lambda: {"a": [None, {"b": float("inf")}]}, "contains NaN or infinity"),
    "NUL": (lambda: "a\0b", "contains a NUL character"),
    "a lone surrogate": (lambda: ["\ud800"], "cannot be written as JSON"),
    "an object": (object, "cannot be written as JSON"),
    "too much": (lambda: "x" * 2**20, r"is 1,048,578 bytes of JSON, and the limit is 1,048,576"),
    "an unreadable number": (lambda: 10**5000, "read back|digits"),
    "a generator": (lambda: (one for one in [1]), None),
}


@pytest.mark.parametrize("how", ["async", "sync"])
async def test_a_result_that_cannot_be_stored_fails_its_task_alone(store: TaskStore, how: str):
    if how == "async":

        @store.task(max_attempts=2, backoff=0)
        async def returns(what: str) -> Any:
            return RESULTS[what][0]()
    else:

        @store.task(max_attempts=2, backoff=0)
        def returns(what: str) -> Any:
            return RESULTS[what][0]()

    async with working(store):
        handles = {what: await returns.enqueue(what) for what in RESULTS}
        for what, handle in handles.items():
            task = await finished(handle)
            words = RESULTS[what][1]
            if words is None:
                continue
            assert (task.status, task.attempt) == (TaskStatus.FAILED, 2), f"{what}: {task}"
            assert task.error is not None
            assert task.error.startswith("PayloadError: The result of"), what
            assert re.search(words, task.error), task.error


async def test_a_result_whose_type_cannot_write_it_fails_its_task_alone(store: TaskStore):
    class Broken(BaseModel):
        value: int = 0

        @model_serializer
        def write(self) -> dict[str, Any]:
            raise KeyError("serializer is broken")

    @store.task
    async def typed() -> Broken:
        return Broken()

    @store.task
    async def untyped() -> Any:
        return Broken()

    async with working(store):
        for handle in (await typed.enqueue(), await untyped.enqueue()):
            task = await finished(handle)
            assert task.status is TaskStatus.FAILED
            assert "serializer is broken" in str(task.error)


@pytest.mark.timeout(300)
async def test_what_the_server_itself_finds_too_large_costs_nobody_else(mysql_url: str):
    """A payload_limit beyond MySQL's max_allowed_packet: the batch is taken apart, and the recorder goes on."""
    async with TaskStore(mysql_url, payload_limit=2**30) as store:
        async with store.transaction() as connection, connection.cursor() as cursor:
            await cursor.execute("SELECT @@max_allowed_packet")
            ((most,),) = await cursor.fetchall()

        @store.task
        async def makes(value: str, size: int = 0) -> str:
            return value if not size else "x" * size

        # While a statement of 64 MiB is written, little else runs in the process: a heartbeat may be late.
        async with working(store, heartbeat=LIMIT, lease=4 * LIMIT):
            bad = makes.enqueue("x" * (most + 1))
            first, refused, last = await together(makes.enqueue("a"), bad, makes.enqueue("b"))
            judge(refused, PayloadError, "does not fit in MySQL's max_allowed_packet")
            assert [await first.result(LIMIT), await last.result(LIMIT)] == ["a", "b"]
            task = await finished(await makes.enqueue("c", most + 1))
            assert (task.status, task.finish_reason) == (TaskStatus.FAILED, "unstorable")
            assert "max_allowed_packet" in str(task.error)


# ── payloads of another time ──────────────────────────────────────────────────────────────────────────────────


async def test_a_validator_that_raises_at_the_run_fails_its_task_alone(store: TaskStore):
    """Whatever it raises: pydantic turns only ValueError and AssertionError into its own."""
    broken = False

    class Strict(BaseModel):
        value: int

        @field_validator("value")
        @classmethod
        def check(cls, value: int) -> int:
            if broken and value == 1:
                raise KeyError("validator is broken")
            if broken and value == 2:
                raise ValueError("too strict")
            if broken and value == 3:
                raise SystemExit("validator wants out")
            return value

    @store.task
    async def takes(strict: Strict) -> int:
        return strict.value

    handles = [await takes.enqueue(Strict(value=value)) for value in (1, 2, 3, 4)]
    broken = True
    async with working(store):
        tasks = [await finished(handle) for handle in handles]
    assert [task.status for task in tasks] == [TaskStatus.FAILED] * 3 + [TaskStatus.SUCCEEDED]
    assert "validator is broken" in str(tasks[0].error)
    assert "too strict" in str(tasks[1].error)
    assert "validator wants out" in str(tasks[2].error)


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────

ERRORS: dict[str, Any] = {
    "cannot be printed": Unprintable,
    "prints no text": Textless,
    "hard text": lambda: ValueError(HARD),
    "ten megabytes": lambda: ValueError("x" * TEN_MEGABYTES),
    "ten megabytes of NUL": lambda: ValueError("\0" * TEN_MEGABYTES),
    "a long name": lambda: LongName("y"),
    "a group": lambda: ExceptionGroup("group", [ValueError(HARD), Unprintable()]),
    "a base exception": lambda: BaseException("base"),
    "an exit": lambda: SystemExit(3),
    "the end of iteration": lambda: StopIteration(5),
    "the end of async iteration": lambda: StopAsyncIteration(5),
    "a generator's exit": GeneratorExit,
    "a cancellation nobody asked for": lambda: asyncio.CancelledError("mine"),
    "a failure with hard text": lambda: Fail(HARD),
    "a failure with no text": lambda: Fail(cast("Any", None)),
    "a retry with hard text": lambda: Retry(HARD),
    "a snooze of no length": lambda: Snooze(cast("Any", None)),
}


def error_of(what: str) -> BaseException:
    error: BaseException = ERRORS[what]()
    return error


@pytest.mark.parametrize("how", ["async", "sync"])
@pytest.mark.acceptance("A58")
async def test_an_error_of_any_kind_fails_its_task_alone(store: TaskStore, how: str):
    if how == "async":

        @store.task
        async def raises(what: str) -> None:
            raise error_of(what)
    else:

        @store.task
        def raises(what: str) -> None:
            raise error_of(what)

    async with working(store):
        handles = {what: await raises.enqueue(what) for what in ERRORS}
        for what, handle in handles.items():
            task = await finished(handle)
            assert task.status is TaskStatus.FAILED, f"{what}: {task}"
            assert task.error, what
            assert len(task.error) < 10_200, what
            assert "\0" not in task.error
            task.error.encode()
            assert len(task.errors) == 1, what
            assert task.errors[0].message in task.error
    listed = {task.payload["what"]: task.error or "" for task in await store.tasks.list(alias="raises")}
    assert listed["cannot be printed"] == "Unprintable: <Unprintable that cannot be printed>"
    assert listed["hard text"] == "ValueError: NUL \\x00 surrogate \\ud800 emoji 🎈 end"
    assert listed["ten megabytes"].endswith("x…")
    assert listed["an exit"] == "SystemExit: 3"


async def test_an_error_that_is_retried_is_stored_each_time(store: TaskStore):
    @store.task(max_attempts=3, backoff=0)
    async def raises() -> None:
        raise ValueError(HARD) if current_context().attempt < 3 else Unprintable

    async with working(store):
        task = await finished(await raises.enqueue())
    assert [error.type for error in task.errors] == ["ValueError", "ValueError", "Unprintable"]


# ── backoff ───────────────────────────────────────────────────────────────────────────────────────────────────


def _exits(_attempt: int, _error: BaseException) -> float:
    raise SystemExit("backoff wants out")


BACKOFFS: dict[str, Any] = {
    "raises": lambda attempt, error: 1 / 0,
    "exits": _exits,
    "is negative": lambda attempt, error: -1,
    "is NaN": lambda attempt, error: float("nan"),
    "is infinite": lambda attempt, error: float("inf"),
    "is text": lambda attempt, error: "5m",
    "is nothing": lambda attempt, error: None,
    "takes nothing": lambda: 1,
}


async def test_a_backoff_that_makes_no_sense_ends_its_task_and_keeps_the_handlers_error(store: TaskStore):
    definitions = {}
    for what, backoff in BACKOFFS.items():

        async def raises() -> None:
            raise ValueError("the handler's own error")

        definitions[what] = store.task(alias=what, backoff=backoff, max_attempts=5)(raises)
    async with working(store):
        for what, definition in definitions.items():
            task = await finished(await definition.enqueue())
            assert (task.status, task.attempt) == (TaskStatus.FAILED, 1), f"{what}: {task}"
            assert "the handler's own error" in str(task.error), f"{what}: {task.error}"
            assert "backoff" in str(task.error), f"{what}: {task.error}"


# ── what a handler tells ──────────────────────────────────────────────────────────────────────────────────────


async def test_whatever_a_handler_tells_is_stored_as_well_as_it_can_be(store: TaskStore):
    @store.task
    async def tells(context: TaskContext) -> None:
        context.info(HARD)
        context.success("x" * TEN_MEGABYTES)
        context.error(cast("Any", Unprintable()))
        await context.progress(HARD, fraction=0.5)
        context.info("the end")

    async with working(store):
        task = await finished(await tells.enqueue())
    assert task.status is TaskStatus.SUCCEEDED, task.error
    lines = task.details.splitlines()
    assert lines[0] == "NUL \\x00 surrogate \\ud800 emoji 🎈 end"
    assert lines[1].endswith("x…")
    assert lines[2:] == ["<Unprintable that cannot be printed>", "the end"]
    assert task.progress is not None
    assert (task.progress.text, task.progress.fraction) == ("NUL \\x00 surrogate \\ud800 emoji 🎈 end", 0.5)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan"), "half"])
async def test_a_fraction_that_is_none_is_the_handlers_error(fraction: Any):
    async with TaskStore("sqlite://") as store:

        @store.task
        async def tells(context: TaskContext) -> None:
            await context.progress("x", fraction=fraction)

        async with working(store):
            task = await finished(await tells.enqueue())
        assert str(task.error).startswith("ConfigurationError: A progress fraction is a number from 0 to 1, not")


@pytest.mark.parametrize(
    ("output", "status"), [("fine", "succeeded"), ("\0", "failed"), ("\ud800", "failed"), ("x" * 2**20, "failed")]
)
async def test_output_that_cannot_be_stored_fails_its_task_alone(store: TaskStore, output: str, status: str):
    @store.task
    async def leaves(context: TaskContext) -> None:
        context.output = output

    async with working(store):
        task = await finished(await leaves.enqueue())
        assert task.status == status
        if status == "failed":
            assert str(task.error).startswith('PayloadError: The output of "leaves"')


async def test_what_a_handler_enqueues_wrongly_is_its_own_error(store: TaskStore):
    @store.task
    async def enqueues(what: str) -> None:
        match what:
            case "an unknown alias":
                await current_context().store.enqueue("enqueue")
            case "NaN":
                await current_context().store.enqueue("x", {"a": float("nan")}, unchecked=True)
            case _:
                await enqueues.enqueue(cast("Any", 5))

    async with working(store):
        errors = [
            str((await finished(await enqueues.enqueue(what))).error)
            for what in ("an unknown alias", "NaN", "a misfit")
        ]
    assert [error.partition(":")[0] for error in errors] == ["UnknownAliasError", "PayloadError", "PayloadError"]
    assert 'Did you mean "enqueues"' in errors[0]


async def test_listeners_that_raise_change_nothing(url: str, caplog: pytest.LogCaptureFixture):
    from aiotaskstore import TaskClaimed, TaskEnqueued, TaskFinished, TaskStarted

    def broken(*_arguments: Any) -> None:
        raise RuntimeError("a listener is broken")

    async def broken_later(_event: Any) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("an async listener is broken")

    async with TaskStore(url, on_error=broken) as store:
        for kind in (TaskEnqueued, TaskClaimed, TaskStarted, TaskFinished):
            store.on(kind, broken)
            store.on(kind, broken_later)

        @store.task
        async def works(fail: bool) -> str:
            if fail:
                raise ValueError("on purpose")
            return "done"

        with caplog.at_level(logging.CRITICAL, logger="aiotaskstore"):
            async with store.dispatcher():
                assert await (await works.enqueue(fail=False)).result(LIMIT) == "done"
                assert (await (await works.enqueue(fail=True)).wait(LIMIT)).status is TaskStatus.FAILED
                assert await (await works.enqueue(fail=False)).result(LIMIT) == "done"


async def test_a_timeout_of_the_handlers_own_is_told_from_ours(store: TaskStore):
    @store.task(timeout=0.2)
    async def times_out(by_itself: bool) -> None:
        if by_itself:
            raise TimeoutError("something the handler waited for")
        await asyncio.Event().wait()

    async with working(store):
        own = await finished(await times_out.enqueue(by_itself=True))
        ours = await finished(await times_out.enqueue(by_itself=False))
    assert (own.error, own.finish_reason) == ("TimeoutError: something the handler waited for", "error")
    assert (ours.error, ours.finish_reason) == (
        "TimeoutError: the handler took longer than its timeout of 0.2 s",
        "timeout",
    )
