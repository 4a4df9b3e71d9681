"""A traceback as people want it: the application's frames, short, whatever was raised."""

from __future__ import annotations

import pytest

from aiotaskstore.mechanics.tracebacks import LIMIT, shortened


class Unprintable(Exception):  # noqa: N818 - what is raised is no matter here
    def __str__(self) -> str:
        raise ValueError("no words")


def caught(raising) -> BaseException:
    try:
        raising()
    except BaseException as error:  # noqa: BLE001 - whatever it is
        return error
    raise AssertionError("nothing was raised")


def deep(depth: int) -> None:
    if not depth:
        raise ValueError("the bottom")
    if depth % 2:  # or the repeated frames are told as one
        deep(depth - 1)
    else:
        deep(depth - 1)


def chained() -> None:
    try:
        deep(1)
    except ValueError as error:
        raise KeyError("on top") from error


def test_a_traceback_names_the_frames_and_the_error():
    text = shortened(caught(lambda: deep(0)))
    assert "in deep" in text
    assert text.endswith("ValueError: the bottom")


def test_what_caused_an_error_is_told_too():
    text = shortened(caught(chained))
    assert "ValueError: the bottom" in text
    assert "The above exception was the direct cause" in text
    assert text.endswith("KeyError: 'on top'")


@pytest.mark.parametrize("depth", [60, 100, 400])
def test_a_long_one_keeps_its_beginning_and_its_end(depth: int):
    text = shortened(caught(lambda: deep(depth)))
    assert len(text.encode()) <= LIMIT
    assert text.startswith("Traceback (most recent call last)")
    assert "lines left out" in text
    assert text.endswith("ValueError: the bottom")


def test_a_long_message_is_cut_too():
    text = shortened(caught(lambda: pytest.fail("ж" * 10_000)))
    assert len(text.encode()) <= LIMIT
    assert text.endswith("ж")


@pytest.mark.parametrize(
    "error", [Unprintable(), ValueError("a\0b"), ValueError("\ud800"), ExceptionGroup("g", [OSError()])]
)
def test_whatever_was_raised_gives_a_text_that_can_be_stored(error: Exception):
    text = shortened(error)
    assert type(error).__name__ in text
    assert "\0" not in text
    text.encode()
