"""Schedules that cannot work: each is refused at the earliest moment, and nothing of it is stored."""

# ruff: noqa: E501 - a list of calls reads by its rows
from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from aiotaskstore import (
    ConfigurationError,
    Cron,
    DuplicateScheduleError,
    Every,
    Frequency,
    InvalidQueryError,
    InvalidRecurrenceError,
    InvalidTransitionError,
    Once,
    PayloadError,
    RecurrenceRule,
    Schedule,
    TaskStore,
    UnknownAliasError,
)
from tests.bad_input.refusals import Refusal, judge, refusal_of

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PAST = datetime(2020, 1, 1, tzinfo=UTC)
NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001 - the fault that is tested


def schedule(**fields: Any) -> Schedule:
    return Schedule(
        **{"name": "nightly", "alias": "report", "recurrence": Every(hours=1), "status": "active", **fields}
    )


VALUES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"name": ""}, ConfigurationError, "name that is not empty"),
    ({"name": None}, ConfigurationError, "must be text, not None"),
    ({"name": "x" * 101}, ConfigurationError, "at most 100"),
    ({"name": "a\0b"}, ConfigurationError, "NUL"),
    ({"name": str(UUID(int=7))}, ConfigurationError, "must not be a UUID"),
    ({"alias": ""}, ConfigurationError, "names no task"),
    ({"alias": 7}, ConfigurationError, "must be text, not 7"),
    ({"recurrence": None}, InvalidRecurrenceError, "not None"),
    ({"recurrence": 60}, InvalidRecurrenceError, "not 60"),
    ({"recurrence": Every}, InvalidRecurrenceError, "class Every itself"),
    ({"recurrence": "0 9 * *"}, InvalidRecurrenceError, "0 9"),
    ({"recurrence": "0 0 9 * * *"}, InvalidRecurrenceError, "field"),
    ({"payload": [1]}, PayloadError, r"arguments by name.*not \[1\]"),
    ({"payload": {1: 2}}, PayloadError, "arguments by name"),
    ({"payload": "text"}, PayloadError, "not 'text'"),
    ({"queue": 5}, ConfigurationError, "must be text, not 5"),
    ({"options": {"colour": 1}}, ConfigurationError, "no task option colour"),
    ({"options": {"external_id": "x"}}, ConfigurationError, "decides external_id"),
    ({"options": {"run_at": NOW}}, ConfigurationError, "decides run_at"),
    ({"options": {"queue": "x"}}, ConfigurationError, "its own field"),
    ({"options": {"priority": "high"}}, ConfigurationError, "whole number"),
    ({"options": 5}, ConfigurationError, "mapping"),
    ({"description": None}, ConfigurationError, "must be text"),
    ({"status": "running"}, ConfigurationError, "draft, active, inactive, completed.*'running'"),
    ({"starts_at": NAIVE}, ConfigurationError, "timezone"),
    ({"ends_at": NAIVE}, ConfigurationError, "timezone"),
    ({"ends_at": "tomorrow"}, ConfigurationError, "'tomorrow'"),
    ({"starts_at": NOW, "ends_at": PAST}, InvalidRecurrenceError, "before it starts"),
    ({"max_executions": 0}, ConfigurationError, "at least 1"),
    ({"max_executions": True}, ConfigurationError, "True"),
    ({"max_executions": 2.5}, ConfigurationError, "2.5"),
    ({"misfire": "ignore"}, ConfigurationError, "coalesce, skip, catch_up.*'ignore'"),
    ({"run_on_start": 1}, ConfigurationError, "True or False"),
]

KEPT: list[tuple[dict[str, Any], str]] = [
    ({"id": "no uuid"}, "must be a UUID.*'no uuid'.*name"),
    ({"id": None}, "must be a UUID"),
    ({"id": UUID(int=0)}, "must be a UUID"),
    ({"execution_count": "x"}, "whole number of at least 0, not 'x'"),
    ({"execution_count": -1}, "-1"),
    ({"execution_count": True}, "True"),
    ({"execution_count": 2**31}, "2147483648"),
    ({"last_run_at": "yesterday"}, "last_run_at must be a datetime with a timezone"),
    ({"last_run_at": NAIVE}, "last_run_at must be a datetime with a timezone"),
    ({"next_run_at": NAIVE}, "next_run_at must be a datetime with a timezone"),
    ({"next_run_at": "tomorrow"}, "'tomorrow'"),
]


@pytest.mark.parametrize(("fields", "words"), KEPT, ids=[repr(fields)[:60] for fields, _ in KEPT])
def test_what_a_schedule_of_another_database_brings_along_is_checked(fields: dict[str, Any], words: str):
    with pytest.raises(ConfigurationError) as refused:
        schedule(**fields)
    judge(refused.value, ConfigurationError, words)


@pytest.mark.parametrize(("fields", "kind", "words"), VALUES, ids=[repr(fields)[:60] for fields, _, _ in VALUES])
async def test_a_schedule_that_cannot_work_is_refused_as_it_is_made_and_as_it_is_changed(
    fields: dict[str, Any], kind: Any, words: str
):
    with pytest.raises(kind) as refused:
        schedule(**fields)
    judge(refused.value, kind, words)
    async with declared() as store:
        made = await store.schedules.create(schedule())
        judge(await refusal_of(lambda: store.schedules.update(made.id, **fields)), kind, words)
        assert await store.schedules.get(made.id) == made


def declared() -> TaskStore:
    store = TaskStore("sqlite://")

    @store.task
    async def report(number: int = 1) -> None: ...

    return store


def never() -> Schedule:
    return schedule(recurrence=RecurrenceRule(Frequency.DAILY, starts_at=PAST, ends_at=PAST + timedelta(days=3)))


CALLS = [
    Refusal("no schedule", ConfigurationError, "takes a Schedule, not 'nightly'", lambda s: s.schedules.create("nightly")),  # type: ignore[arg-type]
    Refusal("unknown alias", UnknownAliasError, "Did you mean", lambda s: s.schedules.create(schedule(alias="reprot"))),
    Refusal("misfit", PayloadError, "does not fit.*wrong", lambda s: s.schedules.create(schedule(payload={"wrong": 1}))),
    Refusal("no JSON", PayloadError, "cannot be written as JSON", lambda s: s.schedules.create(schedule(alias="any", payload={"x": object()}), unchecked=True)),
    Refusal("too large", PayloadError, "limit", lambda s: s.schedules.create(schedule(alias="any", payload={"x": "x" * 2**21}), unchecked=True)),
    Refusal("over", InvalidRecurrenceError, "nothing occurs after", lambda s: s.schedules.create(never())),
    Refusal("ended", InvalidRecurrenceError, "nothing occurs after", lambda s: s.schedules.create(schedule(ends_at=PAST))),
    Refusal("no tasks left", InvalidRecurrenceError, "made all 3", lambda s: s.schedules.create(schedule(max_executions=3, execution_count=3))),
    Refusal("key of another type", InvalidQueryError, "not 42", lambda s: s.schedules.get(42)),  # type: ignore[arg-type]
    Refusal("empty key", InvalidQueryError, "not ''", lambda s: s.schedules.pause("")),
    Refusal("empty name", InvalidQueryError, "not ''", lambda s: s.schedules.get_by_name("")),
    Refusal("no count", ConfigurationError, "at least 1", lambda s: s.schedules.preview(schedule(), 0)),
    Refusal("a large count", ConfigurationError, "at most 1000", lambda s: s.schedules.preview(schedule(), 10**6)),
    Refusal("unknown filter", InvalidQueryError, "no filter owner", lambda s: s.schedules.list(owner="x")),  # type: ignore[call-arg]
    Refusal("filter None", InvalidQueryError, "queue is None", lambda s: s.schedules.list(queue=None)),  # type: ignore[arg-type]
    Refusal("status that is none", InvalidQueryError, "'failed'", lambda s: s.schedules.count(status="failed")),
    Refusal("empty list", InvalidQueryError, "empty list", lambda s: s.schedules.list(name=[])),
    Refusal("empty text", InvalidQueryError, "not empty", lambda s: s.schedules.list(alias="")),
    Refusal("limit", InvalidQueryError, "-1", lambda s: s.schedules.list(limit=-1)),
    Refusal("order", InvalidQueryError, "cannot be ordered by", lambda s: s.schedules.list(order_by="payload")),
    Refusal("id", InvalidQueryError, "not 'nightly'", lambda s: s.schedules.list(id="nightly")),
]  # fmt: skip


@pytest.mark.parametrize("refusal", CALLS, ids=[one.name for one in CALLS])
async def test_a_call_that_cannot_be_meant_is_refused_and_stores_nothing(refusal: Refusal):
    async with declared() as store:
        judge(await refusal_of(lambda: refusal.call(store)), refusal.kind, refusal.words)
        assert await store.schedules.count(include_deleted=True) == 0


UPDATES = [
    ({"alias": "reprot"}, UnknownAliasError, "reprot"),
    ({"payload": {"wrong": 1}}, PayloadError, "wrong"),
    ({"recurrence": Once(PAST), "ends_at": PAST - timedelta(1)}, InvalidRecurrenceError, "nothing occurs after"),
    ({"ends_at": PAST}, InvalidRecurrenceError, "nothing occurs after"),
    ({"id": UUID(int=1)}, ConfigurationError, "cannot write id"),
    ({"execution_count": 0}, ConfigurationError, "cannot write execution_count"),
    ({"next_run_at": NOW}, ConfigurationError, "cannot write next_run_at"),
]


@pytest.mark.parametrize(("changes", "kind", "words"), UPDATES, ids=[repr(one[0])[:40] for one in UPDATES])
async def test_a_change_that_cannot_be_is_refused_and_changes_nothing(url: str, changes: Any, kind: Any, words: str):
    store = TaskStore(url)
    store.include(declared_report())
    async with store:
        made = await store.schedules.create(schedule())
        judge(await refusal_of(lambda: store.schedules.update(made.id, **changes)), kind, words)
        judge(await refusal_of(lambda: store.schedules.update(made, description="x")), ConfigurationError, "not both")
        assert await store.schedules.get(made.id) == made


def declared_report() -> Any:
    return declared().handlers[0]


async def test_a_move_that_a_status_does_not_allow_is_refused(url: str):
    store = TaskStore(url)
    store.include(declared_report())
    async with store:
        over = await store.schedules.create(schedule(status="completed", max_executions=2, execution_count=2))
        for move in ("pause", "resume"):
            refused = await refusal_of(lambda: getattr(store.schedules, move)(over.id))  # noqa: B023 - at once
            judge(refused, InvalidTransitionError, f"Schedule {over.id} is completed: cannot {move} it")
        ended = await store.schedules.create(schedule(name="ended", status="draft", ends_at=PAST))
        judge(
            await refusal_of(lambda: store.schedules.resume(ended.id)), InvalidRecurrenceError, "nothing occurs after"
        )
        assert {one.status for one in await store.schedules.list()} == {"completed", "draft"}


DECLARATIONS: list[tuple[str, Any, type[Exception], str]] = [
    ("unknown option", lambda s, t: t.schedule("@daily", colour=1), ConfigurationError, "no schedule option colour"),
    ("option by another name", lambda s, t: t.schedule("@daily", tz="Europe/Sofia"), ConfigurationError, 'no schedule option tz. Did you mean "timezone"\\? Known: .*max_executions, misfire, name, '),
    ("arguments that do not fit", lambda s, t: t.schedule("@daily", payload={"wrong": 1}), PayloadError, "wrong"),
    ("no payload", lambda s, t: t.schedule("@daily", payload=5), PayloadError, "not 5"),
    ("no recurrence", lambda s, t: t.schedule(None), InvalidRecurrenceError, "not None"),
    ("a zone twice", lambda s, t: t.schedule(Cron("0 9 * * *"), timezone="UTC"), InvalidRecurrenceError, "timezone"),
    ("no such zone", lambda s, t: t.schedule("0 9 * * *", timezone="Europe/Sofa"), InvalidRecurrenceError, "Sofa"),
    ("empty name", lambda s, t: t.schedule("@daily", name=""), ConfigurationError, "not empty"),
    ("an external id", lambda s, t: t.options(external_id="x").schedule("@daily"), ConfigurationError, "external_id"),
    ("no task", lambda s, t: s.schedule("x", "report", "@daily"), ConfigurationError, "takes a task, or a draft"),
    ("two payloads", lambda s, t: s.schedule("x", t.draft(2), "@daily", payload={"number": 3}), ConfigurationError, "two payloads"),
    ("naive", lambda s, t: t.schedule("@daily", starts_at=NAIVE), ConfigurationError, "timezone"),
    ("two of one name", lambda s, t: (t.schedule("@daily"), t.schedule("@hourly")), DuplicateScheduleError, "exists already"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "declare", "kind", "words"), DECLARATIONS, ids=[one[0] for one in DECLARATIONS])
async def test_a_declaration_that_cannot_work_is_refused_at_import(name: str, declare: Any, kind: Any, words: str):
    store = declared()
    with pytest.raises(kind) as refused:
        declare(store, store.handlers[0])
    judge(refused.value, kind, words)
    async with store:
        assert await store.schedules.count() == (kind is DuplicateScheduleError)


async def test_a_whole_schedule_is_written_with_its_status():
    async with declared() as store:
        made = await store.schedules.create(schedule(status="draft"))
        active = await store.schedules.update(replace(made, status="active"))
        assert (active.status, active.next_run_at is None) == ("active", False)
        assert (await store.schedules.update(made.id, status="inactive")).status == "inactive"


@pytest.mark.parametrize("scheduler", ["yes", 0, -1, None])
def test_a_scheduler_that_is_neither_on_nor_off_nor_a_period_is_refused(scheduler: Any):
    with pytest.raises(ConfigurationError, match="scheduler"):
        declared().dispatcher(scheduler=scheduler)


async def test_a_closed_store_has_no_schedules():
    store = declared()
    for call in (
        store.schedules.list, store.schedules.count, lambda: store.schedules.get("x"),
        lambda: store.schedules.create(schedule()), lambda: store.schedules.run_now("x"),
    ):  # fmt: skip
        judge(await refusal_of(call), ConfigurationError, "closed")
