"""How long a finished task is kept, and with how much of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiotaskstore import ConfigurationError, Retention
from aiotaskstore.retention import DEFAULT

KEEPS = st.sampled_from(["all", "failed", "none"])
PERIODS = st.none() | st.timedeltas(timedelta(0), timedelta(days=36500))


@given(KEEPS, PERIODS, KEEPS)
def test_what_a_row_carries_is_read_back_as_it_was(keep, period, payload):
    retention = Retention(keep, period, payload)
    assert Retention.load(retention.dump()) == retention


def test_the_default_is_everything_for_seven_days_and_rows_carry_nothing_for_it():
    assert Retention(keep="all", period=timedelta(days=7), payload="all") == DEFAULT
    assert Retention().dump() is None
    assert Retention.load(None) is DEFAULT


def test_a_number_is_seconds_and_none_is_for_ever():
    assert Retention(period=60) == Retention(period=timedelta(minutes=1))
    assert Retention(period=60).period_seconds == 60
    assert Retention(period=None).period_seconds is None
    assert Retention(period=0).period_seconds == 0


@pytest.mark.parametrize(
    ("choice", "kept_if_succeeded", "kept_otherwise"),
    [("all", True, True), ("failed", False, True), ("none", False, False)],
)
def test_failed_means_every_finish_but_succeeded(choice, kept_if_succeeded, kept_otherwise):
    rows, payloads = Retention(keep=choice), Retention(payload=choice)
    assert (rows.keeps_row(succeeded=True), rows.keeps_row(succeeded=False)) == (kept_if_succeeded, kept_otherwise)
    kept = (payloads.keeps_payload(succeeded=True), payloads.keeps_payload(succeeded=False))
    assert kept == (kept_if_succeeded, kept_otherwise)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"keep": "some"}, 'keep must be "all", "failed" or "none", not \'some\''),
        ({"keep": None}, "keep must be"),
        ({"keep": ["all"]}, "keep must be"),
        ({"payload": True}, "payload must be"),
        ({"period": -1}, "period must be zero or more"),
        ({"period": float("nan")}, "period must be"),
        ({"period": float("inf")}, "period must be"),
        ({"period": "7d"}, "period must be a timedelta or a number of seconds"),
    ],
)
def test_a_retention_that_cannot_work_is_refused_when_it_is_made(options, words):
    with pytest.raises(ConfigurationError, match=words):
        Retention(**options)


def test_a_row_carries_no_more_than_its_column_holds():
    longest = Retention("failed", timedelta(days=36500, microseconds=-1), "failed").dump()
    assert longest is not None
    assert len(longest) <= 100
