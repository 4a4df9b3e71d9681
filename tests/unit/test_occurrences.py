"""What becomes of a schedule's occurrences: pure decisions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from aiotaskstore.occurrences import Plan, Timing, advance, after, begin, preview
from aiotaskstore.recurrence import Cron, Every, Once, RecurrenceRule, as_recurrence
from aiotaskstore.schedule import ScheduleStatus

T0 = datetime(2030, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=15)


def at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def plan(timing: Timing, planned: float, now: float, most: int = 50) -> Plan:
    return advance(timing, at(planned), at(now), tolerance=LEASE, most=most)


def minutely(**fields: Any) -> Timing:
    return Timing(Every(minutes=1), **fields)


def test_missed_occurrences_become_one_late_task_and_the_next_is_ahead_in_step():
    assert plan(minutely(), 1, 11.5) == Plan((at(1),), at(12), ScheduleStatus.ACTIVE)


def test_catching_up_makes_a_task_for_each_a_part_at_a_time():
    timing = minutely(misfire="catch_up")
    assert plan(timing, 1, 10).due == tuple(at(n) for n in range(1, 11))
    some = plan(timing, 1, 10, most=4)
    assert some == Plan((at(1), at(2), at(3), at(4)), at(5), ScheduleStatus.ACTIVE)


def test_catching_up_makes_no_more_tasks_than_are_left():
    assert len(plan(minutely(misfire="catch_up", left=3), 1, 10).due) == 3


@pytest.mark.parametrize(
    ("now", "due"),
    [(1, 1), (1.2, 1), (1.3, 0), (2, 0), (11.5, 0)],
    ids=["in time", "within a lease", "later than a lease", "the next is due too", "long past"],
)
def test_skipping_makes_a_task_only_of_what_is_in_time(now: float, due: int):
    decided = plan(minutely(misfire="skip"), 1, now)
    assert len(decided.due) == due
    assert decided.next_run_at is not None
    assert decided.next_run_at > at(now)


def test_a_single_occurrence_completes_its_schedule_late_too():
    for misfire in ("coalesce", "catch_up"):
        timing = Timing(Once(at(1)), misfire=misfire)
        assert plan(timing, 1, 99) == Plan((at(1),), None, ScheduleStatus.COMPLETED)
    assert plan(Timing(Once(at(1)), misfire="skip"), 1, 99) == Plan((), None, ScheduleStatus.COMPLETED)


def test_a_single_occurrence_that_is_past_counts_when_its_schedule_begins():
    for recurrence in (Once(at(1)), RecurrenceRule(starts_at=at(1))):
        assert begin(Timing(recurrence), at(99)) == Plan((), at(1), ScheduleStatus.ACTIVE)
        assert begin(Timing(recurrence, ends_at=at(0.5)), at(99)).status == "completed"


def test_nothing_occurs_after_the_end_and_what_was_missed_before_it_is_dropped():
    timing = minutely(ends_at=at(3))
    assert plan(timing, 2, 2).next_run_at == at(3)
    assert plan(timing, 3, 3) == Plan((at(3),), None, ScheduleStatus.COMPLETED)
    assert plan(timing, 3, 3.1) == Plan((at(3),), None, ScheduleStatus.COMPLETED), "a moment late is not missed"
    assert plan(timing, 3, 9) == Plan((), None, ScheduleStatus.COMPLETED)


def test_a_schedule_without_tasks_left_is_completed():
    assert plan(minutely(left=0), 1, 1).status == "completed"
    assert begin(minutely(left=0), T0).status == "completed"
    assert plan(minutely(left=1), 1, 1).having_made(1, 1) == Plan((at(1),), None, ScheduleStatus.COMPLETED)
    assert plan(minutely(left=1), 1, 1).having_made(0, 1).next_run_at == at(2), "an occurrence that was skipped"


def test_nothing_occurs_before_the_start_and_a_period_begins_with_it():
    assert begin(minutely(starts_at=at(90)), T0).next_run_at == at(90)
    assert begin(minutely(starts_at=at(-90.5)), T0).next_run_at == at(0.5)
    daily = Timing(Cron("0 0 * * *"), starts_at=T0 + timedelta(days=2))
    assert begin(daily, T0).next_run_at == T0 + timedelta(days=2)


def test_a_function_is_asked_from_occurrence_to_occurrence():
    asked: list[datetime] = []

    def hourly(last: datetime) -> datetime:
        asked.append(last)
        return last + timedelta(hours=1)

    timing = Timing(as_recurrence(hourly))
    assert begin(timing, T0).next_run_at == at(60)
    assert plan(timing, 60, 150) == Plan((at(60),), at(180), ScheduleStatus.ACTIVE)
    assert asked == [T0, at(60), at(120)]


def test_a_function_that_is_far_behind_is_asked_what_follows_now():
    def every_second(last: datetime) -> datetime:
        return last + timedelta(seconds=1)

    assert plan(Timing(as_recurrence(every_second)), 0, 10_000).next_run_at == at(10_000) + timedelta(seconds=1)


def raising(_last: datetime) -> datetime:
    raise ValueError("no idea")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda last: last, "must return an instant after"),
        (lambda last: last - timedelta(1), "must return an instant after"),
        (lambda last: last.replace(tzinfo=None), "timezone"),
        (lambda _last: "tomorrow", "tomorrow"),
        (raising, "ValueError: no idea"),
    ],
    ids=["the same", "earlier", "naive", "no instant", "raising"],
)
def test_a_function_that_cannot_tell_the_next_instant_ends_in_an_error_that_is_kept(
    function: Callable[..., Any], said: str
):
    timing = Timing(as_recurrence(function))
    for decided in (plan(timing, 1, 1), begin(timing, T0)):
        assert decided.status == "inactive"
        assert decided.next_run_at is None
        assert said in (decided.error or "")
    assert plan(timing, 1, 1).due == (at(1),), "the occurrence that was planned"
    assert plan(timing._replace(misfire="catch_up"), 1, 1).due == (at(1),)


class Own:
    """A recurrence of the application's own."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def next_after(self, instant: datetime, /) -> Any:
        return self.answer


def test_a_recurrence_of_the_applications_own_must_move_on():
    assert begin(Timing(Own(at(5).astimezone(timezone(timedelta(hours=2))))), T0).next_run_at == at(5)
    assert begin(Timing(Own(None)), T0).status == "completed"
    for nonsense in (T0, at(-1), "soon", at(5).replace(tzinfo=None)):
        assert begin(Timing(Own(nonsense)), T0).status == "inactive"


def test_a_preview_ends_with_the_schedule():
    assert preview(minutely(), at(1), 3) == [at(1), at(2), at(3)]
    assert preview(minutely(left=2), at(1), 3) == [at(1), at(2)]
    assert preview(minutely(ends_at=at(2)), at(1), 3) == [at(1), at(2)]
    assert preview(minutely(), None, 3) == []
    assert after(minutely(), at(1), at(1)) == at(2)
