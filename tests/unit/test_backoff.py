"""How long to wait before the next attempt."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiotaskstore import ConfigurationError, constant, exponential, fibonacci, steps
from aiotaskstore.backoff import as_backoff
from aiotaskstore.mechanics.duration import seconds

ERROR = ValueError("boom")
FAR = 10**6
"""More attempts than any task will ever make."""


def waits(backoff, attempts: int) -> list[float]:
    return [backoff(attempt, ERROR) for attempt in range(1, attempts + 1)]


def test_constant_waits_the_same_before_every_attempt():
    assert waits(constant(7), 3) == [7, 7, 7]
    assert constant(timedelta(minutes=1))(FAR, ERROR) == 60


def test_steps_keep_to_the_last_one():
    assert waits(steps([5, timedelta(seconds=30), 300]), 5) == [5, 30, 300, 300, 300]
    assert steps([5, 30])(FAR, ERROR) == 30


def test_steps_that_cycle_begin_again():
    assert waits(steps([1, 2, 3], cycle=True), 7) == [1, 2, 3, 1, 2, 3, 1]
    assert steps([1, 2, 3], cycle=True)(FAR, ERROR) == 1


def test_whether_steps_cycle_may_stand_second():
    assert waits(steps([1, 2], True), 3) == [1, 2, 1]


def test_exponential_doubles_from_ten_seconds_up_to_ten_minutes_unless_told():
    assert waits(exponential(), 8) == [10, 20, 40, 80, 160, 320, 600, 600]


def test_exponential_takes_base_factor_and_cap():
    assert waits(exponential(base=1, factor=3, cap=timedelta(seconds=30)), 5) == [3, 9, 27, 30, 30]


def test_fibonacci_grows_by_its_numbers_up_to_its_cap():
    assert waits(fibonacci(1, cap=20), 8) == [1, 1, 2, 3, 5, 8, 13, 20]
    assert waits(fibonacci(), 11)[-2:] == [55 * 60, 89 * 60]


@pytest.mark.parametrize(
    "backoff",
    [
        exponential(),
        exponential(factor=1e300),
        exponential(base=timedelta(days=365), factor=10, cap=timedelta(days=36500)),
        exponential(base=0, factor=1e300),
        fibonacci(),
        fibonacci(timedelta(days=365), cap=timedelta(days=36500)),
        exponential(jitter=1),
        fibonacci(jitter=1),
    ],
)
def test_no_number_of_attempts_overflows_or_passes_the_cap(backoff):
    for attempt in (1, 2, 64, 65, 1024, FAR):
        assert 0 <= seconds(backoff(attempt, ERROR), "wait") <= 36500 * 86400


@given(jitter=st.floats(0, 1), attempt=st.integers(1, FAR))
def test_jitter_moves_a_wait_by_its_share_at_most_and_never_above_the_cap(jitter, attempt):
    plain = exponential()(attempt, ERROR)
    for _ in range(5):
        wait = exponential(jitter=jitter)(attempt, ERROR)
        assert plain * (1 - jitter) - 1e-9 <= wait <= min(600, plain * (1 + jitter) + 1e-9)


def test_jitter_spreads():
    backoff = exponential(base=10, cap=1000, jitter=0.1)
    seen = {seconds(backoff(1, ERROR), "wait") for _ in range(50)}
    assert len(seen) > 40
    assert all(18 <= wait <= 22 for wait in seen)


@pytest.mark.parametrize(
    "make",
    [
        lambda: constant(-1),
        lambda: constant(float("nan")),
        lambda: constant("5m"),  # type: ignore[arg-type]
        lambda: steps([]),
        lambda: steps([5, -1]),
        lambda: steps(5),  # type: ignore[arg-type]
        lambda: steps("5 30"),  # type: ignore[arg-type]
        lambda: exponential(base=-1),
        lambda: exponential(cap=float("inf")),
        lambda: exponential(factor=0.5),
        lambda: exponential(factor=float("nan")),
        lambda: exponential(factor=float("inf")),
        lambda: exponential(factor="2"),  # type: ignore[arg-type]
        lambda: exponential(jitter=-0.1),
        lambda: exponential(jitter=1.1),
        lambda: exponential(jitter=float("nan")),
        lambda: exponential(jitter="0.1"),  # type: ignore[arg-type]
        lambda: fibonacci(unit=-1),
        lambda: fibonacci(jitter=2),
        lambda: as_backoff("exponential"),  # type: ignore[arg-type]
        lambda: as_backoff(-3),
        lambda: as_backoff(True),
    ],
)
def test_a_backoff_that_cannot_work_is_refused_when_it_is_made(make):
    with pytest.raises(ConfigurationError):
        make()


def test_a_number_means_a_constant_wait_and_a_function_is_taken_as_it_is():
    def mine(attempt: int, _error: BaseException) -> float:
        return attempt * 2

    assert as_backoff(mine) is mine
    assert as_backoff(None) is None
    number = as_backoff(4)
    assert number is not None
    assert number(9, ERROR) == 4


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=6), st.integers(1, 60))
def test_cycling_steps_are_the_list_repeated(sequence, attempt):
    repeated = itertools.islice(itertools.cycle(sequence), attempt)
    assert steps(sequence, cycle=True)(attempt, ERROR) == list(repeated)[-1]
