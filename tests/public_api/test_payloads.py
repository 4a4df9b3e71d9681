"""What goes in comes out: arguments and results, with their types."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, cast
from uuid import UUID, uuid4

import pytest
from pydantic import AfterValidator, BaseModel, Field
from typing_extensions import TypedDict

from aiotaskstore import PayloadError, TaskContext, TaskFailedError, TaskHandle, TaskStatus, TaskStore, current_context


class Colour(enum.Enum):
    RED = "red"


class Address(BaseModel):
    street: str
    number: int = Field(ge=1)


@dataclass
class Point:
    x: int
    y: float


class Options(TypedDict, total=False):
    dry: bool


def _doubled(value: int) -> int:
    return 2 * value


@pytest.mark.acceptance("A14", "A62")
async def test_arguments_reach_the_handler_with_their_types(store: TaskStore):
    seen: list[Any] = []

    @store.task
    async def work(  # noqa: PLR0917 - one of each kind
        address: Address,
        point: Point,
        options: Options,
        colour: Colour,
        at: datetime,
        identity: UUID,
        price: Decimal,
        wait: timedelta,
        many: dict[str, list[Point]],
        /,
        either: int | str,
        data: bytes,
        *,
        even: Annotated[int, AfterValidator(_doubled)],
        nothing: None = None,
        text: str = "default",
    ) -> None:
        seen.append(
            (address, point, options, colour, at, identity, price, wait, many, either, data, even, nothing, text)
        )

    given = (
        Address(street="Main", number=1), Point(1, 2.5), Options(dry=True), Colour.RED,
        datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), uuid4(), Decimal("1.10"), timedelta(days=1, seconds=0.5),
        {"a": [Point(3, 4.0)]},
    )  # fmt: skip
    await work.enqueue(*given, "one", data=b"abc", even=4)
    assert await store.dispatcher().run_once() == 1
    # Validators run at enqueue and again at the run.
    assert seen == [(*given, "one", b"abc", 16, None, "default")]


@pytest.mark.acceptance("A46")
async def test_results_come_back_as_the_type_the_handler_declares(store: TaskStore):
    @store.task
    async def model() -> Address:
        return Address(street="Main", number=2)

    @store.task
    async def points() -> dict[str, Point]:
        return {"a": Point(1, 2.0)}

    @store.task
    async def nothing() -> None: ...

    @store.task
    async def undeclared(n: int):
        return {"n": n, "text": "é 🎉"}

    @store.task
    def in_a_thread() -> tuple[int, Decimal]:
        return 1, Decimal("2.50")

    handles: list[TaskHandle[Any]] = [
        await model.enqueue(), await points.enqueue(), await nothing.enqueue(), await undeclared.enqueue(1),
        await in_a_thread.enqueue(),
    ]  # fmt: skip
    await store.dispatcher().run_once()
    assert [await handle.result() for handle in handles] == [
        Address(street="Main", number=2), {"a": Point(1, 2.0)}, None, {"n": 1, "text": "é 🎉"}, (1, Decimal("2.50")),
    ]  # fmt: skip
    assert await store.handle(handles[0].id).result() == {"street": "Main", "number": 2}


@pytest.mark.acceptance("A14")
async def test_numbers_and_text_of_any_size_and_kind_survive_the_database(store: TaskStore):
    values = [
        2**70, -(2**63), 0.1, 1e308, "", " ", "'", '"', "\\", "a\nb\r\tc", "\u2028", "🎉", "%s %(x)s :x $1 ?",
        "\x1a\x08", [], {}, [[None]], {"": 0, "é": 1}, True, False, None,
    ]  # fmt: skip

    @store.task
    async def echo(value: Any) -> Any:
        return value

    for value in values:
        handle = await echo.enqueue(value)
        await store.dispatcher().run_once()
        assert await handle.result() == value
        assert (await handle.task()).payload == {"value": value}


@pytest.mark.acceptance("A63")
async def test_a_payload_that_does_not_fit_is_refused_and_nothing_is_stored(store: TaskStore):
    @store.task
    async def work(user_id: int, *, locale: str = "en") -> None: ...

    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((), {}), (("x",), {}), ((1, 2), {}), ((1,), {"locale": 3}), ((1,), {"unknown": 1}), ((1,), {"user_id": 2}),
    ]  # fmt: skip
    for args, kwargs in calls:
        with pytest.raises(PayloadError, match="work"):
            await work.enqueue(*args, **kwargs)
        with pytest.raises(PayloadError, match="work"):
            work.draft(*args, **kwargs)
    with pytest.raises(PayloadError, match="user_id"):
        await store.enqueue("work", {"locale": "bg"})
    assert await store.tasks.count() == 0


async def test_a_payload_is_checked_again_when_it_runs(store: TaskStore, url: str):
    @store.task(max_attempts=2, backoff=0)
    async def retried(n: int) -> None: ...

    @store.task(on_decode_error="cancel", max_attempts=2)
    async def cancelled(n: int) -> None: ...

    @store.task(on_decode_error="fail", max_attempts=2)
    async def failed(n: int) -> None: ...

    async with TaskStore(url) as elsewhere:  # an older release, which knows nothing of the type
        ids = [
            (await elsewhere.enqueue(alias, {"n": "not a number"}, unchecked=True, max_attempts=2)).id
            for alias in ("retried", "cancelled", "failed")
        ]
    await store.dispatcher().run_once()
    tasks = [await store.tasks.require(task_id) for task_id in ids]
    assert [(task.status, task.attempt) for task in tasks] == [
        (TaskStatus.FAILED, 2), (TaskStatus.CANCELLED, 1), (TaskStatus.FAILED, 1),
    ]  # fmt: skip
    assert tasks[0].error is not None
    assert tasks[0].error.startswith("PayloadError")


async def test_a_call_of_the_task_itself_just_runs_the_function(store: TaskStore):
    @store.task
    async def coroutine(n: int, *, more: int = 1) -> int:
        return n + more

    @store.task
    def thread(context: TaskContext, n: int) -> int:
        context.info("called directly")
        return n

    assert await coroutine(1, more=5) == 6
    assert await thread(3) == 3
    assert await store.tasks.count() == 0


@pytest.mark.acceptance("A62")
async def test_the_context_is_no_part_of_the_payload(store: TaskStore):
    @store.task
    async def work(context: TaskContext, n: int) -> int:
        assert context is current_context()
        return n

    handle = await work.enqueue(7)
    await store.dispatcher().run_once()
    assert (await handle.task()).payload == {"n": 7}
    assert await handle.result() == 7


async def test_arguments_with_defaults_are_left_to_the_release_that_runs_them(store: TaskStore):
    @store.task
    async def work(n: int, locale: str = "en") -> str:
        return f"{n} {locale}"

    handle = await work.enqueue(1)
    assert (await handle.task()).payload == {"n": 1}
    await store.dispatcher().run_once()
    assert await handle.result() == "1 en"


async def test_keyword_arguments_of_any_name_are_taken_where_the_handler_takes_them(store: TaskStore):
    @store.task
    async def work(**values: int) -> dict[str, int]:
        return values

    handle = await work.enqueue(a=1, self=2)
    await store.dispatcher().run_once()
    assert await handle.result() == {"a": 1, "self": 2}


async def test_payload_and_result_over_the_limit_are_errors(url: str):
    async with TaskStore(url, payload_limit=1000) as store:

        @store.task
        async def work(n: int, text: str = "") -> str:
            return n * "x"

        with pytest.raises(PayloadError, match="1,000"):
            await work.enqueue(1, "x" * 1000)
        fits, too_long = await work.enqueue(998), await work.enqueue(999)
        await store.dispatcher().run_once()
        assert await fits.status() is TaskStatus.SUCCEEDED
        task = await too_long.task()
        assert task.status is TaskStatus.FAILED
        assert (task.error or "").startswith("PayloadError")


async def test_a_result_that_does_not_fit_fails_the_attempt_not_the_reader(store: TaskStore):
    returns: list[Any] = ["not a number", None, 7]

    @store.task(max_attempts=3, backoff=0)
    async def number() -> int:
        return cast(int, returns.pop(0))

    @store.task
    async def omits() -> str:
        return cast(str, None)

    first, second = await number.enqueue(), await omits.enqueue()
    await store.dispatcher().run_once()
    assert await first.result(0) == 7
    task = await first.task()
    assert [(one.attempt, one.type) for one in task.errors] == [(1, "PayloadError"), (2, "PayloadError")]
    assert "declares to return int, and returned str" in task.errors[0].message
    assert "declares to return int, and returned NoneType" in task.errors[1].message
    with pytest.raises(TaskFailedError, match='The result of "omits" does not fit'):
        await second.result(0)


async def test_an_output_is_the_result_of_a_handler_that_returns_nothing(store: TaskStore):
    @store.task
    async def tells(context: TaskContext) -> None:
        context.output = "told"

    handle = await tells.enqueue()
    await store.dispatcher().run_once()
    told: Any = await cast("Any", handle).result(0)
    assert told == "told"
