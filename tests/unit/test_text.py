"""Text that every database can hold, made of anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiotaskstore import ConfigurationError
from aiotaskstore.mechanics.text import check_text, printable, storable


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class NoText:
    def __str__(self):
        return 5  # noqa: PLE0307 - the point


class Named(str):
    """A text that answers wrongly when asked."""

    __slots__ = ()

    def replace(self, *_: object) -> str:
        raise RuntimeError("not today")


@pytest.mark.parametrize("value", [Unprintable(), NoText(), ExceptionGroup("group", [ValueError("\0")])])
def test_anything_can_be_made_text(value):
    assert printable(value)
    printable(value).encode()


def test_what_cannot_be_printed_says_what_it_is():
    assert printable(Unprintable()) == "<Unprintable that cannot be printed>"
    assert printable(NoText()) == "<NoText that cannot be printed>"


def test_what_cannot_be_stored_is_spelled_out():
    assert printable("a\0b\ud800c") == "a\\x00b\\ud800c"
    assert printable("ünïcødé 🎈") == "ünïcødé 🎈"


def test_what_is_long_is_cut_and_says_so():
    assert printable("x" * 10_000) == "x" * 10_000
    assert printable("x" * 10_001) == "x" * 9_999 + "…"
    assert len(printable("\0" * 10_000_000)) == 10_000
    assert printable("abcdef", limit=3) == "ab…"


@given(st.text(st.characters(), max_size=200))
def test_any_text_comes_out_storable_and_unchanged_if_it_was(text):
    made = printable(text)
    made.encode()
    assert "\0" not in made
    if storable(text) and "\0" not in text:
        assert made == text


@given(st.text(max_size=300))
def test_a_text_is_given_back_as_it_is_or_refused(text):
    try:
        assert check_text(text, "A name") == text
    except ConfigurationError:
        assert len(text) > 100 or "\0" in text or not storable(text) or text.endswith(" ")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (5, r"A name must be text, not 5 \(int\)"),
        (b"x", r"A name must be text, not b'x' \(bytes\)"),
        (None, "A name must be text, not None"),
        ("x" * 101, "A name may have at most 100 characters, but 'x+'… has 101"),
        ("a\0", r"A name must not contain a NUL character, but 'a\\x00' does"),
        ("\udfff", "A name must be valid Unicode, but .* has a lone surrogate"),
        ("a ", "A name must not end with a space"),
    ],
)
def test_a_refusal_says_what_was_found_and_what_was_expected(value, words):
    with pytest.raises(ConfigurationError, match=words) as refused:
        check_text(value, "A name")
    str(refused.value).encode()
