"""Cron: what the fields mean, and what happens where clocks are changed; cronsim is the second opinion."""
# ruff: noqa: DTZ001, E501 - local times are meant; tables read by their rows

from __future__ import annotations

import functools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo, available_timezones

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from aiotaskstore import Cron, Every, InvalidRecurrenceError
from aiotaskstore.recurrence import following
from aiotaskstore.recurrence.local_time import first_change, offset

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
FIXED = [
    "30 2 * * *",
    "0 2,3 * * *",
    "15,45 2 * * *",
    "0 0 * * *",
    "59 23 * * 6,0",
    "30 1-3 * * *",
    "0 0-23/2 * * *",
    "15 0 1 * *",
]
ELAPSED = ["*/20 2 * * *", "*/30 * * * *", "0 * * * *", "5 */2 * * *", "*/45 1-3 * * sun"]
SAMPLED = [
    "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Africa/Casablanca", "Asia/Tehran", "America/Havana",
    "Africa/Cairo", "Pacific/Chatham", "Europe/Dublin", "Asia/Gaza", "America/Scoresbysund", "Australia/Lord_Howe", "UTC",
]  # fmt: skip


def at(*fields: int) -> datetime:
    return datetime(*fields, tzinfo=UTC)  # type: ignore[misc,arg-type] # year, month, day and more


def occurrences(cron: Cron, start: datetime) -> Iterator[datetime]:
    instant = start
    while (occurrence := cron.next_after(instant)) is not None:
        yield (instant := occurrence)


def between(cron: Cron, start: datetime, end: datetime) -> list[datetime]:
    return list(takewhile(lambda occurrence: occurrence <= end, occurrences(cron, start)))


def by_cronsim(text: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    # Its repeated times are the same instant where a time was skipped and the next one is due anyway.
    found = (occurrence.astimezone(UTC) for occurrence in CronSim(text, start.astimezone(ZoneInfo(zone))))
    return list(dict.fromkeys(takewhile(lambda occurrence: occurrence <= end, (one for one in found if one > start))))


def changes(zone: str, start: datetime, end: datetime) -> Iterator[tuple[datetime, timedelta, timedelta]]:
    """Yield when the offset changes, from what, and to what."""
    place, day = ZoneInfo(zone), start
    while day < end:
        before, after = offset(day, place), offset(day + DAY, place)
        if before != after:
            instant = first_change(day, day + DAY, place)
            assert instant is not None
            yield instant, before, after
        day += DAY


def by_the_minute(text: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """Look at every minute: cronsim says what the fields name."""
    named, found, minute = CronSim(text, start), [], start
    while (minute := minute + MINUTE) <= end:
        local = minute.astimezone(ZoneInfo(zone))
        if local.minute in named.minutes and local.hour in named.hours and local.month in named.months:
            found += [minute] if named.match_day(local.date()) else []
    return found


@functools.cache
def first_of_each_change() -> tuple[tuple[str, datetime], ...]:
    """Return every change of ten years, once for all zones that have it in common, with one of them."""
    seen: dict[tuple[datetime, timedelta, timedelta], str] = {}
    for zone in sorted(available_timezones()):
        for change in changes(zone, at(2020, 1, 1), at(2030, 1, 1)):
            seen.setdefault(change, zone)
    return tuple((zone, instant) for (instant, _, _), zone in seen.items())


def agree(zone: str, instant: datetime) -> None:
    start, end = instant - DAY, instant + DAY
    for text in FIXED + ELAPSED:
        ours, theirs = between(Cron(text, zone), start, end), by_cronsim(text, zone, start, end)
        if ours != theirs and text in ELAPSED:  # it steps over some minutes after a gap
            theirs = by_the_minute(text, zone, start, end)
        assert ours == theirs, f"{text} in {zone} around {instant}"


@pytest.mark.parametrize("zone", SAMPLED)
def test_what_cronsim_finds_around_each_change_of_ten_years_is_found(zone: str):
    for instant, _, _ in changes(zone, at(2020, 1, 1), at(2030, 1, 1)):
        agree(zone, instant)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_cronsim_finds_around_every_change_of_every_zone_is_found():
    every = first_of_each_change()
    assert len(every) > 300
    for zone, instant in every:
        agree(zone, instant)


@pytest.mark.parametrize("text", ["*/20 2 * * *", "*/30 * * * *", "5 */2 * * *", "*/45 1-3 * * sun"])
@pytest.mark.parametrize("zone", ["Australia/Lord_Howe", "Europe/Berlin", "America/Havana"])
def test_an_interval_occurs_at_each_instant_whose_local_time_it_names(zone: str, text: str):
    for instant, _, _ in changes(zone, at(2024, 1, 1), at(2026, 1, 1)):
        start, end = instant - DAY, instant + DAY
        assert between(Cron(text, zone), start, end) == by_the_minute(text, zone, start, end)


@pytest.mark.parametrize("zone", SAMPLED)
@pytest.mark.parametrize("text", ["30 2 * * *", "0 0 * * *", "45 1 * * *", "0 12 * * *"])
def test_a_fixed_time_occurs_once_in_each_local_day(zone: str, text: str):
    place, days = ZoneInfo(zone), 0
    cron, start = Cron(text, zone), datetime(2025, 1, 1, tzinfo=ZoneInfo(zone))
    seen = [occurrence.astimezone(place).date() for occurrence in islice(occurrences(cron, start - MINUTE), 800)]
    for days, day in enumerate(seen):
        assert day == start.date() + days * DAY, f"{text} in {zone}"
    assert days == 799


def test_a_skipped_time_occurs_at_the_first_instant_after_the_gap_and_a_repeated_one_in_its_first_pass():
    cron = Cron("30 2 * * *", timezone="Europe/Berlin")
    assert list(islice(occurrences(cron, at(2026, 3, 28)), 3)) == [at(2026, 3, 28, 1, 30), at(2026, 3, 29, 1), at(2026, 3, 30, 0, 30)]  # fmt: skip
    assert list(islice(occurrences(cron, at(2026, 10, 24, 12)), 2)) == [at(2026, 10, 25, 0, 30), at(2026, 10, 26, 1, 30)]  # fmt: skip
    # Asked in the second pass, the first one has been.
    assert cron.next_after(at(2026, 10, 25, 1, 15)) == at(2026, 10, 26, 1, 30)


def test_several_times_in_one_gap_are_one_occurrence():
    cron = Cron("5,25,45 2 * * *", timezone="Europe/Berlin")
    assert between(cron, at(2026, 3, 29), at(2026, 3, 29, 12)) == [at(2026, 3, 29, 1)]


def test_a_day_that_a_zone_left_out_is_made_up_for_when_the_next_begins():
    """Samoa had no December 30 in 2011."""
    place, cron = ZoneInfo("Pacific/Apia"), Cron("0 9 * * *", timezone="Pacific/Apia")
    start = datetime(2011, 12, 29, 8, tzinfo=place)
    local = [one.astimezone(place) for one in islice(occurrences(cron, start), 3)]
    assert [(one.day, one.hour) for one in local] == [(29, 9), (31, 0), (31, 9)]


FIELDS = st.tuples(
    st.sampled_from(["0", "7", "59", "5,35", "10-20", "0-59/15", "3/20", "*", "*/7"]),
    st.sampled_from(["0", "2", "23", "1,2,3", "1-4", "*", "*/3"]),
    st.sampled_from(["*", "1", "15", "28-31", "1,15"]),
    st.sampled_from(["*", "1", "2", "3,10", "oct", "mar-apr"]),
    st.sampled_from(["*", "0", "7", "sun", "1-5", "mon,fri"]),
)


ORDINARY = ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC"]
"""Zones whose changes cronsim gets over: by an hour, and not at midnight."""


@settings(max_examples=150)
@given(FIELDS, st.sampled_from(ORDINARY), st.datetimes(datetime(2020, 1, 1), datetime(2037, 1, 1)))
def test_any_fields_mean_what_cronsim_takes_them_for(fields: tuple[str, ...], zone: str, moment: datetime):
    text, start = " ".join(fields), moment.replace(tzinfo=UTC)
    found = (one.astimezone(UTC) for one in CronSim(text, start.replace(microsecond=0).astimezone(ZoneInfo(zone))))
    theirs = list(dict.fromkeys(islice((one for one in found if one > start), 6)))[:5]
    assert list(islice(occurrences(Cron(text, zone), start), len(theirs))) == theirs


@settings(max_examples=200)
@given(st.text(alphabet="0123456789*/,-#?LlWwHhRr@ aefjnomstuy", max_size=25))
def test_any_text_is_a_cron_or_an_error_of_ours(text: str):
    try:
        cron = Cron(text)
    except InvalidRecurrenceError:
        return
    assert cron.next_after(at(2026, 1, 1)) is not None


def test_a_step_from_the_last_value_of_a_field_is_that_value():
    assert list(islice(occurrences(Cron("59/15 * * * *"), at(2026, 1, 1)), 2)) == [at(2026, 1, 1, 0, 59), at(2026, 1, 1, 1, 59)]  # fmt: skip


def test_if_both_day_fields_are_restricted_either_is_enough():
    days = [one.day for one in islice(occurrences(Cron("0 0 13 * fri"), at(2026, 1, 1, 1)), 6)]
    assert days == [2, 9, 13, 16, 23, 30]


@pytest.mark.parametrize(("text", "wanted"), [
    ("0 0 L * *", at(2026, 1, 31)), ("0 0 * * fri#2", at(2026, 1, 9)), ("0 0 * * L5", at(2026, 1, 30)),
    ("0 0 3W * *", at(2026, 1, 2)), ("0 9 ? * MON", at(2026, 1, 5, 9)), ("0 0 29 2 *", at(2028, 2, 29)),
    ("@yearly", at(2027, 1, 1)), ("@monthly", at(2026, 2, 1)), ("@weekly", at(2026, 1, 4)), ("@daily", at(2026, 1, 2)),
    ("@midnight", at(2026, 1, 2)), ("@hourly", at(2026, 1, 1, 2)), ("0 0 * * fri-mon", at(2026, 1, 2)),
    ("  0   9  * * *  ", at(2026, 1, 1, 9)),
])  # fmt: skip
def test_what_crontabs_write_is_understood(text: str, wanted: datetime):
    assert Cron(text).next_after(at(2026, 1, 1, 1, 30)) == wanted


def test_a_text_may_name_its_time_zone():
    assert Cron("TZ=Europe/Sofia 0 9 * * *") == Cron("0 9 * * *", timezone="Europe/Sofia")
    assert Cron("CRON_TZ=Europe/Sofia @daily").timezone == "Europe/Sofia"
    assert Cron("TZ=UTC 0 9 * * *", timezone="UTC").timezone == "UTC"
    assert Cron("0 9 * * *", timezone=ZoneInfo("Europe/Sofia")).timezone == "Europe/Sofia"


def test_every_is_understood_and_stays_in_step():
    cron = Cron("@every 1h30m")
    assert cron.period == Every(hours=1, minutes=30)
    assert cron.next_after(at(2026, 1, 1)) == at(2026, 1, 1, 1, 30)
    assert following(cron, at(2026, 1, 1), at(2026, 1, 1, 2)) == at(2026, 1, 1, 3)


def test_near_the_end_of_time_there_is_no_next_occurrence_and_no_error():
    assert Cron("0 9 * * *").next_after(datetime(9999, 12, 31, 10, tzinfo=UTC)) is None
    assert Cron("*/5 * * * *", "Asia/Tokyo").next_after(datetime(9999, 12, 31, 23, 59, tzinfo=UTC)) is None


def test_one_next_occurrence_takes_as_long_as_another():
    """However long ago the last one was: a cron has no beginning that it would count from."""
    cron = Cron("0 0 1 1 *", timezone="Europe/Berlin")
    assert cron.next_after(at(1990, 6, 1)) == at(1990, 12, 31, 23)
    assert cron.next_after(at(2399, 6, 1)) == at(2399, 12, 31, 23)
