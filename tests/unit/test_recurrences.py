"""Periods, single occurrences, functions; recurrences as text; what follows a late one; and what is refused."""
# ruff: noqa: DTZ001, E501 - local times are meant; tables read by their rows

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from aiotaskstore import (
    ConfigurationError,
    Cron,
    DayOfWeek,
    Every,
    Frequency,
    InvalidRecurrenceError,
    MonthOfYear,
    Once,
    Recurrence,
    RecurrenceRule,
)
from aiotaskstore.recurrence import FunctionRecurrence, as_recurrence, dump_recurrence, following, load_recurrence

HOUR = timedelta(hours=1)
NAIVE = datetime(2026, 1, 1)


def at(*fields: int) -> datetime:
    return datetime(*fields, tzinfo=UTC)  # type: ignore[misc,arg-type] # year, month, day and more


START = at(2026, 1, 1, 9)


def an_hour_later(last: datetime) -> datetime | None:
    return last + HOUR if last < START + 5000 * HOUR else None


def test_a_period_is_a_sum_of_units():
    assert Every(90) == Every(timedelta(seconds=90)) == Every(minutes=1, seconds=30) == Every(minutes=1.5)
    assert Every(days=1, weeks=1).period == timedelta(days=8)
    assert Every(hours=6).next_after(START) == START + 6 * HOUR


def test_a_period_is_elapsed_time_also_across_a_change_of_clocks():
    before = datetime(2026, 3, 28, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    following = Every(days=1).next_after(before)
    assert following is not None
    assert following.astimezone(ZoneInfo("Europe/Berlin")).hour == 13


def test_a_period_with_a_start_is_counted_from_there():
    every = Every(hours=6, starts_at=START)
    assert every.next_after(START - 100 * HOUR) == START
    assert every.next_after(START) == START + 6 * HOUR
    assert every.next_after(START + 10_000 * 6 * HOUR + HOUR) == START + 10_001 * 6 * HOUR


def test_being_late_moves_no_later_occurrence_of_a_period():
    planned = START
    for _ in range(1000):
        late = planned + timedelta(seconds=7)
        upcoming = following(Every(minutes=10), planned, late)
        assert upcoming == planned + timedelta(minutes=10)
        planned = upcoming
    assert following(Every(hours=1), START, START + timedelta(hours=3, minutes=25)) == START + 4 * HOUR
    assert following(Every(hours=1), START, START + 3 * HOUR) == START + 4 * HOUR


def test_what_follows_is_after_both_the_plan_and_now():
    assert following(Every(hours=1), START, START - 10 * HOUR) == START + HOUR
    assert following(Cron("0 * * * *"), START, START + timedelta(minutes=90)) == START + 2 * HOUR
    assert following(Cron("0 * * * *"), START, START - HOUR) == START + HOUR
    assert following(Once(START), START, START + HOUR) is None
    daily = RecurrenceRule(Frequency.DAILY, starts_at=START)
    assert following(daily, START, START + timedelta(days=3, hours=2)) == START + timedelta(days=4)


def test_a_function_is_asked_for_each_missed_occurrence_in_turn():
    recurrence = FunctionRecurrence.of(an_hour_later)
    assert recurrence.next_after(START) == START + HOUR
    assert following(recurrence, START, START + timedelta(hours=3, minutes=25)) == START + 4 * HOUR
    assert following(recurrence, START + 4999 * HOUR, START + 6000 * HOUR) is None


def test_a_function_that_was_missed_too_often_is_asked_for_what_follows_now():
    recurrence = FunctionRecurrence.of(lambda last: last + timedelta(seconds=1))
    now = START + timedelta(days=365, milliseconds=500)
    assert following(recurrence, START, now) == now + timedelta(seconds=1)


def test_what_a_function_returns_must_be_later_and_have_a_timezone():
    with pytest.raises(InvalidRecurrenceError, match=r"must return an instant after .* or None, not"):
        FunctionRecurrence.of(lambda last: last).next_after(START)
    with pytest.raises(InvalidRecurrenceError, match="returns must be a datetime with a timezone"):
        FunctionRecurrence.of(lambda _: NAIVE).next_after(START)
    with pytest.raises(InvalidRecurrenceError, match="returns must be a datetime with a timezone"):
        FunctionRecurrence.of(lambda _: "tomorrow").next_after(START)  # type: ignore[arg-type,return-value]


def test_the_first_occurrence_is_the_one_after_the_beginning_of_time():
    beginning = datetime.min.replace(tzinfo=UTC)
    assert rule().next_after(beginning) == START
    assert rule("hourly", interval=100_000_000).next_after(beginning) == START
    assert Once(START).next_after(beginning) == START
    assert Every(hours=1, starts_at=START).next_after(beginning) == START
    assert Cron("0 9 1 1 *", timezone="America/New_York").next_after(beginning) is not None


def test_a_rule_is_in_the_zone_in_which_its_start_was_written():
    starts_at = datetime(2026, 3, 28, 9, tzinfo=ZoneInfo("Europe/Berlin"))
    assert rule(starts_at=starts_at).timezone == "Europe/Berlin"
    assert rule(starts_at=starts_at).next_after(starts_at) == starts_at + timedelta(days=1)
    assert rule(starts_at=starts_at, timezone="UTC").next_after(starts_at) == starts_at.astimezone(UTC) + timedelta(1)
    assert rule().timezone == "UTC"


def test_a_single_occurrence_has_nothing_after_it():
    assert Once(START).next_after(START - HOUR) == START
    assert Once(START).next_after(START) is None
    assert Once(datetime(2026, 1, 1, 11, tzinfo=ZoneInfo("Europe/Sofia"))) == Once(START)


ALL: list[Recurrence] = [
    Cron("0 9 * * mon-fri", timezone="Europe/Sofia"),
    Cron("@every 1h30m"),
    Cron("@daily"),
    Every(hours=6),
    Every(0.25),
    Every(timedelta(microseconds=7), starts_at=START),
    Once(START + timedelta(microseconds=1)),
    RecurrenceRule(starts_at=START),
    RecurrenceRule(
        Frequency.MONTHLY, 2, [DayOfWeek.MONDAY, DayOfWeek.FRIDAY], [1, 15], [MonthOfYear.MARCH],
        starts_at=START, ends_at=START + timedelta(days=20_000), timezone="Europe/Sofia", count=30,
    ),
]  # fmt: skip


@pytest.mark.parametrize("recurrence", ALL, ids=lambda one: type(one).__name__)
def test_a_recurrence_comes_back_from_its_text(recurrence: Recurrence):
    loaded = load_recurrence(dump_recurrence(recurrence))
    assert loaded == recurrence
    assert loaded.next_after(START) == recurrence.next_after(START)
    assert dump_recurrence(loaded) == dump_recurrence(recurrence)


@pytest.mark.parametrize("recurrence", ALL, ids=lambda one: type(one).__name__)
def test_a_recurrence_is_a_value(recurrence: Recurrence):
    assert len({recurrence, load_recurrence(dump_recurrence(recurrence))}) == 1
    assert isinstance(recurrence, Recurrence)
    assert type(recurrence).__name__ in repr(recurrence)


def test_of_a_function_the_name_comes_back_and_occurs_only_where_its_code_is():
    loaded = load_recurrence(dump_recurrence(an_hour_later))
    assert loaded == FunctionRecurrence.of(an_hour_later)
    with pytest.raises(
        InvalidRecurrenceError, match=r'"tests\.unit.test_recurrences\.an_hour_later", whose code is not'
    ):
        loaded.next_after(START)


class Fortnight:
    def next_after(self, instant: datetime, /) -> datetime | None:
        return instant + timedelta(days=14)


def test_a_class_of_ones_own_is_a_recurrence_that_lives_in_code():
    assert isinstance(as_recurrence(Fortnight()), Fortnight)
    loaded = load_recurrence(dump_recurrence(Fortnight()))
    assert loaded == FunctionRecurrence("tests.unit.test_recurrences.Fortnight.next_after")


def test_what_callers_write_is_made_a_recurrence():
    assert as_recurrence("0 9 * * *", "Europe/Sofia") == Cron("0 9 * * *", "Europe/Sofia")
    assert as_recurrence("@hourly") == Cron("@hourly")
    assert as_recurrence(Every(5)) == Every(5)
    assert as_recurrence(an_hour_later).next_after(START) == START + HOUR
    assert as_recurrence(ALL[-1]) is ALL[-1]


async def later(last: datetime) -> datetime:
    return last + HOUR


def rule(frequency: Any = Frequency.DAILY, **options: Any) -> RecurrenceRule:
    return RecurrenceRule(frequency, **({"starts_at": START} | options))


REFUSED: list[tuple[str, Any]] = [
    # what never occurs
    (r'"0 0 30 2 \*" never occurs', lambda: Cron("0 0 30 2 *")),
    (r'"0 0 31 4,6,9,11 \*" never occurs', lambda: Cron("0 0 31 4,6,9,11 *")),
    ("never occurs.*days_of_month: 30; months_of_year: february", lambda: rule("monthly", days_of_month=[30], months_of_year=["february"])),
    ("never occurs.*months_of_year: april", lambda: rule("secondly", days_of_month=[31], months_of_year=["april"])),
    ("never occurs.*interval: 7; days_of_week: monday", lambda: rule(interval=7, days_of_week=["monday"])),
    ("never occurs.*interval: 168", lambda: rule("hourly", interval=168, days_of_week=["monday"])),
    ("never occurs.*interval: 4", lambda: rule("yearly", interval=4, days_of_month=[29], months_of_year=["february"])),
    ("never occurs.*ends_at: 2026-01-02", lambda: rule(days_of_week=["monday"], ends_at=at(2026, 1, 2))),
    # dates and times
    ("days_of_month must be numbers from 1 to 31, not 0", lambda: rule("monthly", days_of_month=[0])),
    ("days_of_month must be numbers from 1 to 31, not 32", lambda: rule("monthly", days_of_month=[1, 32])),
    ("days_of_month must be numbers from 1 to 31, not -1.*L", lambda: rule("monthly", days_of_month=[-1])),
    ("days_of_month must be numbers from 1 to 31, not True", lambda: rule("monthly", days_of_month=[True])),
    ("days_of_month must be a list, not 15", lambda: rule("monthly", days_of_month=15)),
    ('Each of days_of_week must be one of "monday".*not \'mon\'', lambda: rule("weekly", days_of_week=["mon"])),
    ("days_of_week must be a list, not 'monday'", lambda: rule("weekly", days_of_week="monday")),
    ('Each of months_of_year must be one of "january".*not 3', lambda: rule("yearly", months_of_year=[3])),
    ("ends_at must not be before starts_at.*Exchange", lambda: rule(ends_at=START - HOUR)),
    ("needs starts_at", lambda: rule(starts_at=None)),
    ("starts_at must be a datetime with a timezone", lambda: rule(starts_at=NAIVE)),
    ("ends_at must be a datetime with a timezone", lambda: rule(ends_at=NAIVE)),
    ("starts_at must be a datetime with a timezone", lambda: rule(starts_at=date(2026, 1, 1))),
    ("starts_at must be a datetime with a timezone", lambda: rule(starts_at="2026-01-01T00:00:00Z")),
    ("starts_at must lie in the years 1 to 9999", lambda: rule(starts_at=datetime.max.replace(tzinfo=timezone(-HOUR)))),
    ("at must be a datetime with a timezone", lambda: Once(NAIVE)),
    ("at must lie in the years 1000 to 9999", lambda: Once(datetime.min.replace(tzinfo=UTC))),
    ("starts_at must lie in the years 1000 to 9999", lambda: rule(starts_at=datetime.min.replace(tzinfo=UTC))),
    ("instant must be a datetime with a timezone", lambda: Cron("@daily").next_after(NAIVE)),
    ("instant must be a datetime with a timezone", lambda: rule().next_after(NAIVE)),
    ("instant must be a datetime with a timezone", lambda: Every(5).next_after(NAIVE)),
    ("instant must be a datetime with a timezone", lambda: Once(START).next_after(NAIVE)),
    # time zones
    ('no time zone "Europe/Sofa". Did you mean "Europe/Sofia"', lambda: Cron("@daily", timezone="Europe/Sofa")),
    ('no time zone "europe/sofia". Did you mean "Europe/Sofia"', lambda: Cron("@daily", timezone="europe/sofia")),
    ('no time zone "Mars/Phobos"', lambda: rule(timezone="Mars/Phobos")),
    ('no time zone "Europe"', lambda: rule(timezone="Europe")),
    ('no time zone ""', lambda: rule(timezone="")),
    ("no time zone", lambda: rule(timezone="../../etc/passwd")),
    ("no time zone", lambda: rule(timezone="Europe/Sofia\0")),
    ("timezone must be the name of a zone", lambda: rule(timezone=5)),
    ('no time zone ""', lambda: Cron("@daily", timezone="")),
    ("timezone must be the name of a zone", lambda: rule(timezone=timezone(HOUR))),
    ('names the time zone "UTC" and timezone= another', lambda: Cron("TZ=UTC 0 9 * * *", timezone="Europe/Sofia")),
    # numbers
    ("interval must be a whole number from 1", lambda: rule(interval=-2)),
    ("interval must be a whole number from 1", lambda: rule(interval=10**12)),
    ("count must be a whole number from 1", lambda: rule(count=0)),
    ("A period must be above zero", Every),
    ("A period must be above zero", lambda: Every(timedelta(0))),
    ("The period of Every must be zero or more", lambda: Every(-5)),
    ("hours of Every must be zero or more", lambda: Every(hours=-1)),
    ("minutes of Every must be a timedelta or a number", lambda: Every(minutes="5")),  # type: ignore[arg-type]
    ("The period of Every must be zero or more", lambda: Every(float("nan"))),
    ("at most a hundred years", lambda: Every(1e30)),
    # cron text
    ("5 fields .minute, hour.* has 6. Seconds have no field", lambda: Cron("0 0 9 * * *")),
    ("has 7", lambda: Cron("0 0 9 * * * 2026")),
    ("has 4", lambda: Cron("0 9 * *")),
    ("has 0", lambda: Cron(" ")),
    ("cannot be read", lambda: Cron("61 * * * *")),
    ("cannot be read", lambda: Cron("*/0 * * * *")),
    ("cannot be read", lambda: Cron("0 9 * * someday")),
    ("cannot be read", lambda: Cron("-5 9 * * *")),
    ('"4-4" .* begins where it ends.*Write "4"', lambda: Cron("* 4-4 * * *")),
    ("leaves the time to chance", lambda: Cron("H H * * *")),
    ("leaves the time to chance", lambda: Cron("R(1-5) 2 * * *")),
    ('"@reboot" is not known', lambda: Cron("@reboot")),
    ('"1x" is no duration', lambda: Cron("@every 1x")),
    ("A cron must be text, not 5", lambda: Cron(5)),  # type: ignore[arg-type]
    ("A cron must be text, not .'0 9'", lambda: Cron(["0 9"])),  # type: ignore[arg-type]
    ("at most 500 printable ASCII", lambda: Cron("0 9 * * *\n")),
    ("at most 500 printable ASCII", lambda: Cron("٥ 9 * * *")),
    ("at most 500 printable ASCII", lambda: Cron("1," * 400 + "1 * * * *")),
    # something else
    ('frequency must be one of "none"', lambda: rule("sometimes")),
    ('frequency is "none".*have no meaning', lambda: rule("none", days_of_week=["monday"])),
    ("A recurrence must be a Cron, a RecurrenceRule", lambda: as_recurrence(5)),
    ('"later" must be a plain one', lambda: as_recurrence(later)),
    ("not the class Every itself", lambda: as_recurrence(Every)),
    ("timezone= belongs to cron text", lambda: as_recurrence(Every(5), "Europe/Sofia")),
    ("A recurrence must be", lambda: dump_recurrence(None)),  # type: ignore[arg-type]
    ("cannot be read", lambda: load_recurrence("no JSON")),
    ("cannot be read", lambda: load_recurrence("[1]")),
    ("cannot be read", lambda: load_recurrence('{"kind": "moon"}')),
    ("cannot be read", lambda: load_recurrence('{"kind": "cron", "words": "x"}')),
    ("cannot be read", lambda: load_recurrence('{"kind": "rule", "starts_at": 5}')),
]  # fmt: skip


@pytest.mark.acceptance("A113")
@pytest.mark.parametrize(("words", "make"), REFUSED, ids=[f"{number}" for number in range(len(REFUSED))])
def test_what_cannot_be_meant_is_refused_at_once_with_words_for_a_person(words: str, make: Any):
    with pytest.raises(InvalidRecurrenceError, match=words) as refused:
        make()
    assert len(str(refused.value)) < 1000
    assert isinstance(refused.value, ConfigurationError)
