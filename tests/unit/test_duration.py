"""A timedelta or a number of seconds, taken everywhere."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiotaskstore import ConfigurationError
from aiotaskstore.mechanics.duration import parse, seconds, written

HUNDRED_YEARS = 100 * 365 * 86400


@given(st.integers(0, HUNDRED_YEARS) | st.floats(0, HUNDRED_YEARS))
def test_a_number_is_seconds(number):
    assert seconds(number, "delay") == number
    assert isinstance(seconds(number, "delay"), float)


@given(st.timedeltas(timedelta(0), timedelta(days=36500)))
def test_a_timedelta_is_its_seconds(delta):
    assert seconds(delta, "delay") == delta.total_seconds()


@pytest.mark.parametrize(
    "value",
    [-1, -0.001, timedelta(seconds=-1), math.nan, math.inf, -math.inf, HUNDRED_YEARS + 1, timedelta.max, 10**400],
)
def test_what_is_negative_or_absurd_is_refused_by_name(value):
    with pytest.raises(ConfigurationError, match=r"^delay must be .*but it is"):
        seconds(value, "delay")


@pytest.mark.parametrize("value", ["5m", None, True, False, b"1", [5], 1j, object])
def test_what_is_no_duration_is_refused_with_what_it_is(value):
    with pytest.raises(ConfigurationError, match=f"delay must be a timedelta.*{type(value).__name__}"):
        seconds(value, "delay")


def test_zero_is_refused_only_where_something_must_pass():
    assert seconds(0, "delay") == 0
    with pytest.raises(ConfigurationError, match="above zero"):
        seconds(0, "timeout", above_zero=True)
    with pytest.raises(ConfigurationError, match="above zero"):
        seconds(timedelta(0), "timeout", above_zero=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("250ms", 0.25),
        ("5s", 5),
        ("5m", 300),
        ("1h30m", 5400),
        ("2d", 172800),
        ("1w", 604800),
        ("1w2d3h4m5s6ms", 604800 + 172800 + 10800 + 240 + 5.006),
        (" 5M ", 300),
        ("0.5h", 1800),
    ],
)
def test_text_is_read_with_units(text, expected):
    assert parse(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["", " ", "m", "5x", "-5m", "5m-", "1h 30m", "five", "1e3", "5.m", ".5m", "nan", "5mm"]
)
def test_text_that_is_no_duration_is_refused_with_examples(text):
    with pytest.raises(ConfigurationError, match=r"is no duration. Write 90, 250ms"):
        parse(text)


@given(st.integers(0, 99), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_what_units_say_is_what_a_timedelta_says(days, hours, minutes, secs):
    expected = timedelta(days=days, hours=hours, minutes=minutes, seconds=secs).total_seconds()
    assert parse(f"{days}d{hours}h{minutes}m{secs}s") == expected


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (0.0, "0 ms"), (0.0123, "12.3 ms"), (0.5, "500 ms"), (1.2345, "1.23 s"), (59.9, "59.9 s"), (60, "1m"),
        (90, "1m30s"), (3600, "1h"), (3661, "1h1m"), (90_000, "1d1h"), (86_400, "1d"),
    ],
)  # fmt: skip
def test_seconds_are_written_for_people(span: float, text: str):
    assert written(span) == text


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_clear_error(text):
    with suppress(ConfigurationError):
        assert parse(text) >= 0
