"""Schedules from the public face: made, read, changed, and turned into tasks."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest

from aiotaskstore import (
    BackgroundFailed,
    ConfigurationError,
    Cron,
    DuplicateScheduleError,
    Every,
    InvalidTransitionError,
    Once,
    RecurrenceRule,
    Schedule,
    ScheduleFired,
    ScheduleNotFoundError,
    TaskEnqueued,
    TaskRouter,
    TaskStore,
)
from tests.helpers import eventually, expect

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
AHEAD = timedelta(hours=1)


def declare(store: TaskStore) -> Any:
    @store.task(queue="reports", max_attempts=3)
    async def report(number: int = 1) -> int:
        return number

    return report


def due(name: str = "report", **fields: Any) -> Schedule:
    """A schedule with one occurrence, which is past."""
    return Schedule(**{"name": name, "alias": "report", "status": "active", "recurrence": Once(LONG_AGO), **fields})


def by_name(schedules: Any) -> dict[str, Schedule]:
    return {schedule.name: schedule for schedule in schedules}


@pytest.mark.acceptance("A109")
async def test_a_schedule_is_made_read_changed_and_deleted(store: TaskStore):
    declare(store)
    made = await store.schedules.create(Schedule(name="nightly", alias="report", recurrence=Every(hours=6)))
    assert (made.status, made.execution_count, made.max_executions) == ("draft", 0, None)
    assert (made.last_run_at, made.next_run_at, made.deleted_at, made.misfire) == (None, None, None, "coalesce")
    assert made.created_at is not None
    assert await store.schedules.get(made.id) == await store.schedules.get_by_name("nightly") == made
    assert await store.schedules.get(str(made.id)) == made
    changed = await store.schedules.update(made.id, description="Twice as often", recurrence=Every(hours=3))
    assert (changed.description, changed.recurrence, changed.name) == ("Twice as often", Every(hours=3), "nightly")
    whole = await store.schedules.update(replace(changed, max_executions=9, payload={"number": 3}))
    assert (whole.max_executions, whole.payload, whole.description) == (9, {"number": 3}, "Twice as often")
    assert [one.name for one in await store.schedules.list()] == ["nightly"]
    assert await store.schedules.count() == 1
    hidden = await store.schedules.soft_delete("nightly")
    assert hidden.deleted_at is not None
    assert await store.schedules.get(made.id) is None
    assert await store.schedules.get_by_name("nightly") is None
    assert await store.schedules.count() == 0
    assert await store.schedules.count(include_deleted=True) == 1
    assert (await store.schedules.restore(made.id)).deleted_at is None
    assert await store.schedules.delete("nightly") is True
    assert await store.schedules.delete("nightly") is False
    assert await store.schedules.count(include_deleted=True) == 0


async def test_a_name_that_no_schedule_has_is_that_of_the_one_soft_deleted_last(store: TaskStore):
    declare(store)
    earlier = await store.schedules.create(Schedule(name="nightly", alias="report", recurrence=Every(60)))
    hidden = await store.schedules.soft_delete("nightly")
    later = await store.schedules.create(Schedule(name="nightly", alias="report", recurrence=Every(60)))
    while (await store.schedules.soft_delete("nightly")).deleted_at == hidden.deleted_at:  # some clocks tick in steps
        await store.schedules.restore(later.id)
    assert (await store.schedules.restore("nightly")).id == later.id
    assert (await store.schedules.restore("nightly")).id == later.id
    assert await store.schedules.delete("nightly") is True
    assert [one.id for one in await store.schedules.list(include_deleted=True)] == [earlier.id]
    assert await store.schedules.delete("nightly") is True
    assert await store.schedules.delete("nightly") is False
    with pytest.raises(ScheduleNotFoundError, match="nightly"):
        await store.schedules.restore("nightly")


@pytest.mark.acceptance("A109")
async def test_bounds_on_when_a_schedule_changed_are_inclusive(store: TaskStore):
    declare(store)
    made = await store.schedules.create(Schedule(name="nightly", alias="report", recurrence=Every(60)))
    assert made.updated_at is not None
    assert await store.schedules.list(updated_before=made.updated_at) == [made]
    assert await store.schedules.count(updated_before=made.updated_at - timedelta(seconds=1)) == 0


def test_a_schedule_knows_whether_it_is_due_has_ended_or_has_made_all_of_its_tasks():
    schedule = due(next_run_at=LONG_AGO, ends_at=LONG_AGO + AHEAD, max_executions=2, execution_count=1)
    assert schedule.is_due(LONG_AGO)
    assert not schedule.is_due(LONG_AGO - AHEAD)
    assert not replace(schedule, status="inactive").is_due(LONG_AGO)
    assert not replace(schedule, next_run_at=None).is_due(LONG_AGO)
    assert not schedule.has_ended(LONG_AGO + AHEAD)
    assert schedule.has_ended(LONG_AGO + 2 * AHEAD)
    assert not schedule.has_reached_max_executions
    assert replace(schedule, execution_count=2).has_reached_max_executions


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"id": 5}', '{"name": "x"}'])
def test_text_that_is_no_schedule_is_refused(text: str):
    with pytest.raises(ConfigurationError, match="no schedule"):
        Schedule.from_json(text)


@pytest.mark.acceptance("A109")
def test_a_schedule_survives_json_with_its_rule():
    rule = RecurrenceRule(frequency="weekly", days_of_week=["monday"], starts_at=LONG_AGO, timezone="Europe/Sofia")  # type: ignore[arg-type, list-item]
    schedule = Schedule(
        name="weekly", alias="report", recurrence=rule, payload={"number": 1}, starts_at=LONG_AGO, max_executions=3,
        options={"priority": 3, "owner": ("user", "1")}, misfire="skip",
    )  # fmt: skip
    assert json.loads(schedule.to_json())["name"] == "weekly"
    assert Schedule.from_json(schedule.to_json()) == schedule


async def test_a_schedule_of_another_database_goes_on_where_it_was(store: TaskStore):
    declare(store)
    moved = Schedule.from_json(
        due(
            id=str(uuid4()), recurrence=Every(hours=1, starts_at=LONG_AGO), misfire="catch_up", max_executions=9,
            execution_count=7, last_run_at=LONG_AGO, next_run_at=LONG_AGO + timedelta(hours=1),
        ).to_json()
    )  # fmt: skip
    made = await store.schedules.create(moved)
    assert replace(made, created_at=None, updated_at=None) == moved
    assert await store.dispatcher().run_once() == 2
    tasks = await store.tasks.list(descending=False)
    assert [task.run_at for task in tasks] == [LONG_AGO + timedelta(hours=hours) for hours in (1, 2)]
    after = await store.schedules.get(made.id)
    assert after is not None
    assert (after.status, after.execution_count) == ("completed", 9)


async def test_a_draft_keeps_the_instant_that_it_was_given(store: TaskStore):
    declare(store)
    planned = datetime(2100, 1, 1, 12, tzinfo=UTC)
    made = await store.schedules.create(due(status="draft", recurrence=Every(hours=1), next_run_at=planned))
    assert (made.status, made.next_run_at) == ("draft", planned)
    assert (await store.schedules.resume("report")).next_run_at == planned


@pytest.mark.acceptance("A115")
async def test_a_schedule_that_is_due_makes_one_task_with_the_defaults_of_its_definition(store: TaskStore):
    declare(store)
    made = await store.schedules.create(
        due(recurrence=Every(days=1000, starts_at=LONG_AGO), payload={"number": 7}, options={"priority": 5})
    )
    assert made.next_run_at is not None
    assert made.next_run_at > datetime.now(UTC)
    await make_due(store, made)
    async with expect(store, ScheduleFired, TaskEnqueued) as facts:
        assert await store.dispatcher().run_once() == 1
    (task,) = await store.tasks.list()
    assert (task.alias, task.queue, task.max_attempts, task.priority) == ("report", "reports", 3, 5)
    assert (task.result, task.run_at, task.source) == (7, LONG_AGO, f"schedule:{made.id}")
    assert task.external_id == f"schedule:{made.id}:{LONG_AGO.isoformat()}"
    fired = next(one for one in facts if isinstance(one, ScheduleFired))
    assert (fired.schedule_id, fired.name, fired.task_id, fired.occurrence) == (made.id, "report", task.id, LONG_AGO)
    assert abs((datetime.now(UTC) - LONG_AGO).total_seconds() - fired.lag) < 120
    after = await store.schedules.get("report")
    assert after is not None
    assert (after.status, after.execution_count) == ("active", 1)
    assert after.last_run_at is not None
    assert after.next_run_at is not None
    assert after.next_run_at > datetime.now(UTC)
    assert await store.dispatcher().run_once() == 0


async def make_due(store: TaskStore, schedule: Schedule, at: datetime | None = LONG_AGO) -> None:
    """Plan the next occurrence for another instant."""
    schedules = store._require_open().storage.schedules

    def planned(row: Any, _now: datetime) -> Any:
        return row._replace(next_run_at=at)

    await store._require_open().storage.database.write(lambda: schedules.change(schedule.id, planned))


@pytest.mark.acceptance("A116")
async def test_only_an_active_schedule_without_a_next_instant_gets_one(store: TaskStore):
    declare(store)
    planned = datetime(2100, 1, 1, tzinfo=UTC)
    empty = await store.schedules.create(due("empty", recurrence=Every(hours=1)))
    full = await store.schedules.create(due("full", recurrence=Every(hours=1)))
    await store.schedules.create(due("draft", recurrence=Every(hours=1), status="draft"))
    await make_due(store, empty, None)
    await make_due(store, full, planned)
    assert await store.dispatcher().run_once() == 0
    found = by_name(await store.schedules.list())
    assert found["empty"].next_run_at is not None
    assert found["full"].next_run_at == planned
    assert found["draft"].next_run_at is None


@pytest.mark.acceptance("A118")
async def test_a_schedule_is_completed_by_its_last_task_and_at_its_end(store: TaskStore):
    declare(store)
    thrice = await store.schedules.create(due("thrice", recurrence=Every(hours=1), max_executions=3))
    over = await store.schedules.create(due("over", recurrence=Every(hours=1), ends_at=datetime.now(UTC) + 2 * AHEAD))
    await set_end(store, over)
    for expected in (1, 2, 3):
        await make_due(store, thrice, LONG_AGO + expected * AHEAD)
        assert await store.dispatcher().run_once() == 1
        assert (await require(store, "thrice")).execution_count == expected
    found = by_name(await store.schedules.list())
    assert (found["thrice"].status, found["thrice"].next_run_at) == ("completed", None)
    assert (found["over"].status, found["over"].execution_count) == ("completed", 0)
    with pytest.raises(InvalidTransitionError, match="made all 3"):
        await store.schedules.resume("thrice")
    with pytest.raises(InvalidTransitionError):
        await store.schedules.pause("thrice")
    await store.schedules.update("thrice", max_executions=4)
    assert (await store.schedules.resume("thrice")).status == "active"


async def set_end(store: TaskStore, schedule: Schedule) -> None:
    schedules = store._require_open().storage.schedules

    def ended(row: Any, _now: datetime) -> Any:
        return row._replace(next_run_at=LONG_AGO, ends_at=LONG_AGO + AHEAD)

    await store._require_open().storage.database.write(lambda: schedules.change(schedule.id, ended))


async def require(store: TaskStore, name: str) -> Schedule:
    found = await store.schedules.get_by_name(name)
    assert found is not None
    return found


async def test_a_single_occurrence_makes_one_task_and_never_another(store: TaskStore):
    declare(store)
    await store.schedules.create(due())
    for expected in (1, 0, 0):
        assert await store.dispatcher().run_once() == expected
    assert (await require(store, "report")).status == "completed"
    with pytest.raises(InvalidTransitionError):
        await store.schedules.resume("report")


@pytest.mark.acceptance("A119")
async def test_missed_occurrences_follow_their_policy(store: TaskStore):
    declare(store)
    hourly = Every(hours=1)
    for misfire in ("coalesce", "skip", "catch_up"):
        made = await store.schedules.create(due(misfire, recurrence=hourly, misfire=misfire))
        await make_due(store, made, datetime.now(UTC) - 9.5 * AHEAD)
    assert await store.dispatcher().run_once() == 1 + 0 + 10
    found = by_name(await store.schedules.list())
    assert {name: one.execution_count for name, one in found.items()} == {"coalesce": 1, "skip": 0, "catch_up": 10}
    for one in found.values():
        assert one.next_run_at is not None
        assert one.next_run_at > datetime.now(UTC)


@pytest.mark.acceptance("A122")
async def test_only_active_schedules_of_known_and_active_definitions_make_tasks(store: TaskStore):
    declare(store)
    failures: list[BackgroundFailed] = []
    store.on(BackgroundFailed, failures.append)
    for name, status in (("draft", "draft"), ("inactive", "inactive")):
        await store.schedules.create(due(name, status=status))
    await store.schedules.create(due("deleted"))
    await store.schedules.soft_delete("deleted")
    await store.schedules.create(replace(due("missing"), alias="nowhere"), unchecked=True)
    await store.schedules.create(due("fine"))
    dispatcher = store.dispatcher()
    assert await dispatcher.run_once() == 1
    found = by_name(await store.schedules.list(include_deleted=True))
    assert {name for name, one in found.items() if one.execution_count} == {"fine"}
    assert (found["missing"].status, found["missing"].next_run_at) == ("active", LONG_AGO)
    assert [str(one.error) for one in failures if '"missing"' in str(one.error) and '"nowhere"' in str(one.error)]


@pytest.mark.acceptance("A122")
async def test_a_schedule_of_a_cancelled_definition_waits_until_it_is_active_again(store: TaskStore):
    declare(store)
    assert await store.dispatcher().run_once() == 0  # which makes the definition known
    made = await store.schedules.create(due())
    definition = await store.definitions.get_by_alias("report")
    assert definition is not None
    await store.definitions.cancel(definition.id)
    assert await store.dispatcher().run_once() == 0
    waiting = await require(store, "report")
    assert (waiting.status, waiting.next_run_at, waiting.execution_count) == ("active", made.next_run_at, 0)
    await store.definitions.activate(definition.id)
    await eventually(lambda: ran(store))


async def ran(store: TaskStore) -> bool:
    return await store.dispatcher().run_once() == 1


@pytest.mark.acceptance("A124")
async def test_on_error_is_told_of_an_occurrence_that_a_function_could_not_make(url: str):
    told: list[tuple[Any, Any, BaseException]] = []
    store = TaskStore(url, on_error=lambda queue, task_id, error: told.append((queue, task_id, error)))
    declare(store)

    def payload() -> Any:
        raise ValueError("no data")

    async with store:
        await store.schedules.create(due(payload=payload, queue="q"))
        assert await store.dispatcher().run_once() == 0
    ((queue, task_id, error),) = told
    assert (queue, task_id) == ("q", None)
    assert "no data" in str(error)
    assert isinstance(error.__cause__, ValueError)


@pytest.mark.acceptance("A124")
async def test_a_payload_function_makes_the_payload_of_each_occurrence_or_skips_it(store: TaskStore):
    declare(store)
    given: list[Any] = [{"number": 5}, None, ValueError("no data"), "nonsense", {"wrong": 1}, {"number": 6}]

    async def payload() -> Any:
        value = given.pop(0)
        if isinstance(value, Exception):
            raise value
        return value

    failures: list[BackgroundFailed] = []
    store.on(BackgroundFailed, failures.append)
    made = await store.schedules.create(due(recurrence=Every(hours=1), payload=payload, max_executions=2))
    await store.schedules.create(due("other", recurrence=Every(hours=1)))
    for number, ran in enumerate((1, 0, 0, 0, 0, 1)):
        await make_due(store, made, LONG_AGO + number * AHEAD)
        assert await store.dispatcher().run_once() == ran
        assert (await require(store, "report")).next_run_at != LONG_AGO + number * AHEAD
    assert {task.result for task in await store.tasks.list()} == {5, 6}
    told = " ".join(str(one.error) for one in failures)
    assert all(text in told for text in ("no data", "nonsense", "wrong"))
    assert (await require(store, "report")).status == "completed"


async def test_a_plain_payload_function_may_ask_for_the_occurrence(store: TaskStore):
    declare(store)
    await store.schedules.create(due(payload=lambda occurrence: {"number": occurrence.year}))
    assert await store.dispatcher().run_once() == 1
    assert [task.result for task in await store.tasks.list()] == [2020]


@pytest.mark.acceptance("A124")
async def test_a_recurrence_function_that_does_not_advance_stops_its_schedule_with_the_error(store: TaskStore):
    declare(store)
    made = await store.schedules.create(due(recurrence=lambda last: last))
    assert await store.dispatcher().run_once() == 0
    found = await require(store, "report")
    assert found.status == "inactive"
    assert "must return an instant after" in (found.error or "")
    await store.schedules.update("report", recurrence=lambda last: last + AHEAD)
    resumed = await store.schedules.resume("report")
    assert (resumed.status, resumed.error) == ("active", None)
    assert await store.dispatcher().run_once() == 0
    found = await require(store, "report")
    assert found.next_run_at is not None
    await make_due(store, made, datetime.now(UTC) - timedelta(minutes=1))
    assert await store.dispatcher().run_once() == 1


async def test_what_is_a_function_fires_only_where_its_code_is(url: str):
    async with TaskStore(url) as store, TaskStore(url) as other:
        declare(store)
        declare(other)
        await store.schedules.create(due(payload=lambda: {"number": 2}))
        assert (await require(other, "report")).payload is None
        assert await other.dispatcher().run_once() == 0
        assert await store.dispatcher().run_once() == 1


async def test_a_schedule_in_code_is_stored_by_its_name_when_the_store_opens(url: str):
    def make(text: str, number: int) -> TaskStore:
        store = TaskStore(url)
        report = declare(store)
        report.schedule(text, timezone="Europe/Sofia", payload={"number": number})
        store.schedule("often", report.options(priority=9).draft(number=2), Every(hours=1), description="Often")
        return store

    async with make("0 9 * * mon-fri", 1) as store:
        found = by_name(await store.schedules.list())
        assert {name: (one.status, one.code_owned) for name, one in found.items()} == {
            "report": ("active", True), "often": ("active", True),
        }  # fmt: skip
        assert found["report"].recurrence == Cron("0 9 * * mon-fri", "Europe/Sofia")
        assert (found["often"].options, found["often"].payload) == ({"priority": 9}, {"number": 2})
        await store.schedules.pause("often")
    async with make("0 10 * * mon-fri", 3) as store:
        again = by_name(await store.schedules.list())
        assert again["report"].id == found["report"].id
        assert (again["report"].recurrence, again["report"].payload) == (
            Cron("0 10 * * mon-fri", "Europe/Sofia"), {"number": 3},
        )  # fmt: skip
        assert again["report"].next_run_at != found["report"].next_run_at
        assert again["often"].status == "inactive", "an operator's pause stays"
        with pytest.raises(ConfigurationError, match="in code"):
            await store.schedules.update("report", description="mine")


async def test_code_takes_over_a_schedule_of_its_name_and_a_draft_becomes_active(url: str):
    async with TaskStore(url) as store:
        declare(store)
        made = await store.schedules.create(Schedule(name="report", alias="report", recurrence="@daily"))
        await store.schedules.run_now("report")
    store = TaskStore(url)
    declare(store).schedule("@daily")
    async with store:
        taken = await require(store, "report")
        assert (taken.id, taken.code_owned, taken.status, taken.execution_count) == (made.id, True, "active", 1)
        assert taken.next_run_at is not None


async def test_a_schedule_that_is_declared_while_the_store_is_open_is_stored_at_once(store: TaskStore):
    report = declare(store)
    report.schedule("@hourly")
    assert (await require(store, "report")).status == "active"
    report.schedule("@hourly")
    with pytest.raises(DuplicateScheduleError):
        report.schedule("@daily")
    report.schedule("@daily", name="daily")
    await eventually(lambda: count_of(store, 2))


async def count_of(store: TaskStore, expected: int) -> bool:
    return await store.schedules.count() == expected


async def test_the_schedules_of_a_router_come_with_it(url: str):
    router = TaskRouter()

    @router.task
    async def report() -> None: ...

    report.schedule("@hourly")
    store = TaskStore(url)
    store.include(router)
    async with store:
        assert [one.name for one in await store.schedules.list()] == ["report"]


async def test_one_that_runs_on_start_does_so_once_in_a_lease(url: str):
    async with TaskStore(url) as store:
        report = declare(store)
        store.schedule("often", report.draft(), Every(hours=1), run_on_start=True)
        await eventually(lambda: count_of(store, 1))
        assert await store.dispatcher(lease=600).run_once() == 1
        assert await store.dispatcher(lease=600).run_once() == 0
        async with store.dispatcher(lease=600), store.dispatcher(lease=600):
            pass
        assert await store.tasks.count() == 1
        assert (await require(store, "often")).execution_count == 1


async def test_a_dispatcher_sleeps_until_the_next_occurrence_and_is_woken_for_a_new_one(store: TaskStore):
    declare(store)
    async with store.dispatcher(poll_interval=1000), expect(store, ScheduleFired, ScheduleFired):
        await store.schedules.create(due("now"))
        await store.schedules.create(due("soon", recurrence=Once(datetime.now(UTC) + timedelta(seconds=0.5))))


async def test_a_dispatcher_without_a_scheduler_leaves_schedules_alone(store: TaskStore):
    declare(store)
    await store.schedules.create(due())
    assert await store.dispatcher(scheduler=False).run_once() == 0
    assert await store.dispatcher(scheduler=5).run_once() == 1


async def test_schedules_are_ordered_by_how_often_they_were_executed(store: TaskStore):
    declare(store)
    for name, count in (("often", 2), ("never", 0), ("once", 1), ("also once", 1)):
        await store.schedules.create(due(name, status="draft"))
        for _ in range(count):
            await store.schedules.run_now(name)
    ordered = await store.schedules.list(order_by="execution_count")
    assert [one.name for one in ordered] == ["often", "also once", "once", "never"], "of equal ones, the newest first"
    ordered = await store.schedules.list(order_by="execution_count", descending=False, limit=3)
    assert [one.name for one in ordered] == ["never", "once", "also once"]


async def test_a_schedule_is_run_now_whatever_its_status_and_stays_planned(store: TaskStore):
    declare(store)
    made = await store.schedules.create(
        Schedule(name="report", alias="report", recurrence=Every(hours=1), payload={"number": 4})
    )
    async with store.dispatcher():
        handle = await store.schedules.run_now("report")
        assert await handle.result(timeout=30) == 4
    after = await require(store, "report")
    assert (after.status, after.execution_count, after.next_run_at) == ("draft", 1, made.next_run_at)
    assert after.last_run_at is not None


async def test_tasks_of_schedules_that_share_a_serialization_key_run_one_after_the_other(store: TaskStore):
    running, most = 0, 0

    @store.task(serialization_key=lambda number: f"n{number}")
    async def report(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    for name in ("one", "two", "three"):
        await store.schedules.create(due(name, payload={"number": 1}))
    await store.schedules.run_now("one")
    assert await store.dispatcher().run_once() == 4
    assert most == 1
    assert {task.serialization_key for task in await store.tasks.list()} == {"n1"}


async def test_a_serialization_key_follows_the_payload_as_it_is_changed(store: TaskStore):
    @store.task(serialization_key=lambda number: f"n{number}", external_id=lambda number: f"e{number}")
    async def report(number: int) -> None: ...

    made = await store.schedules.create(due(recurrence=Every(hours=1), payload={"number": 1}))
    await make_due(store, made, LONG_AGO)
    assert await store.dispatcher().run_once() == 1
    assert (await store.schedules.update("report", payload={"number": 2})).options == {}
    await make_due(store, made, LONG_AGO + AHEAD)
    assert await store.dispatcher().run_once() == 1
    assert [task.serialization_key for task in await store.tasks.list()] == ["n2", "n1"]
    assert report.schedule("@daily", name="code", payload={"number": 3}).options == {}


async def test_a_paused_schedule_goes_on_in_step_and_makes_up_for_nothing(store: TaskStore):
    declare(store)
    made = await store.schedules.create(due(recurrence=Every(hours=1), misfire="catch_up"))
    assert (await store.schedules.pause("report")).status == "inactive"
    planned = datetime.now(UTC) - 2.5 * AHEAD
    await make_due(store, made, planned)
    assert await store.dispatcher().run_once() == 0
    resumed = await store.schedules.resume("report")
    assert resumed.next_run_at is not None
    assert (resumed.next_run_at - planned) % AHEAD == timedelta(0)
    assert resumed.next_run_at > datetime.now(UTC)
    assert await store.dispatcher().run_once() == 0
    assert (await store.schedules.resume("report")).next_run_at == resumed.next_run_at


async def test_a_preview_shows_what_is_next_of_any_schedule(store: TaskStore):
    declare(store)
    made = await store.schedules.create(due(recurrence=Every(hours=1)))
    seen = await store.schedules.preview("report", 3)
    assert seen[0] == made.next_run_at
    assert [later - earlier for earlier, later in pairwise(seen)] == [AHEAD, AHEAD]
    unstored = Schedule(name="x", alias="report", recurrence=Cron("0 9 * * *"))
    assert [one.hour for one in await store.schedules.preview(unstored, 2)] == [9, 9]
    await store.schedules.pause("report")
    assert len(await store.schedules.preview(made.id)) == 10


async def test_a_preview_shows_nothing_that_is_past(store: TaskStore):
    declare(store)
    await store.schedules.create(due())
    assert await store.schedules.preview("report") == []
    await store.schedules.create(due("overdue", recurrence=Every(hours=1), starts_at=LONG_AGO))
    await store.dispatcher().run_once()
    assert (await store.schedules.list(name="report"))[0].status == "completed"
    assert await store.schedules.preview("report") == []
    seen = await store.schedules.preview("overdue", 2)
    assert seen[0] > datetime.now(UTC) - timedelta(minutes=1)


async def test_a_change_of_nothing_is_refused(store: TaskStore):
    declare(store)
    await store.schedules.create(due())
    with pytest.raises(ConfigurationError, match="Nothing was"):
        await store.schedules.update("report")


async def test_schedules_are_listed_by_filters_and_without_a_limit(store: TaskStore):
    declare(store)
    for number in range(12):
        status = "active" if number % 2 else "draft"
        await store.schedules.create(due(f"s{number:02}", recurrence=Every(hours=1), status=status, queue="q"))
    assert [one.name for one in await store.schedules.list()] == [f"s{number:02}" for number in reversed(range(12))]
    assert await store.schedules.count(status="active", queue="q", alias=["report"]) == 6
    page = await store.schedules.list(order_by="name", descending=False, limit=2, offset=1)
    assert [one.name for one in page] == ["s01", "s02"]
    assert [one.name for one in await store.schedules.list(name=["s03", "s04", "none"])] == ["s04", "s03"]


async def test_a_name_that_is_taken_is_refused_however_it_would_be_got(store: TaskStore):
    declare(store)
    first = await store.schedules.create(due())
    with pytest.raises(DuplicateScheduleError, match=str(first.id)):
        await store.schedules.create(due())
    await store.schedules.create(due("other"))
    with pytest.raises(DuplicateScheduleError):
        await store.schedules.update("other", name="report")
    await store.schedules.soft_delete(first.id)
    await store.schedules.create(due())
    with pytest.raises(DuplicateScheduleError):
        await store.schedules.restore(first.id)
    assert await store.schedules.count() == 2


async def test_a_schedule_that_is_not_there_is_said_so(store: TaskStore):
    declare(store)
    for key in (uuid4(), str(uuid4()), "nightly"):
        assert await store.schedules.get(key) is None
        assert await store.schedules.delete(key) is False
        for call in ("pause", "resume", "run_now", "preview", "soft_delete", "restore", "update"):
            with pytest.raises(ScheduleNotFoundError, match=str(key)):
                await getattr(store.schedules, call)(key)


async def test_a_schedule_is_made_and_run_inside_the_callers_transaction(store: TaskStore):
    declare(store)
    with pytest.raises(RuntimeError, match="undo"):
        async with store.transaction():
            await store.schedules.create(due("gone"))
            await store.schedules.run_now("gone")
            assert await store.schedules.count() == 1
            raise RuntimeError("undo")
    assert (await store.schedules.count(), await store.tasks.count()) == (0, 0)
    async with store.dispatcher(poll_interval=1000), expect(store, ScheduleFired), store.transaction():
        await store.schedules.create(due("kept"))
