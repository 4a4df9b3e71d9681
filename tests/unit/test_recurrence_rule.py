"""Recurrence rules: what occurs when, exactly, and at what cost after however many occurrences."""
# ruff: noqa: DTZ001, E501 - local times are meant; tables read by their rows

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pytest
from dateutil import rrule
from hypothesis import given, settings
from hypothesis import strategies as st

from aiotaskstore import DayOfWeek, Frequency, MonthOfYear, RecurrenceRule
from aiotaskstore.errors import InvalidRecurrenceError

DAY = timedelta(days=1)
MOMENT = timedelta(microseconds=1)
WORKING_DAYS = list(DayOfWeek)[:5]


def at(*fields: int) -> datetime:
    return datetime(*fields, tzinfo=UTC)  # type: ignore[misc,arg-type] # year, month, day and more


def occurrences(rule: RecurrenceRule, start: datetime | None = None) -> Iterator[datetime]:
    assert rule.starts_at is not None
    instant = start or rule.starts_at - MOMENT
    while (occurrence := rule.next_after(instant)) is not None:
        yield (instant := occurrence)


def first(rule: RecurrenceRule, count: int) -> list[datetime]:
    return list(islice(occurrences(rule), count))


START = at(2024, 10, 28, 10)
"""A Monday."""


@pytest.mark.acceptance("A110")
@pytest.mark.parametrize(("options", "now", "wanted"), [
    ({"frequency": Frequency.DAILY}, at(2024, 10, 1), START),
    ({"frequency": Frequency.NONE}, at(2024, 10, 1), START),
    ({"frequency": Frequency.DAILY}, at(2024, 10, 29), at(2024, 10, 29, 10)),
    ({"frequency": Frequency.DAILY, "interval": 2}, at(2024, 10, 29), at(2024, 10, 30, 10)),
    ({"frequency": Frequency.DAILY, "interval": 3}, at(2024, 10, 29), at(2024, 10, 31, 10)),
    ({"frequency": Frequency.WEEKLY}, at(2024, 10, 31), at(2024, 11, 4, 10)),
    ({"frequency": Frequency.MONTHLY}, at(2024, 10, 31), at(2024, 11, 28, 10)),
    ({"frequency": Frequency.YEARLY}, at(2024, 10, 31), at(2025, 10, 28, 10)),
    ({"frequency": Frequency.HOURLY, "interval": 5}, at(2024, 10, 28, 20), at(2024, 10, 29, 1)),
    ({"frequency": Frequency.MINUTELY, "interval": 7}, at(2024, 10, 28, 10, 1), at(2024, 10, 28, 10, 7)),
    ({"frequency": Frequency.SECONDLY, "interval": 90}, at(2024, 10, 28, 10), at(2024, 10, 28, 10, 1, 30)),
])  # fmt: skip
def test_the_next_occurrence_is_the_first_one_after_now(options: dict[str, Any], now: datetime, wanted: datetime):
    assert RecurrenceRule(starts_at=START, **options).next_after(now) == wanted


@pytest.mark.acceptance("A111")
@pytest.mark.parametrize(("options", "wanted"), [
    ({"frequency": "weekly", "days_of_week": [DayOfWeek.MONDAY, DayOfWeek.FRIDAY]}, [(1, 2), (1, 5), (1, 9), (1, 12)]),
    ({"frequency": "weekly", "interval": 2, "days_of_week": ["friday", "monday"]}, [(1, 2), (1, 12), (1, 16), (1, 26)]),
    ({"frequency": "monthly", "days_of_month": [1, 15]}, [(1, 1), (1, 15), (2, 1), (2, 15)]),
    ({"frequency": "yearly", "months_of_year": [MonthOfYear.MARCH, MonthOfYear.SEPTEMBER]}, [(3, 1), (9, 1), (3, 1)]),
    ({"frequency": "daily", "days_of_week": WORKING_DAYS}, [(1, 1), (1, 2), (1, 5), (1, 6), (1, 7), (1, 8), (1, 9), (1, 12)]),
    ({"frequency": "weekly", "days_of_week": WORKING_DAYS}, [(1, 1), (1, 2), (1, 5), (1, 6), (1, 7), (1, 8), (1, 9), (1, 12)]),
    ({"frequency": "monthly", "days_of_week": ["monday"], "months_of_year": ["march"]}, [(3, 2), (3, 9), (3, 16), (3, 23)]),
    ({"frequency": "daily", "months_of_year": ["february"], "days_of_month": [29]}, [(2, 29), (2, 29)]),
    ({"frequency": "monthly", "days_of_month": [13], "days_of_week": ["friday"]}, [(2, 13), (3, 13), (11, 13), (8, 13)]),
    ({"frequency": "secondly", "interval": 40_000, "months_of_year": ["march"]}, [(3, 1), (3, 1), (3, 2)]),
    ({"frequency": "secondly", "months_of_year": ["march"]}, [(3, 1)] * 9),
    ({"frequency": "hourly", "interval": 12, "days_of_week": ["saturday"]}, [(1, 3), (1, 3), (1, 10), (1, 10)]),
])  # fmt: skip
def test_filters_decide_on_which_dates_a_rule_occurs(options: dict[str, Any], wanted: list[tuple[int, int]]):
    rule = RecurrenceRule(starts_at=at(2026, 1, 1, 9), **options)
    dates = [(one.month, one.day) for one in first(rule, len(wanted))]
    assert dates == wanted


@pytest.mark.acceptance("A112")
def test_a_month_without_the_day_is_left_out():
    monthly = RecurrenceRule(Frequency.MONTHLY, starts_at=at(2026, 1, 31, 9))
    assert [(one.month, one.day) for one in first(monthly, 5)] == [(1, 31), (3, 31), (5, 31), (7, 31), (8, 31)]
    leap = RecurrenceRule(Frequency.YEARLY, starts_at=at(2024, 2, 29, 9))
    assert [one.year for one in first(leap, 3)] == [2024, 2028, 2032]
    every_other = RecurrenceRule(Frequency.MONTHLY, interval=2, starts_at=at(2025, 12, 30, 9))
    assert [(one.month, one.day) for one in first(every_other, 4)] == [(12, 30), (4, 30), (6, 30), (8, 30)]


@pytest.mark.acceptance("A113")
def test_after_the_end_there_is_no_more():
    rule = RecurrenceRule(Frequency.DAILY, starts_at=START, ends_at=START + 3 * DAY)
    assert first(rule, 10) == [START, START + DAY, START + 2 * DAY, START + 3 * DAY]
    assert rule.next_after(START + 30 * DAY) is None


@pytest.mark.acceptance("A113")
@pytest.mark.parametrize("interval", [0, -1, True, 1.5, "2"])
def test_an_interval_that_leads_nowhere_is_refused(interval: Any):
    with pytest.raises(InvalidRecurrenceError, match="interval must be a whole number from 1"):
        RecurrenceRule(Frequency.DAILY, interval=interval, starts_at=START)


@pytest.mark.acceptance("A113")
def test_without_a_frequency_a_rule_occurs_once_and_an_unknown_one_is_refused():
    assert first(RecurrenceRule(starts_at=START), 3) == [START]
    with pytest.raises(InvalidRecurrenceError, match='frequency must be one of "none", "secondly"'):
        RecurrenceRule("fortnightly", starts_at=START)  # type: ignore[arg-type]


def test_a_count_ends_a_rule():
    rule = RecurrenceRule(Frequency.WEEKLY, days_of_week=["monday", "friday"], starts_at=START, count=3)  # type: ignore[list-item]
    assert first(rule, 9) == [START, START + 4 * DAY, START + 7 * DAY]
    assert first(RecurrenceRule(Frequency.HOURLY, starts_at=START, count=2), 9) == [START, START + timedelta(hours=1)]
    ended = RecurrenceRule(Frequency.DAILY, starts_at=START, ends_at=START + DAY, count=5)
    assert first(ended, 9) == [START, START + DAY]


PLAIN: dict[str, Literal[0, 1, 2, 3]] = {
    "daily": rrule.DAILY, "weekly": rrule.WEEKLY, "monthly": rrule.MONTHLY, "yearly": rrule.YEARLY,
}  # fmt: skip


@settings(max_examples=120)
@given(
    frequency=st.sampled_from(sorted(PLAIN)),
    interval=st.integers(1, 5),
    days_of_week=st.sets(st.sampled_from(list(DayOfWeek)), max_size=3),
    days_of_month=st.sets(st.integers(1, 31), max_size=3),
    months_of_year=st.sets(st.sampled_from(list(MonthOfYear)), max_size=3),
    start=st.dates(date(2020, 1, 1), date(2024, 12, 31)),
    ahead=st.integers(0, 6_000),
)
def test_a_rule_occurs_when_it_does_counted_from_its_start(  # noqa: PLR0917 - what hypothesis gives
    frequency: str, interval: int, days_of_week: Any, days_of_month: Any, months_of_year: Any, start: date, ahead: int
):
    """The search begins near the instant; here everything since `starts_at` is counted instead."""
    starts_at = datetime(start.year, start.month, start.day, 9, 30, tzinfo=UTC)
    plain = rrule.rrule(
        PLAIN[frequency],
        dtstart=starts_at.replace(tzinfo=None),
        interval=interval,
        byweekday=[list(DayOfWeek).index(one) for one in days_of_week] or None,
        bymonthday=sorted(days_of_month) or None,
        bymonth=[list(MonthOfYear).index(one) + 1 for one in months_of_year] or None,
        until=datetime(2060, 1, 1),
    )
    instant = starts_at + ahead * DAY
    wanted = [one.replace(tzinfo=UTC) for one in islice(plain.xafter(instant.replace(tzinfo=None)), 4)]
    try:
        rule = RecurrenceRule(
            Frequency(frequency), interval, list(days_of_week), sorted(days_of_month), list(months_of_year),
            starts_at=starts_at,
        )  # fmt: skip
    except InvalidRecurrenceError:
        assert wanted == []
        return
    assert list(islice(occurrences(rule, instant), len(wanted))) == wanted


@settings(max_examples=60)
@given(
    frequency=st.sampled_from([Frequency.HOURLY, Frequency.MINUTELY]),
    interval=st.integers(1, 100),
    days_of_week=st.sets(st.sampled_from(list(DayOfWeek)), min_size=1, max_size=3),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
    ahead=st.integers(0, 400),
)
def test_a_rule_of_elapsed_time_occurs_at_each_step_whose_date_is_allowed(
    frequency: Frequency, interval: int, days_of_week: Any, zone: str, ahead: int
):
    starts_at = at(2025, 10, 1, 22, 15)
    step = interval * (timedelta(hours=1) if frequency is Frequency.HOURLY else timedelta(minutes=1))
    allowed = {list(DayOfWeek).index(one) for one in days_of_week}
    instant = starts_at + ahead * step
    steps = (instant + number * step for number in range(1, 3_000))
    wanted = list(islice((one for one in steps if one.astimezone(ZoneInfo(zone)).weekday() in allowed), 5))
    try:
        rule = RecurrenceRule(frequency, interval, list(days_of_week), starts_at=starts_at, timezone=zone)
    except InvalidRecurrenceError:
        assert wanted == []
        return
    assert list(islice(occurrences(rule, instant), len(wanted))) == wanted


EVERY_KIND = [
    RecurrenceRule(Frequency.SECONDLY, interval=7, starts_at=at(2020, 1, 1)),
    RecurrenceRule(Frequency.HOURLY, days_of_week=[DayOfWeek.MONDAY], starts_at=at(2020, 1, 1)),
    RecurrenceRule(Frequency.DAILY, interval=3, starts_at=at(2020, 1, 1, 9), timezone="Europe/Sofia"),
    RecurrenceRule(Frequency.DAILY, days_of_week=WORKING_DAYS, starts_at=at(2020, 1, 1, 9)),
    RecurrenceRule(Frequency.WEEKLY, days_of_week=[DayOfWeek.MONDAY, DayOfWeek.FRIDAY], starts_at=at(2020, 1, 1, 9)),
    RecurrenceRule(Frequency.MONTHLY, days_of_month=[1, 15], starts_at=at(2020, 1, 1, 9)),
    RecurrenceRule(Frequency.MONTHLY, starts_at=at(1400, 1, 31, 9)),
    RecurrenceRule(Frequency.YEARLY, days_of_week=WORKING_DAYS, starts_at=at(1990, 1, 1, 9), count=20_000),
]


def calls_of(rule: RecurrenceRule, instant: datetime) -> int:
    """Return how many calls of Python functions finding the next occurrence takes."""
    made = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal made
        made += event == "call"

    sys.setprofile(count)
    try:
        rule.next_after(instant)
    finally:
        sys.setprofile(None)
    return made


@pytest.mark.parametrize("rule", EVERY_KIND, ids=lambda rule: f"{rule.frequency}-{rule.starts_at.year}")
def test_the_ten_thousandth_occurrence_is_right_and_costs_no_more_than_the_tenth(rule: RecurrenceRule):
    everything = first(rule, 10_001)
    assert len(everything) == 10_001
    assert everything == sorted(set(everything))
    # Found at once, from anywhere, as by going through all of them.
    for number in (9, 99, 999, 9_999, 10_000):
        assert rule.next_after(everything[number] - MOMENT) == everything[number]
    late = max(calls_of(rule, everything[number]) for number in range(9_600, 10_000, 7))
    early = max(calls_of(rule, everything[number]) for number in range(10, 410, 7))
    assert late <= early * 1.5 + 20


COUNTED: dict[str, dict[str, Any]] = {
    "daily": {},
    "weekly": {"interval": 2, "days_of_week": WORKING_DAYS},
    "monthly": {"days_of_month": [31]},
    "yearly": {"days_of_month": [29], "months_of_year": ["february"], "days_of_week": ["monday"]},
    "hourly": {"interval": 5},
}


@pytest.mark.parametrize("frequency", COUNTED)
def test_the_end_that_count_sets_is_found_without_going_through_what_it_allows(frequency: str):
    taken: list[int] = []
    for count in (10, 10_000, 100_000):
        rule = RecurrenceRule(Frequency(frequency), starts_at=at(2000, 1, 1), count=count, **COUNTED[frequency])
        taken.append(calls_of(rule, at(2500, 1, 1)))
    # The dates of 14 kinds of years, and the years until 9999: at most 28,000, where going through them takes millions.
    assert max(taken) < 60_000


@settings(max_examples=80, deadline=None)
@given(
    frequency=st.sampled_from(sorted({*PLAIN, "hourly"})),
    interval=st.sampled_from([1, 2, 3, 7, 30, 400]),
    days_of_week=st.sets(st.sampled_from(list(DayOfWeek)), max_size=3),
    days_of_month=st.sets(st.integers(1, 31), max_size=4),
    months_of_year=st.sets(st.sampled_from(list(MonthOfYear)), max_size=3),
    start=st.datetimes(datetime(1990, 1, 1), datetime(2025, 1, 1)),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Apia"]),
    count=st.integers(1, 300),
)
def test_count_ends_a_rule_after_as_many_occurrences(  # noqa: PLR0917 - hypothesis names them
    frequency: str,
    interval: int,
    days_of_week: Any,
    days_of_month: Any,
    months_of_year: Any,
    start: datetime,
    zone: str,
    count: int,
):
    said: dict[str, Any] = {
        "days_of_week": list(days_of_week), "days_of_month": sorted(days_of_month),
        "months_of_year": list(months_of_year), "starts_at": start.replace(tzinfo=UTC), "timezone": zone,
    }  # fmt: skip
    try:
        endless = RecurrenceRule(Frequency(frequency), interval, **said)
    except InvalidRecurrenceError:
        return
    wanted = first(endless, count)
    last = RecurrenceRule(Frequency(frequency), interval, **said, count=count)
    assert last.next_after(wanted[-1] - MOMENT) == wanted[-1]
    assert last.next_after(wanted[-1]) is None


def test_what_occurs_once_at_one_instant_counts_once():
    """Samoa had no December 30 in 2011: its midnight is that of the 31st."""
    starts_at = datetime(2011, 12, 28, tzinfo=ZoneInfo("Pacific/Apia"))
    rule = RecurrenceRule(Frequency.DAILY, starts_at=starts_at, timezone="Pacific/Apia", count=4)
    assert [one.astimezone(starts_at.tzinfo).day for one in first(rule, 9)] == [28, 29, 31, 1]
    later = RecurrenceRule(Frequency.DAILY, starts_at=starts_at.replace(hour=9), timezone="Pacific/Apia", count=4)
    assert [one.astimezone(starts_at.tzinfo).day for one in first(later, 9)] == [28, 29, 31, 31]


def test_what_occurs_once_may_have_a_count():
    assert first(RecurrenceRule(starts_at=at(2030, 1, 1), count=3), 9) == [at(2030, 1, 1)]


def test_ten_thousand_periods_later_the_rule_is_still_in_step():
    rule = RecurrenceRule(Frequency.DAILY, interval=3, starts_at=at(1950, 1, 1, 9))
    assert rule.next_after(at(1950, 1, 1, 9) + 30_000 * DAY) == at(1950, 1, 1, 9) + 30_003 * DAY
    rule = RecurrenceRule(Frequency.WEEKLY, interval=2, days_of_week=[DayOfWeek.SUNDAY], starts_at=at(1950, 1, 2, 9))
    assert rule.next_after(at(1950, 1, 8, 9) + 20_000 * DAY) == at(1950, 1, 8, 9) + 14 * 1_429 * DAY


BERLIN = ZoneInfo("Europe/Berlin")


def test_a_daily_rule_keeps_the_local_time_of_day():
    rule = RecurrenceRule(
        Frequency.DAILY, starts_at=datetime(2026, 3, 27, 2, 30, tzinfo=BERLIN), timezone="Europe/Berlin"
    )
    assert first(rule, 4) == [
        at(2026, 3, 27, 1, 30),
        at(2026, 3, 28, 1, 30),
        at(2026, 3, 29, 1),
        at(2026, 3, 30, 0, 30),
    ]
    autumn = list(islice(occurrences(rule, at(2026, 10, 24, 12)), 2))
    assert autumn == [at(2026, 10, 25, 0, 30), at(2026, 10, 26, 1, 30)]
    # Asked in the second pass of that hour, the first one has been.
    assert rule.next_after(at(2026, 10, 25, 1, 15)) == at(2026, 10, 26, 1, 30)


def test_two_local_times_that_are_one_instant_are_one_occurrence():
    """Samoa had no December 30 in 2011: its midnight is that of the 31st."""
    apia = ZoneInfo("Pacific/Apia")
    rule = RecurrenceRule(Frequency.DAILY, starts_at=datetime(2011, 12, 28, tzinfo=apia), timezone="Pacific/Apia")
    assert [one.astimezone(apia).day for one in first(rule, 4)] == [28, 29, 31, 1]


def test_a_rule_that_starts_in_the_second_pass_of_an_hour_starts_there():
    starts_at = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN).astimezone(UTC)
    rule = RecurrenceRule(Frequency.DAILY, starts_at=starts_at, timezone="Europe/Berlin")
    assert first(rule, 2) == [starts_at, at(2026, 10, 26, 1, 30)]


def test_an_hourly_rule_counts_elapsed_time():
    rule = RecurrenceRule(Frequency.HOURLY, interval=6, starts_at=at(2026, 3, 28, 23), timezone="Europe/Berlin")
    assert first(rule, 3) == [at(2026, 3, 28, 23), at(2026, 3, 29, 5), at(2026, 3, 29, 11)]


def test_fractions_of_a_second_are_kept():
    starts_at = at(2026, 1, 1, 9, 0, 0, 250_000)
    assert first(RecurrenceRule(Frequency.WEEKLY, starts_at=starts_at), 2) == [starts_at, starts_at + 7 * DAY]


def test_near_the_end_of_time_a_rule_ends():
    rule = RecurrenceRule(Frequency.YEARLY, interval=4_000, starts_at=at(2000, 1, 1))
    assert first(rule, 9) == [at(2000, 1, 1), at(6000, 1, 1)]
    counted = RecurrenceRule(Frequency.DAILY, starts_at=at(9999, 12, 30, 1), timezone="America/New_York", count=5)
    assert first(counted, 9) == [at(9999, 12, 30, 1), at(9999, 12, 31, 1)]
    mondays = RecurrenceRule(Frequency.WEEKLY, days_of_week=[DayOfWeek.MONDAY], starts_at=at(9999, 12, 25), count=5)
    assert first(mondays, 9) == [at(9999, 12, 27)]
    assert first(RecurrenceRule(Frequency.DAILY, starts_at=at(9999, 12, 30)), 9) == [at(9999, 12, 30), at(9999, 12, 31)]
    assert first(RecurrenceRule(Frequency.HOURLY, interval=20, starts_at=at(9999, 12, 31)), 9) == [
        at(9999, 12, 31),
        at(9999, 12, 31, 20),
    ]
