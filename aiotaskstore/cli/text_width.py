"""How many columns of a terminal a text takes: letters of East Asian scripts and emoji take two, accents none."""

from __future__ import annotations

import unicodedata


def width_of(text: str) -> int:
    """Return the columns that a text takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def cut(text: str, width: int, *, at_front: bool = False) -> str:
    """Return a text in at most `width` columns, with … where something was left out."""
    if width_of(text) <= width:
        return text
    if at_front:
        return "…" + _first(text[::-1], width - 1)[::-1]
    return _first(text, width - 1) + "…"


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Return a text in `width` columns, with spaces after it, or before it."""
    spaces = " " * (width - width_of(text))
    return spaces + text if right else text + spaces


def _first(text: str, width: int) -> str:
    taken = 0
    for at, letter in enumerate(text):
        taken += _columns(letter)
        if taken > width:
            return text[:at]
    return text


def _columns(letter: str) -> int:
    if unicodedata.combining(letter) or unicodedata.category(letter) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(letter) in {"W", "F"} else 1
