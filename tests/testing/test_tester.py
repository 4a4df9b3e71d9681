"""An application's store under a tester: what is enqueued, run, and when."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from unittest.mock import ANY

import pytest
from pydantic import BaseModel

from aiotaskstore import (
    ConfigurationError,
    InvalidQueryError,
    PayloadError,
    Retention,
    Retry,
    Snooze,
    TaskStatus,
    TaskStore,
    current_context,
)
from aiotaskstore.testing import KEEP, TaskStoreTester, serial_runner
from tests.helpers import LIMIT

NOON = datetime(2031, 5, 17, 12, tzinfo=UTC)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Order(BaseModel):
    id: int
    total: Decimal = Decimal(0)


class Application:
    """A store as an application has it, and what its handlers did."""

    def __init__(self, url: str = "postgresql://nobody@nowhere.invalid/nothing") -> None:
        self.store = TaskStore(url)
        self.sent: list[int] = []
        self.hung = asyncio.Event()
        store = self.store

        @store.task(queue="emails", max_attempts=3)
        async def send_welcome(user_id: int, *, locale: str = "en") -> str:
            self.sent.append(user_id)
            return f"{user_id} {locale}"

        @store.task
        async def bill(order: Order, at: datetime, colour: Colour = Colour.RED) -> Order:
            return order

        @store.task(max_attempts=2)
        async def fails(message: str = "no such user") -> None:
            raise ValueError(message)

        @store.task(timeout=30)
        async def hangs() -> None:
            self.hung.set()
            await asyncio.Event().wait()

        @store.task
        async def again() -> None:
            await again.enqueue()

        @store.task
        async def reports(n: int) -> int:
            context = current_context()
            context.info(f"line {n}")
            await context.progress("half", fraction=0.5)
            return context.attempt

        @store.task
        async def snoozes() -> None:
            if current_context().task.run_at < NOON + timedelta(hours=1):
                raise Snooze(3600)

        self.send_welcome, self.bill, self.fails, self.hangs = send_welcome, bill, fails, hangs
        self.again, self.reports, self.snoozes = again, reports, snoozes


@pytest.fixture
def app() -> Application:
    return Application()


@pytest.fixture
async def tester(app: Application) -> AsyncIterator[TaskStoreTester]:
    async with TaskStoreTester(app.store, now=NOON) as tester:
        yield tester


# ── where ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_store_has_its_own_database_back_afterwards(app: Application):
    before = app.store.url
    async with TaskStoreTester(app.store):
        assert app.store.url == "sqlite://"
        await app.send_welcome.enqueue(1)
    assert app.store.url == before
    assert not app.store.is_open
    async with TaskStoreTester(app.store) as tester:
        assert await tester.enqueued() == []


async def test_an_application_may_open_and_close_its_store_inside(app: Application, tester: TaskStoreTester):
    for number in range(2):
        async with app.store, app.store.dispatcher(poll_interval=0.05):
            handle = await app.send_welcome.enqueue(number)
            assert await handle.result(timeout=LIMIT) == f"{number} en"
        assert app.store.is_open
    assert len(await tester.enqueued()) == 2
    await app.store.close()
    assert (await tester.drain()).ran == 0


async def test_a_store_that_is_open_is_refused(app: Application, tester: TaskStoreTester):
    with pytest.raises(ConfigurationError, match="open already"):
        async with TaskStoreTester(app.store):
            pass
    assert app.store.url == "sqlite://"


async def test_a_failure_to_open_leaves_the_store_as_it_was(app: Application):
    before = app.store.url
    with pytest.raises(Exception, match="folder"):
        async with TaskStoreTester(app.store, database="sqlite:////nowhere/at/all/x.db"):
            pass
    assert app.store.url == before


async def test_an_application_on_a_loop_of_its_own_opens_the_store_itself(app: Application):
    def served() -> None:
        async def serve() -> None:
            async with app.store:
                await app.send_welcome.enqueue(5)
                await elsewhere.assert_enqueued(app.send_welcome, user_id=5)
                assert (await elsewhere.drain()).succeeded == 1

        asyncio.run(serve())

    with TaskStoreTester(app.store) as elsewhere:
        await asyncio.to_thread(served)
        await asyncio.to_thread(served)
    with pytest.raises(ConfigurationError, match="left its store open"), TaskStoreTester(app.store):
        await app.store.open()
    await app.store.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _store: TaskStoreTester("sqlite://"), "TaskStore"),  # type: ignore[arg-type]
        (lambda store: TaskStoreTester(store, now=datetime(2031, 1, 1)), "timezone"),  # noqa: DTZ001
        (lambda store: TaskStoreTester(store, database="oracle://x"), "oracle"),
        (lambda store: TaskStoreTester(store, connection=object(), database="sqlite:///x.db"), "leave database="),
        (lambda store: TaskStoreTester(store, database=KEEP).__enter__(), "async with"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(app: Application, make: Callable[[TaskStore], Any], message: str):
    with pytest.raises(ConfigurationError, match=message):
        make(app.store)


# ── what was enqueued ─────────────────────────────────────────────────────────────────────────────────────────


async def test_what_was_enqueued_is_found_by_its_task_its_filters_and_its_order(
    app: Application, tester: TaskStoreTester
):
    first = await app.send_welcome.enqueue(1)
    await app.reports.enqueue(1)
    app.store.enqueue_soon(app.send_welcome.draft(2))
    assert [task.payload for task in await tester.enqueued(app.send_welcome)] == [{"user_id": 1}, {"user_id": 2}]
    assert [task.alias for task in await tester.enqueued(queue="default")] == ["reports"]
    await tester.drain()
    assert [task.id for task in await tester.enqueued("send_welcome", status="succeeded", limit=1)] == [first.id]


async def test_arguments_are_compared_as_the_handler_gets_them(app: Application, tester: TaskStoreTester):
    at = datetime(2031, 1, 1, 12, tzinfo=UTC)
    handle = await app.bill.enqueue(Order(id=7, total=Decimal("9.50")), at)
    for arguments in (
        {"order": Order(id=7, total=Decimal("9.5"))},
        {"at": at.astimezone(), "colour": Colour.RED},
        {"order": {"id": 7, "total": "9.50"}},
        {"order": ANY},
        {},
    ):
        assert (await tester.assert_enqueued(app.bill, **arguments)).id == handle.id
    await tester.refute_enqueued(app.bill, colour=Colour.BLUE)
    await tester.refute_enqueued(app.bill, at=at + timedelta(seconds=1))


async def test_options_are_expected_beside_the_arguments(app: Application, tester: TaskStoreTester):
    await app.send_welcome.options(
        delay=60, priority=-5, metadata={"a": 1, "b": 2}, owner=("user", 4), timeout=9, external_id="x"
    ).enqueue(1)
    await tester.assert_enqueued(
        app.send_welcome,
        {
            "queue": "emails", "delay": timedelta(minutes=1), "run_at": NOON + timedelta(minutes=1), "priority": -5,
            "metadata": {"b": 2}, "owner": ("user", "4"), "timeout": 9, "external_id": "x", "status": "scheduled",
            "max_attempts": 3, "count": 1,
        },
    )  # fmt: skip
    await tester.assert_enqueued(app.send_welcome, {"delay": pytest.approx(61, abs=2)})
    for differing in ({"queue": "x"}, {"delay": 61}, {"metadata": {"b": 3}}, {"count": 2}):
        with pytest.raises(AssertionError):
            await tester.assert_enqueued(app.send_welcome, differing)  # type: ignore[arg-type]


async def test_what_no_task_could_ever_match_is_an_error_and_no_success(app: Application, tester: TaskStoreTester):
    with pytest.raises(ConfigurationError, match="Did you mean user_id"):
        await tester.refute_enqueued(app.send_welcome, userid=1)
    with pytest.raises(ConfigurationError, match="'kue'"):
        await tester.refute_enqueued(app.send_welcome, {"kue": "emails"})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(ConfigurationError, match="count"):
        await tester.refute_enqueued(app.send_welcome, {"count": 1})
    with pytest.raises(ConfigurationError, match="alias"):
        await tester.assert_enqueued(42)  # type: ignore[arg-type]
    wrong: Any
    for wrong, told in (
        ({"count": 0}, r"refute_enqueued\(\) tests that"), ({"count": "1"}, "whole number"), (["queue"], "mapping"),
        ({"metadata": None}, "metadata are a mapping"),
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match=told):
            await tester.assert_enqueued(app.send_welcome, wrong)


async def test_a_task_that_was_soft_deleted_was_enqueued_all_the_same(app: Application, tester: TaskStoreTester):
    handle = await app.send_welcome.enqueue(1)
    await app.store.tasks.soft_delete(handle.id)
    assert (await tester.assert_enqueued(app.send_welcome)).id == handle.id
    assert await tester.enqueued(include_deleted=False) == []


async def test_a_failed_assertion_shows_how_the_nearest_tasks_differ(app: Application, tester: TaskStoreTester):
    with pytest.raises(AssertionError, match="Nothing was enqueued"):
        await tester.assert_enqueued(app.send_welcome, user_id=42)
    await app.send_welcome.enqueue(1, locale="bg")
    near = await app.send_welcome.enqueue(43)
    await app.reports.enqueue(1)
    with pytest.raises(AssertionError) as failed:
        await tester.assert_enqueued(app.send_welcome, {"queue": "mails"}, user_id=42, locale="en")
    lines = str(failed.value).split("\n")
    assert "0 of 3 enqueued tasks match, and one at least should" in lines[0]
    assert lines[2] == f"  {near.id} pending"
    assert {"    - user_id=42", "    + user_id=43", "      locale='en'"} <= set(lines)
    assert {"    - option queue='mails'", "    + option queue='emails'"} <= set(lines)
    assert lines[-1] == "Enqueued besides: reports × 1"
    with pytest.raises(AssertionError, match="1 enqueued, and none should be"):
        await tester.refute_enqueued(app.send_welcome, user_id=43)


async def test_a_task_that_was_rolled_back_is_named(app: Application, tester: TaskStoreTester):
    with pytest.raises(RuntimeError):
        async with app.store.transaction():
            await app.send_welcome.enqueue(42)
            raise RuntimeError
    with pytest.raises(AssertionError, match="send_welcome was enqueued and is not stored: its transaction"):
        await tester.assert_enqueued(app.send_welcome, user_id=42)


# ── drain ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_drain_runs_what_is_due_and_what_that_enqueues_in_order(app: Application, tester: TaskStoreTester):
    @app.store.task
    async def parent(n: int) -> None:
        await app.send_welcome.enqueue(n)

    await parent.enqueue(3)
    await app.send_welcome.enqueue(2)
    await app.send_welcome.options(priority=-1).enqueue(1)
    await app.send_welcome.options(delay=60).enqueue(4)
    report = await tester.drain()
    assert app.sent == [1, 2, 3]
    assert (report.ran, report.succeeded, report.failed, report.retried, report.errors) == (4, 4, 0, 0, [])
    assert [task.result for task in report.tasks] == ["1 en", None, "2 en", "3 en"]
    assert (await tester.drain()).ran == 0
    assert (await tester.drain(with_scheduled=True)).ran == 1
    assert tester.now == NOON + timedelta(seconds=60)


async def test_a_drain_of_some_queues_leaves_the_others(app: Application, tester: TaskStoreTester):
    await app.send_welcome.enqueue(1)
    await app.reports.enqueue(1)
    assert (await tester.drain("emails")).ran == 1
    assert [task.alias for task in await tester.enqueued(status="pending")] == ["reports"]
    assert (await tester.drain(["default", "other"])).ran == 1


async def test_a_drain_raises_the_handlers_own_error_and_names_the_task(app: Application, tester: TaskStoreTester):
    handle = await app.fails.enqueue()
    with pytest.raises(ValueError, match="no such user") as raised:
        await tester.drain()
    assert raised.value.__notes__ == [f"raised by the task fails {handle.id}, attempt 1"]
    assert await handle.status() is TaskStatus.SCHEDULED
    report = await tester.drain(with_scheduled=True, raises=False)
    assert (report.ran, report.failed) == (1, 1)
    assert [type(error) for error in report.errors] == [ValueError]
    assert report.tasks[0].error == "ValueError: no such user"


async def test_what_a_handler_raises_to_run_again_is_no_error(app: Application, tester: TaskStoreTester):
    @app.store.task(max_attempts=2)
    async def retries() -> None:
        if current_context().attempt == 1:
            raise Retry("not yet", delay=10)

    await app.snoozes.enqueue()
    await retries.enqueue()
    assert (await tester.drain()).retried == 2
    assert (await tester.drain(with_scheduled=True)).succeeded == 2
    assert tester.now == NOON + timedelta(hours=1)


async def test_a_drain_that_would_never_end_names_what_runs_for_ever(app: Application, tester: TaskStoreTester):
    await app.again.enqueue()
    with pytest.raises(AssertionError, match="still due after 20 runs: again × 20"):
        await tester.drain(limit=20)
    assert [task.attempt for task in await tester.enqueued(status="pending")] == [0]


async def test_a_drain_is_over_in_its_time_and_its_task_is_pending_again(app: Application, tester: TaskStoreTester):
    handle = await app.hangs.enqueue()
    with pytest.raises(TimeoutError, match=f"running hangs {handle.id}.*one task at a time"):
        await tester.drain(timeout=0.2)
    task = await handle.task()
    assert (task.status, task.attempt) == (TaskStatus.PENDING, 0)


async def test_a_drain_leaves_a_thread_behind_that_cannot_be_stopped(
    app: Application, tester: TaskStoreTester, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(serial_runner, "_STUCK_GRACE", 0.05)
    end = threading.Event()

    @app.store.task
    def blocks() -> None:
        end.wait(LIMIT)

    handle = await blocks.enqueue()
    try:
        with pytest.raises(TimeoutError, match="running blocks"):
            await tester.drain(timeout=0.2)
        assert await handle.status() is TaskStatus.RUNNING
    finally:
        end.set()


async def test_a_drain_heeds_pauses_cancelled_definitions_keys_and_cancel_requests(
    app: Application, tester: TaskStoreTester
):
    ran: list[int] = []

    @app.store.task(serialization_key=lambda _n: "one")
    async def keyed(n: int) -> None:
        ran.append(n)

    for n in range(3):
        await keyed.enqueue(n)
    async with app.store.transaction():
        await keyed.enqueue(3)
    await app.send_welcome.enqueue(1)
    await app.store.queues.pause("emails")
    assert (await tester.drain()).succeeded == 4
    assert ran == [0, 1, 2, 3]
    await app.store.queues.resume("emails")
    assert (await tester.drain()).succeeded == 1
    handle = await app.hangs.enqueue()
    async with asyncio.TaskGroup() as group:
        draining = group.create_task(tester.drain())
        await app.hung.wait()
        await handle.cancel("enough")
    assert (draining.result().cancelled, await handle.status()) == (1, TaskStatus.CANCELLED)


async def test_hooks_and_middleware_are_called_and_details_stored(app: Application, tester: TaskStoreTester):
    calls: list[str] = []

    @app.store.middleware
    async def around(context: Any, call_next: Any) -> Any:
        calls.append("around")
        return await call_next(context)

    @app.store.after
    async def after(context: Any, task: Any, error: Any) -> None:
        calls.append(f"after {task.status}")

    handle = await app.reports.enqueue(1)
    await tester.drain()
    task = await handle.task()
    assert calls == ["around", "after succeeded"]
    assert task.progress is not None
    assert (task.details, task.progress.fraction) == ("line 1", 0.5)


async def test_the_lifespan_is_entered_or_a_fake_takes_its_place(app: Application):
    calls: list[str] = []

    @app.store.lifespan
    async def resources() -> AsyncIterator[str]:
        calls.append("entered")
        yield "real"
        calls.append("left")

    @app.store.task
    async def reads() -> str:
        return str(current_context().state)

    async with TaskStoreTester(app.store) as tester:
        await reads.enqueue()
        assert (await tester.drain()).tasks[0].result == "real"
        assert calls == ["entered"]
        await app.store.close()
        assert await tester.perform(reads) == "real"
    assert calls == ["entered", "left"] * 2
    async with TaskStoreTester(app.store, state="fake") as tester:
        with tester.inline():
            assert await (await reads.enqueue()).result(timeout=0) == "fake"
    assert calls == ["entered", "left"] * 2
    async with TaskStoreTester(app.store) as tester:
        assert await tester.perform(reads) == "real"


# ── inline ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_inline_a_task_has_run_when_enqueue_returns(app: Application, tester: TaskStoreTester):
    earlier = await app.send_welcome.enqueue(1)
    with tester.inline():
        handle = await app.send_welcome.enqueue(2)
        assert await handle.result(timeout=0) == "2 en"
        ids = await app.store.enqueue_many([app.send_welcome.draft(3), app.send_welcome.draft(4)])
    assert app.sent == [2, 3, 4]
    assert [await app.store.tasks.status(one) for one in ids] == [TaskStatus.SUCCEEDED] * 2
    task = await earlier.task()
    assert (task.status, task.attempt) == (TaskStatus.PENDING, 0)
    assert await (await app.send_welcome.enqueue(5)).status() is TaskStatus.PENDING


async def test_inline_goes_through_json_and_raises_at_enqueue(app: Application, tester: TaskStoreTester):
    seen: list[Any] = []

    @app.store.task
    async def takes(order: Order) -> object:
        seen.append(order)
        return object()

    given = Order(id=1)
    with tester.inline():
        with pytest.raises(PayloadError, match="result"):
            await takes.enqueue(given)
        with pytest.raises(ValueError, match="no such user"):
            await app.fails.enqueue()
    assert seen == [given]
    assert seen[0] is not given
    with tester.inline(raises=False):
        handle = await app.fails.enqueue()
    assert await handle.status() is TaskStatus.SCHEDULED


async def test_inline_a_handler_may_enqueue_and_a_transaction_is_left_for_the_drain(
    app: Application, tester: TaskStoreTester
):
    @app.store.task
    async def parent() -> str:
        return await (await app.send_welcome.enqueue(1)).result(timeout=0)

    with tester.inline():
        assert await (await parent.enqueue()).result(timeout=0) == "1 en"
        async with app.store.transaction():
            await app.send_welcome.enqueue(2)
        await app.send_welcome.options(delay=5).enqueue(3)
    assert app.sent == [1]
    await tester.drain(with_scheduled=True)
    assert app.sent == [1, 2, 3]


# ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_time_stands_still_until_it_is_moved(app: Application, tester: TaskStoreTester):
    handle = await app.send_welcome.options(delay=timedelta(hours=2)).enqueue(1)
    assert (await handle.task()).created_at == NOON
    await tester.travel(hours=2, seconds=-1)
    assert await handle.status() is TaskStatus.SCHEDULED
    assert await tester.travel(1) == NOON + timedelta(hours=2)
    assert await handle.status() is TaskStatus.PENDING
    await tester.travel_to(NOON + timedelta(hours=3))
    assert (await tester.drain()).tasks[0].finished_at == tester.now
    for wrong in (
        tester.travel_to(NOON), tester.travel(-1), tester.travel(), tester.travel(ours=2),
        tester.travel(days=10**9), tester.travel(days=10**7),
    ):  # fmt: skip
        with pytest.raises(ConfigurationError):
            await wrong


async def test_a_definition_that_was_soft_deleted_under_a_moved_clock_is_deleted(
    app: Application, tester: TaskStoreTester
):
    await tester.travel(days=30 * 365)
    created = await app.store.definitions.create("report")
    assert (await app.store.definitions.soft_delete(created.id)).deleted
    assert created.created_at == tester.now


@pytest.mark.parametrize("queue", ["", [], [""], 5])
async def test_a_drain_of_what_is_no_queue_is_an_error_and_no_success(tester: TaskStoreTester, queue: Any):
    with pytest.raises(InvalidQueryError, match="queue"):
        await tester.drain(queue)


async def test_a_running_dispatcher_sees_the_new_time_and_stays_alive(app: Application, tester: TaskStoreTester):
    handle = await app.send_welcome.options(delay=7200).enqueue(1)
    async with app.store.dispatcher(heartbeat=1, lease=3):
        await tester.travel(hours=2)
        assert await handle.result(timeout=LIMIT) == "1 en"
        assert [one.alive for one in await app.store.dispatchers.list()] == [True]
        late = await app.hangs.enqueue()
        await app.hung.wait()
        await tester.travel(29)
        assert await late.status() is TaskStatus.RUNNING
        await tester.travel(1)
        assert (await late.wait(timeout=LIMIT)).error == (
            "TimeoutError: the handler took longer than its timeout of 30 s"
        )
        assert await app.store.dispatcher().run_once() == 0
        assert [one.alive for one in await app.store.dispatchers.list()] == [True]


async def test_schedules_make_their_tasks_when_time_has_come(app: Application, tester: TaskStoreTester):
    app.store.schedule("nightly", app.send_welcome.draft(1), "0 3 * * *")
    assert (await tester.drain()).ran == 0
    await tester.travel(days=1)
    task = await tester.assert_enqueued(app.send_welcome, {"count": 1}, user_id=1)
    assert task.created_at == NOON + timedelta(days=1)
    assert [one.hour for one in await app.store.schedules.preview("nightly", 2)] == [3, 3]
    await tester.travel(days=1)
    assert (await tester.drain()).succeeded == 2


async def test_retention_and_direct_calls_obey_the_clock(app: Application, tester: TaskStoreTester):
    await app.send_welcome.options(retention=Retention(period=3600)).enqueue(1)
    await tester.drain()
    assert await tester.clean() == 0
    await tester.travel(hours=1)
    assert await tester.clean() == 1

    @app.store.task
    async def instant() -> datetime:
        return current_context().task.run_at

    assert await instant() == tester.now


# ── one handler, one crash ────────────────────────────────────────────────────────────────────────────────────


async def test_one_handler_performs_with_a_context_of_its_own(app: Application, tester: TaskStoreTester):
    with pytest.raises(ConfigurationError, match="No perform"):
        _ = tester.performed
    assert await tester.perform(app.send_welcome, 42, locale="bg") == "42 bg"
    assert await tester.perform(app.reports.options(metadata={"trace": "x"}).draft(4), attempt=3) == 3
    performed = tester.performed
    assert performed.details == ["line 4"]
    assert performed.progress is not None
    assert (performed.progress.text, performed.progress.at) == ("half", NOON)
    assert (performed.context.metadata, performed.context.task.metadata) == ({"trace": "x"}, {"trace": "x"})
    with pytest.raises(PayloadError):
        await tester.perform(app.send_welcome, "x")  # type: ignore[call-overload]
    with pytest.raises(Snooze):
        await tester.perform(app.snoozes)
    assert await tester.enqueued() == []


async def test_a_crash_spends_an_attempt_and_rescues_the_task(
    app: Application, tester: TaskStoreTester, caplog: pytest.LogCaptureFixture
):
    @app.store.task(on_stuck="interrupt")
    async def once() -> None:
        raise AssertionError

    before = await app.send_welcome.enqueue(1)
    handle = await app.send_welcome.enqueue(2)
    with caplog.at_level(logging.WARNING):
        crashed = await tester.crash(handle.id)
    assert "rescued" in caplog.text
    assert (crashed.status, crashed.attempt) == (TaskStatus.PENDING, 1)
    assert (await before.task()).attempt == 0
    assert (await tester.crash((await once.enqueue()).id)).status is TaskStatus.INTERRUPTED
    assert (await tester.drain()).succeeded == 2
    with pytest.raises(ConfigurationError, match="cannot be claimed"):
        await tester.crash(handle.id)
