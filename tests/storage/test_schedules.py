"""Schedules on a database whose clock the test turns: what fires, how often, and what stands in nobody's way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from threading import Event
from typing import Any

import pytest

from aiotaskstore.dispatch.dispatcher_settings import DispatcherSettings
from aiotaskstore.dispatch.scheduler import Scheduler
from aiotaskstore.errors import DatabaseUnavailableError, PayloadFunctionError, TaskStoreError, UnknownAliasError
from aiotaskstore.events import BackgroundFailed, ScheduleFired
from aiotaskstore.hooks import Hooks
from aiotaskstore.mechanics.background_tasks import BackgroundTasks
from aiotaskstore.mechanics.hint import SCHEDULES, Hint
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.payload_function import call_payload_function
from aiotaskstore.prepared_task import PreparedTask
from aiotaskstore.recurrence import Every, Once, dump_recurrence
from aiotaskstore.schedule import Schedule
from aiotaskstore.schedule_registry import ScheduleRegistry
from aiotaskstore.storage.external_ids import KeyedRow
from aiotaskstore.storage.faults import LockHeld
from aiotaskstore.storage.operation import Batch, Call
from aiotaskstore.storage.schedule_rows import WRITTEN, ScheduleRow
from aiotaskstore.storage.schedules import Firing
from tests.helpers import answers_lost, eventually
from tests.storage.harness import Clock, Harness, harness_on, new_schedule, new_task

MINUTE = timedelta(minutes=1)


class Crew:
    """One scheduler on a harness, and what it told."""

    def __init__(self, harness: Harness) -> None:
        self.harness, self.hooks = harness, Hooks()
        self.fired: list[ScheduleFired] = []
        self.failed: list[BackgroundFailed] = []
        self.hints: list[Hint] = []
        self.unknown: set[str] = set()
        self.wanted: set[str] = set()
        self.registry = ScheduleRegistry()
        self.hooks.on(ScheduleFired, self.fired.append)
        self.hooks.on(BackgroundFailed, self.failed.append)
        self.tasks = BackgroundTasks("the test")
        settings: Any = DispatcherSettings.__new__(DispatcherSettings)
        for name, value in (("schedule_every", 1.0), ("poll_interval", 1.0), ("lease", 15.0)):
            object.__setattr__(settings, name, value)
        self.scheduler = Scheduler(
            harness.storage, self.hooks, settings, registry=self.registry, prepare=self.prepare,
            notify=self.hints.append, key_grants=self, spawn=self.tasks.spawn,
        )  # fmt: skip

    async def prepare(self, row: ScheduleRow, occurrence: datetime, name: str | None = None) -> PreparedTask | None:
        if row.alias in self.unknown:
            raise UnknownAliasError(row.alias, ["work"])
        external_id = f"schedule:{row.id}:{name or occurrence.isoformat()}"
        return PreparedTask(new_task(alias=row.alias, external_id=external_id, run_at=occurrence), False, False)

    granted, pending = 0, False

    def was_granted(self, queues: Collection[str]) -> None: ...

    async def drain(self) -> None: ...

    def grant_soon(self, keys: Iterable[str]) -> None:
        self.wanted |= set(keys)

    async def once(self) -> None:
        await self.scheduler.schedule_once()
        await self.scheduler.idle()


async def store_schedule(harness: Harness, **fields: Any) -> ScheduleRow:
    row = new_schedule(**{"status": "active", "id": new_id(), **fields})
    return await harness.database.write(lambda: harness.storage.schedules.create(row))


async def read(harness: Harness, row: ScheduleRow) -> ScheduleRow:
    found = await harness.database.read(lambda: harness.storage.schedules.get(row.id))
    assert found is not None
    return found


async def external_ids(harness: Harness) -> list[str]:
    return [row[0] for row in await harness.sql("SELECT external_id FROM aiotaskstore_tasks")]


async def many(harness: Harness, count: int, **fields: Any) -> None:
    """Store many schedules that are due now, at once."""
    rows = [
        new_schedule(id=new_id(), name=f"s{n}", status="active", next_run_at=harness.clock.now, **fields).written
        for n in range(count)
    ]

    def insert() -> Any:
        yield Batch("insert_schedules", WRITTEN, rows)

    await harness.database.write(insert)


async def test_a_schedule_fires_when_the_databases_clock_says_so_whatever_other_clocks_say(harness: Harness):
    """The database's clock is years ahead of this process's."""
    crew, row = Crew(harness), await store_schedule(harness)
    assert row.next_run_at == harness.clock.now + MINUTE
    harness.clock.advance(59)
    await crew.once()
    assert crew.fired == []
    harness.clock.advance(1)
    await crew.once()
    await crew.once()
    assert [(one.schedule_id, one.occurrence) for one in crew.fired] == [(row.id, row.next_run_at)]
    after = await read(harness, row)
    assert (after.execution_count, after.last_run_at, after.next_run_at) == (
        1, harness.clock.now, harness.clock.now + MINUTE,
    )  # fmt: skip
    assert crew.hints == [Hint(frozenset({"default"}))]


@asynccontextmanager
async def schedulers(url: str, clocks: list[Clock]) -> AsyncIterator[list[Crew]]:
    async with AsyncExitStack() as stack:
        yield [Crew(await stack.enter_async_context(harness_on(url, clock))) for clock in clocks]


async def all_at_once(crews: list[Crew]) -> None:
    async with asyncio.TaskGroup() as group:
        for crew in crews:
            group.create_task(crew.once())


async def test_five_schedulers_whose_databases_clocks_differ_make_one_task_for_each_occurrence(url: str):
    clocks = [Clock() for _ in range(5)]
    for clock, skew in zip(clocks, (-90, -30, 0, 45, 90), strict=True):
        clock.advance(skew)
    async with schedulers(url, clocks) as crews:
        harness = crews[2].harness
        rows = [await store_schedule(harness, name=f"s{n}", misfire="catch_up") for n in range(20)]
        for _ in range(4):
            for clock in clocks:
                clock.advance(60)
            await all_at_once(crews)
        for crew in crews:  # whoever lost each of its races looks again
            await crew.once()
        found = await external_ids(harness)
        assert max(Counter(found).values()) == 1
        for row in rows:
            mine = sorted(one for one in found if str(row.id) in one)
            assert row.next_run_at is not None
            # the clock that is ahead has seen a minute more, and 30 seconds
            assert mine == [f"schedule:{row.id}:{(row.next_run_at + n * MINUTE).isoformat()}" for n in range(len(mine))]
            assert len(mine) in {5, 6}
            assert (await read(harness, row)).execution_count == len(mine)
        assert sum(len(crew.fired) for crew in crews) == len(found)


async def test_thousands_that_are_due_at_once_fire_in_batches_the_longest_due_first(url: str):
    count = 10_000
    async with harness_on(url) as harness:
        await many(harness, count)
        first = await store_schedule(harness, name="first")
        harness.clock.advance(120)
        writes, write = [], harness.database.write

        async def counted(operation: Any, **options: Any) -> Any:
            writes.append(operation)
            return await write(operation, **options)

        harness.database.write = counted  # type: ignore[method-assign]
        crew = Crew(harness)
        await crew.once()
        assert len({one.schedule_id for one in crew.fired}) == len(crew.fired) == count + 1
        assert crew.fired[-1].schedule_id == first.id, "it was due a minute later than the others"
        assert len(writes) < count / 100
        assert len(await external_ids(harness)) == count + 1


async def test_a_schedule_that_cannot_fire_stands_in_no_others_way(harness: Harness):
    crew = Crew(harness)
    crew.unknown = {"nowhere"}
    await many(harness, 600, alias="nowhere")
    bad = await store_schedule(harness, name="bad")
    await harness.sql(
        "UPDATE aiotaskstore_schedules SET recurrence = :recurrence WHERE id = :id", recurrence="{", id=bad.id
    )
    good = await store_schedule(harness, name="good", alias="work")
    harness.clock.advance(60)
    await crew.once()
    await crew.once()
    assert [one.schedule_id for one in crew.fired] == [good.id]
    stopped = await read(harness, bad)
    assert stopped.status == "inactive"
    assert "cannot be read" in (stopped.error or "")
    assert len(crew.failed) == 601, "each is told of once"
    assert all("nowhere" in str(one.error) for one in crew.failed if '"bad"' not in str(one.error))
    crew.unknown = set()
    await crew.once()
    assert len(crew.fired) == 601, "they were left as they are, and fire once their task is known"


@pytest.mark.parametrize("known", [True, False])
async def test_a_recurrence_that_cannot_be_read_stops_only_its_schedule_though_a_function_makes_the_payload(
    harness: Harness, known: bool
):
    crew = Crew(harness)
    bad = await store_schedule(harness, name="bad", payload=None)
    if known:
        crew.registry.know(Schedule(name="bad", alias="work", recurrence=Every(60), payload=dict))
    mars = '{"kind": "cron", "text": "* * * * *", "timezone": "Mars/Olympus"}'
    await harness.sql("UPDATE aiotaskstore_schedules SET recurrence = :mars WHERE id = :id", mars=mars, id=bad.id)
    good = await store_schedule(harness, name="good")
    harness.clock.advance(60)
    await crew.once()
    assert [one.schedule_id for one in crew.fired] == [good.id]
    left = await read(harness, bad)
    assert left.status == ("inactive" if known else "active"), "who has the code decides"
    assert ("Mars/Olympus" in (left.error or "")) == known
    assert len(crew.failed) == known


async def test_whatever_else_runs_has_its_turn_between_two_schedules(harness: Harness):
    crew = Crew(harness)
    await many(harness, 20)
    prepare, turns, seen = crew.prepare, 0, list[int]()

    async def noting(row: ScheduleRow, occurrence: datetime, name: str | None = None) -> PreparedTask | None:
        seen.append(turns)
        return await prepare(row, occurrence, name)

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    crew.scheduler._planner._prepare = noting
    other = crew.tasks.spawn(turn())
    harness.clock.advance(60)
    await crew.once()
    other.cancel()
    assert len(seen) == len(set(seen)) == 20


async def test_an_error_of_one_schedule_stands_in_no_others_way(harness: Harness):
    crew = Crew(harness)
    bad, good = [await store_schedule(harness, name=name) for name in ("bad", "good")]
    prepare = crew.prepare

    async def failing(row: ScheduleRow, occurrence: datetime, name: str | None = None) -> PreparedTask | None:
        if row.id == bad.id:
            raise TaskStoreError("not now")
        return await prepare(row, occurrence, name)

    crew.scheduler._planner._prepare = failing
    harness.clock.advance(60)
    await crew.once()
    await crew.once()
    assert [one.schedule_id for one in crew.fired] == [good.id]
    assert await read(harness, bad) == bad
    assert len(crew.failed) == 1, "it is told of once"


async def test_tasks_with_a_serialization_key_are_left_to_its_grants(harness: Harness):
    crew = Crew(harness)
    rows = [await store_schedule(harness, name=f"s{n}") for n in range(3)]
    prepare = crew.prepare

    async def keyed(row: ScheduleRow, occurrence: datetime, name: str | None = None) -> PreparedTask | None:
        prepared = await prepare(row, occurrence, name)
        key = None if row.id == rows[0].id else "customer"
        return prepared and prepared._replace(row=prepared.row._replace(serialization_key=key))

    crew.scheduler._planner._prepare = keyed
    harness.clock.advance(60)
    await crew.once()
    assert len(crew.fired) == 3
    assert (crew.wanted, crew.hints) == ({"customer"}, [Hint(frozenset({"default"}))])


async def test_a_schedule_that_the_database_refuses_stands_alone_and_is_tried_again_later(harness: Harness):
    crew = Crew(harness)
    refused = await store_schedule(harness, name="refused")
    good = [await store_schedule(harness, name=f"s{n}") for n in range(5)]
    prepare = crew.prepare

    async def spoiled(row: ScheduleRow, occurrence: datetime, name: str | None = None) -> PreparedTask | None:
        prepared = await prepare(row, occurrence, name)
        if prepared is None or row.id != refused.id:
            return prepared
        return prepared._replace(row=prepared.row._replace(queue=None))  # type: ignore[arg-type] # refused by every database

    crew.scheduler._planner._prepare = spoiled
    harness.clock.advance(60)
    await crew.once()
    assert {one.schedule_id for one in crew.fired} == {row.id for row in good}
    assert await read(harness, refused) == refused
    crew.scheduler._planner._prepare = prepare
    await crew.once()
    assert await read(harness, refused) == refused, "not at each poll"
    assert len(crew.failed) == 1
    crew.scheduler._writer._refused_until[refused.id] = 0
    await crew.once()
    assert (await read(harness, refused)).execution_count == 1


async def test_stored_options_that_mean_nothing_stop_their_schedule_alone(harness: Harness):
    crew = Crew(harness)
    bad, good = [await store_schedule(harness, name=name) for name in ("bad", "good")]
    prepare = crew.prepare

    async def reading(row: ScheduleRow, occurrence: datetime, name: str | None = None) -> PreparedTask | None:
        if row.id == bad.id:
            raise TypeError("options")
        return await prepare(row, occurrence, name)

    crew.scheduler._planner._prepare = reading
    harness.clock.advance(60)
    await crew.once()
    assert [one.schedule_id for one in crew.fired] == [good.id]
    stopped = await read(harness, bad)
    assert (stopped.status, stopped.error) == ("inactive", "TypeError: options")


async def test_many_missed_occurrences_become_tasks_some_at_a_time_without_waiting_for_the_poll(harness: Harness):
    crew, row = Crew(harness), await store_schedule(harness, misfire="catch_up")
    await store_schedule(harness, name="later", recurrence=dump_recurrence(Once(harness.clock.now + 119 * MINUTE)))
    harness.clock.advance(60 * 120)
    assert await crew.scheduler.schedule_once() is True
    assert (await read(harness, row)).execution_count == 50
    crew.scheduler._poll_interval = 1000
    await crew.scheduler.rest()
    assert await crew.scheduler.schedule_once() is False
    assert (await read(harness, row)).execution_count == 120


async def test_what_somebody_changes_meanwhile_is_not_fired(harness: Harness):
    crew, row = Crew(harness), await store_schedule(harness)
    harness.clock.advance(60)
    prepare = crew.prepare

    async def slow(row: ScheduleRow, occurrence: datetime, name: str | None = None) -> PreparedTask | None:
        paused = await harness.database.write(
            lambda: harness.storage.schedules.change(row.id, lambda one, _now: one._replace(status="inactive"))
        )
        assert paused is not None
        return await prepare(row, occurrence, name)

    crew.scheduler._planner._prepare = slow
    await crew.once()
    assert crew.fired == []
    assert await external_ids(harness) == []
    assert (await read(harness, row)).execution_count == 0


async def test_an_occurrence_that_has_a_task_already_gets_no_other_and_is_not_counted(harness: Harness):
    crew, row = Crew(harness), await store_schedule(harness)
    harness.clock.advance(60)
    assert row.next_run_at is not None
    await harness.add(alias="work", external_id=f"schedule:{row.id}:{row.next_run_at.isoformat()}")
    await crew.once()
    assert crew.fired == []
    after = await read(harness, row)
    assert (after.execution_count, after.next_run_at) == (0, row.next_run_at + MINUTE)
    assert len(await external_ids(harness)) == 1


async def test_firing_is_done_wholly_or_not_at_all(harness: Harness):
    row = await store_schedule(harness)
    task = KeyedRow(new_task(external_id="one"), live_only=False)
    spoiled = KeyedRow(new_task(external_id="two", queue=None), live_only=False)
    firing = Firing(row.id, row.revision, None, "completed", tasks=(task, spoiled))
    with pytest.raises(TaskStoreError):
        await harness.database.write(lambda: harness.storage.schedules.fire([firing]))
    assert await external_ids(harness) == []
    assert not await harness.sql("SELECT external_id FROM aiotaskstore_task_keys")
    assert await read(harness, row) == row


@pytest.mark.memory(False)  # where reads are in one queue with writes, and would lose the answer
async def test_a_firing_whose_answer_is_lost_is_not_made_twice_and_told_once(harness: Harness):
    crew, row = Crew(harness), await store_schedule(harness)
    harness.clock.advance(60)
    with answers_lost(harness.database):
        await crew.once()
    await crew.once()
    assert len(await external_ids(harness)) == 1
    assert (await read(harness, row)).execution_count == 1
    assert [(one.schedule_id, one.occurrence) for one in crew.fired] == [(row.id, row.next_run_at)]
    assert crew.hints == [Hint(frozenset({"default"}))]


@pytest.mark.memory(False)  # where reads are in one queue with writes, and would lose the answer
async def test_a_firing_is_told_once_the_database_tells_what_became_of_it(harness: Harness):
    crew = Crew(harness)
    keyed = crew.prepare

    async def prepare(row: ScheduleRow, occurrence: datetime, name: str | None = None) -> PreparedTask | None:
        task = await keyed(row, occurrence, name)
        return task and task._replace(row=task.row._replace(run_at=None, serialization_key=row.name))

    crew.scheduler._planner._prepare = prepare
    rows = [await store_schedule(harness, name=name) for name in ("one", "two")]
    harness.clock.advance(60)
    with answers_lost(harness.database, times=2), pytest.raises(DatabaseUnavailableError):
        await crew.once()
    assert crew.fired == []
    await crew.once()
    await crew.once()
    assert {one.schedule_id for one in crew.fired} == {row.id for row in rows}
    assert len(crew.fired) == len(await external_ids(harness)) == 2
    assert crew.wanted == {"one", "two"}


async def test_a_firing_that_was_lost_before_its_commit_is_made_again_and_told_once(harness: Harness):
    crew, row = Crew(harness), await store_schedule(harness)
    write, lost = harness.database.write, 0

    async def losing(operation: Any, **options: Any) -> Any:
        nonlocal lost
        lost += 1
        if lost == 1:
            raise DatabaseUnavailableError("the connection was lost before the COMMIT came")
        return await write(operation, **options)

    harness.database.write = losing  # type: ignore[method-assign]
    harness.clock.advance(60)
    with pytest.raises(DatabaseUnavailableError):
        await crew.once()
    assert crew.fired == []
    await crew.once()
    await crew.once()
    assert [one.schedule_id for one in crew.fired] == [row.id]
    assert len(await external_ids(harness)) == 1


async def test_a_firing_whose_transaction_is_still_open_stays_in_doubt(harness: Harness):
    """Its schedule is locked until it ends, and its tasks are not seen before."""
    row = await store_schedule(harness)
    schedules, unseen = harness.storage.schedules, KeyedRow(new_task(external_id="unseen"), live_only=False)
    firing = Firing(row.id, row.revision, None, "completed", tasks=(unseen,))
    read_back = partial(schedules.read_back, [firing])
    assert await harness.database.write(read_back) == [[]]
    if harness.database.kind != "sqlite":  # where nothing is read back while another transaction writes
        async with harness.database.transaction() as connection:
            await harness.database.run_on(connection, partial(schedules.change, row.id, lambda before, _now: before))
            assert await harness.database.write(read_back) == [None]
    await harness.database.write(partial(schedules.fire, [firing]))
    assert await harness.database.write(read_back) == [[unseen.row.id]]
    await harness.database.write(partial(schedules.delete, row.id))
    assert await harness.database.write(read_back) == [[unseen.row.id]]
    gone = firing._replace(tasks=(KeyedRow(new_task(external_id="gone"), live_only=False),))
    assert await harness.database.write(partial(schedules.read_back, [gone])) == [[]]


async def test_a_held_external_id_keeps_only_its_own_schedule_waiting(harness: Harness):
    crew = Crew(harness)
    held, free = [await store_schedule(harness, name=name) for name in ("held", "free")]
    fire, schedules = harness.storage.schedules.fire, harness.storage.schedules

    def holding(firings: Any) -> Any:
        if any(firing.id == held.id for firing in firings):
            raise LockHeld("somebody's open transaction")
        return (yield from fire(firings))

    schedules.fire = holding  # type: ignore[method-assign]
    harness.clock.advance(60)
    await crew.once()
    assert [one.schedule_id for one in crew.fired] == [free.id]
    schedules.fire = fire  # type: ignore[method-assign]
    await crew.once()
    assert [one.schedule_id for one in crew.fired] == [free.id, held.id]


@pytest.mark.acceptance("A124")
async def test_run_on_start_fires_once_in_a_lease_over_all_schedulers(url: str):
    clock = Clock()
    async with schedulers(url, [clock] * 5) as crews:
        row = await store_schedule(crews[0].harness, run_on_start=True)
        await all_at_once(crews)
        assert sum(len(crew.fired) for crew in crews) == 1
        clock.advance(14)
        await Crew(crews[0].harness).once()
        assert (await read(crews[0].harness, row)).execution_count == 1
        clock.advance(1)
        await Crew(crews[0].harness).once()
        after = await read(crews[0].harness, row)
        assert (after.execution_count, after.next_run_at) == (2, row.next_run_at)


async def test_a_payload_function_that_hangs_delays_no_other_schedule(harness: Harness):
    crew = Crew(harness)
    begun, free = asyncio.Event(), asyncio.Event()
    await store_schedule(harness, name="hanging", payload=None)
    await store_schedule(harness, name="fine")
    crew.registry.know(Schedule(name="hanging", alias="work", recurrence=Every(60), payload=lambda: None))
    prepare = crew.prepare

    async def hanging(row: ScheduleRow, occurrence: datetime, name: str | None = None) -> PreparedTask | None:
        if row.name == "hanging":
            begun.set()
            await free.wait()
        return await prepare(row, occurrence, name)

    crew.scheduler._planner._prepare = hanging
    harness.clock.advance(60)
    await crew.scheduler.schedule_once()
    await crew.scheduler.schedule_once()
    assert [one.name for one in crew.fired] == ["fine"]
    await begun.wait()
    free.set()
    await crew.scheduler.idle()
    assert [one.name for one in crew.fired] == ["fine", "hanging"]


@pytest.mark.parametrize("which", ["payload", "recurrence"])
async def test_a_function_that_hangs_is_not_called_again_before_it_returns(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, which: str
):
    crew = Crew(harness)
    free, calls = Event(), []
    monkeypatch.setattr("aiotaskstore.payload_function.LIMIT", 0.5)
    monkeypatch.setattr("aiotaskstore.dispatch.schedule_planner._LIMIT", 0.5)

    def payload() -> dict[str, Any]:
        calls.append(which)
        free.wait()
        return {}

    def recurrence(instant: datetime) -> datetime:
        calls.append(which)
        free.wait()
        return instant + MINUTE

    hanging = payload if which == "payload" else None
    every: Any = Every(60) if hanging else recurrence
    schedule = Schedule(name="hanging", alias="work", recurrence=every, payload=hanging)
    fields = {} if hanging else {"recurrence": dump_recurrence(every)}
    row = await store_schedule(
        harness, name="hanging", **({"payload": None} if hanging else {}), **fields, misfire="catch_up"
    )
    crew.registry.know(schedule)
    prepare = crew.prepare

    async def called(row: ScheduleRow, occurrence: datetime, name: str | None = None) -> PreparedTask | None:
        if hanging:
            try:
                await call_payload_function(hanging, row.name, occurrence, crew.registry.calls)
            except Exception as error:
                raise PayloadFunctionError("no payload") from error
        return await prepare(row, occurrence, name)

    crew.scheduler._planner._prepare = called
    try:
        harness.clock.advance(180)
        await crew.once()
        assert calls == [which], "nor for the other missed occurrences"
        for _ in range(4):
            await harness.sql(
                "UPDATE aiotaskstore_schedules SET status = 'active' WHERE id = :id", id=row.id
            )  # as an operator does
            harness.clock.advance(60)
            await crew.once()
        assert calls == [which]
        assert crew.registry.calls.hangs("hanging")
        assert len(crew.failed) == 2, "that the call took too long, and that it is waited for"
    finally:
        free.set()
    await eventually(lambda: not crew.registry.calls.hangs("hanging"))
    monkeypatch.undo()
    await crew.once()
    harness.clock.advance(120)
    await crew.once()
    assert crew.fired, "it goes on when the call has returned"


async def test_the_wait_ends_with_the_next_occurrence_and_with_a_change(harness: Harness):
    crew = Crew(harness)
    crew.scheduler._poll_interval = 1000
    await crew.once()
    assert crew.scheduler._next_in is None
    row = await store_schedule(harness)
    crew.scheduler.receive(SCHEDULES)
    await crew.scheduler.rest()
    await crew.once()
    assert crew.scheduler._next_in == 60
    harness.clock.advance(59.99)
    await crew.once()
    await crew.scheduler.rest()
    harness.clock.advance(0.01)
    await crew.once()
    assert [one.schedule_id for one in crew.fired] == [row.id]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"recurrence": dump_recurrence(Once(Clock().now + MINUTE))}, "completed"),
        ({"max_executions": 1}, "completed"),
        ({"ends_at": Clock().now + 1.5 * MINUTE}, "completed"),
        ({}, "active"),
    ],
    ids=["once", "its last task", "its end", "goes on"],
)
async def test_a_schedule_is_completed_by_the_firing_that_is_its_last(
    harness: Harness, fields: dict[str, Any], status: str
):
    crew, row = Crew(harness), await store_schedule(harness, **fields)
    harness.clock.advance(60)
    await crew.once()
    after = await read(harness, row)
    assert (after.status, after.next_run_at is None) == (status, status == "completed")
    harness.clock.advance(86_400)
    await crew.once()
    assert (await read(harness, row)).execution_count == (1 if status == "completed" else 2)


async def test_a_later_scheduler_computes_a_next_instant_that_is_missing(harness: Harness):
    row = await store_schedule(harness)
    await harness.sql("UPDATE aiotaskstore_schedules SET next_run_at = NULL WHERE id = :id", id=row.id)
    harness.clock.advance(5)
    await Crew(harness).once()
    assert (await read(harness, row)).next_run_at == harness.clock.now + MINUTE


def paused(row: ScheduleRow, _now: datetime) -> ScheduleRow:
    return row._replace(status="inactive")


Change = Callable[[ScheduleRow, datetime], ScheduleRow]


@pytest.mark.parametrize("change", [paused, lambda row, now: row._replace(deleted_at=now)], ids=["paused", "deleted"])
@pytest.mark.acceptance("A122")
async def test_one_that_is_set_aside_does_not_fire(harness: Harness, change: Change):
    row = await store_schedule(harness)
    await harness.database.write(lambda: harness.storage.schedules.change(row.id, change))
    harness.clock.advance(600)
    crew = Crew(harness)
    await crew.once()
    assert (crew.fired, (await read(harness, row)).execution_count) == ([], 0)


async def test_schedules_are_locked_in_one_order_whatever_the_order_of_their_declaration(harness: Harness):
    """So that processes which declare the same ones, each in its own order, wait for, not deadlock, each other."""
    schedules, noted = harness.storage.schedules, list[Any]()

    def noting(rows: list[ScheduleRow]) -> Any:
        steps: Any = schedules.declare(rows)
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration:
                return
            noted.append(step)
            answer = yield step

    rows = [new_schedule(id=new_id(), name=name, code_owned=True) for name in ("c", "a", "d", "b")]
    await harness.database.write(lambda: noting(rows))
    (inserted,) = (step for step in noted if isinstance(step, Batch))
    assert [row[WRITTEN.index("name")] for row in inserted.rows] == ["a", "b", "c", "d"]
    noted.clear()
    await harness.database.write(lambda: noting([row._replace(description="anew") for row in reversed(rows)]))
    ids = {row.id: row.name for row in rows}
    locked = [ids[step.params["id"]] for step in noted if isinstance(step, Call) and step.name == "lock_schedule"]
    assert locked == ["a", "b", "c", "d"]


async def test_racing_processes_declare_a_schedule_once(url: str):
    async with harness_on(url) as harness, harness_on(url, harness.clock) as other:
        row = new_schedule(name="nightly", code_owned=True)

        async def declare(one: Harness) -> None:
            mine = [row._replace(id=new_id())]
            await one.database.write(lambda: one.storage.schedules.declare(mine))

        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(declare((harness, other)[number % 2]))
        assert len(await harness.sql("SELECT id FROM aiotaskstore_schedules")) == 1
