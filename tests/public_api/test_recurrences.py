"""Every kind of recurrence, stored and read again, on each database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiotaskstore import (
    Cron,
    DayOfWeek,
    Every,
    Frequency,
    InvalidRecurrenceError,
    MonthOfYear,
    Once,
    Recurrence,
    RecurrenceRule,
    Schedule,
    TaskStore,
)

FAR = datetime(2199, 1, 7, 9, 30, 0, 250_000, tzinfo=UTC)
"""A Monday, later than any test."""
AGO = datetime(1990, 1, 1, 9, tzinfo=UTC)

KINDS: dict[str, Recurrence] = {
    "cron": Cron("30 2 * * *", timezone="Europe/Berlin"),
    "descriptor": Cron("@hourly", timezone="Asia/Kolkata"),
    "every": Every(hours=6, starts_at=FAR),
    "once": Once(FAR),
    "none": RecurrenceRule(starts_at=FAR),
    "rule": RecurrenceRule(
        Frequency.WEEKLY, 2, [DayOfWeek.MONDAY, DayOfWeek.FRIDAY], months_of_year=[MonthOfYear.JANUARY],
        starts_at=FAR, ends_at=FAR + timedelta(days=4_000), timezone="Europe/Sofia", count=50,
    ),
}  # fmt: skip


def declared(store: TaskStore) -> None:
    @store.task
    async def report() -> None:
        raise AssertionError("not run")


def schedule(**fields: Any) -> Schedule:
    return Schedule(**{"name": "one", "alias": "report", "status": "active"} | fields)


@pytest.mark.acceptance("A109", "A110")
async def test_each_kind_is_read_as_it_was_written_and_goes_on_as_it_said(store: TaskStore):
    declared(store)
    for name, recurrence in KINDS.items():
        made = await store.schedules.create(schedule(name=name, recurrence=recurrence))
        assert made.created_at is not None
        read = await store.schedules.get(name)
        assert read == made
        assert read is not None
        assert read.recurrence == recurrence
        assert read.next_run_at is not None
        assert read.next_run_at == recurrence.next_after(made.created_at)
        coming = list(await store.schedules.preview(name, 20))
        assert coming[0] == read.next_run_at
        wanted = [coming[0]]
        while len(wanted) < 20 and (occurrence := recurrence.next_after(wanted[-1])) is not None:
            wanted.append(occurrence)
        assert coming == wanted


async def test_a_rule_that_has_had_thousands_of_occurrences_goes_on_from_now(store: TaskStore):
    declared(store)
    rule = RecurrenceRule(Frequency.HOURLY, interval=5, starts_at=AGO)
    made = await store.schedules.create(schedule(recurrence=rule))
    now = datetime.now(UTC)
    assert made.next_run_at is not None
    assert (made.next_run_at - AGO) % timedelta(hours=5) == timedelta(0)
    assert now - timedelta(hours=1) < made.next_run_at < now + timedelta(hours=6)


@pytest.mark.acceptance("A113")
async def test_what_never_occurs_is_refused_and_nothing_is_stored(store: TaskStore):
    declared(store)
    await store.schedules.create(schedule(name="sound", recurrence=Every(hours=1)))
    over = [
        RecurrenceRule(Frequency.DAILY, starts_at=AGO, ends_at=AGO + timedelta(days=3)),
        RecurrenceRule(Frequency.DAILY, starts_at=AGO, count=3),
    ]
    for recurrence in over:
        with pytest.raises(InvalidRecurrenceError, match=r"never|no occurrence|nothing"):
            await store.schedules.create(schedule(name="over", recurrence=recurrence))
    for text in ("0 0 31 2 *", "* * * * * *", "0 9 * * someday"):
        with pytest.raises(InvalidRecurrenceError):
            await store.schedules.create(schedule(name="over", recurrence=text))
        with pytest.raises(InvalidRecurrenceError):
            await store.schedules.update("sound", recurrence=text)
    (only,) = await store.schedules.list()
    assert (only.name, only.recurrence) == ("sound", Every(hours=1))
    changed = await store.schedules.update(replace(only, recurrence=Cron("0 9 * * *", "Europe/Sofia")))
    assert changed.recurrence == Cron("0 9 * * *", "Europe/Sofia")
