"""What a handler raises, and whether an error asks for another attempt."""

from __future__ import annotations

from datetime import timedelta

import pytest

from aiotaskstore import Cancel, ConfigurationError, Fail, Retry, Snooze, is_retryable
from aiotaskstore.directives import find_retry


def raised(make) -> BaseException:
    """What comes out of a function, chained as Python chains it."""
    try:
        make()
    except BaseException as error:  # noqa: BLE001 - that is what it is for
        return error
    raise AssertionError("nothing was raised")


def test_each_carries_its_reason_and_its_delay():
    assert (Retry("why", delay=30).reason, Retry("why", delay=30).delay) == ("why", 30)
    assert Retry().delay is None
    assert (Snooze(timedelta(minutes=1)).delay, Snooze(1, "later").reason) == (60, "later")
    assert str(Cancel("enough")) == "enough"
    assert str(Fail()) == ""


@pytest.mark.parametrize("make", [lambda: Retry(delay=-1), lambda: Snooze(float("nan")), lambda: Snooze(True)])
def test_a_delay_that_cannot_be_waited_is_refused(make):
    with pytest.raises(ConfigurationError):
        make()


@pytest.mark.acceptance("A52")
def test_a_retry_itself_is_retryable_and_nothing_else_is():
    assert is_retryable(Retry())
    for error in (ValueError(), Fail("x"), Cancel("x"), Snooze(1), KeyboardInterrupt()):
        assert not is_retryable(error)


@pytest.mark.acceptance("A52")
def test_a_retry_is_found_through_explicit_causes():
    def chain():
        try:
            try:
                raise Retry("deep", delay=3)
            except Retry as error:
                raise OSError("middle") from error
        except OSError as error:
            raise RuntimeError("top") from error

    error = raised(chain)
    assert is_retryable(error)
    found = find_retry(error)
    assert found is not None
    assert found.delay == 3


def test_a_retry_is_found_where_another_error_was_raised_while_handling_it():
    def chain():
        try:
            raise Retry("first")
        except Retry:
            raise ValueError("second")  # noqa: B904 - the point

    assert is_retryable(raised(chain))


def test_a_retry_hidden_by_from_none_is_hidden():
    def chain():
        try:
            raise Retry("first")
        except Retry:
            raise ValueError("second") from None

    assert not is_retryable(raised(chain))


def test_an_explicit_cause_outweighs_the_context():
    def chain():
        try:
            raise Retry("being handled")
        except Retry:
            raise ValueError("top") from OSError("the cause")

    # The cause is the chain: what merely was being handled is not part of it.
    assert not is_retryable(raised(chain))


@pytest.mark.acceptance("A52")
def test_a_retry_is_found_in_groups_and_under_their_members():
    member = ValueError("member")
    member.__cause__ = Retry("under a member")
    assert is_retryable(ExceptionGroup("several", [OSError(), ExceptionGroup("inner", [member])]))
    assert not is_retryable(ExceptionGroup("several", [OSError(), ValueError()]))
    assert is_retryable(BaseExceptionGroup("several", [KeyboardInterrupt(), Retry()]))


def test_the_nearest_retry_is_the_one_that_counts():
    near, far = Retry("near", delay=1), Retry("far", delay=2)
    top = RuntimeError("top")
    top.__cause__ = near
    near.__cause__ = far
    assert find_retry(top) is near


def test_a_chain_that_bites_its_tail_ends():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert not is_retryable(first)


def test_a_very_long_chain_is_walked():
    bottom: BaseException = Retry("at the bottom")
    for number in range(5_000):
        above = ValueError(number)
        above.__cause__ = bottom
        bottom = above
    assert is_retryable(bottom)
