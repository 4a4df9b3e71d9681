"""Limits a log of entries: the first and the newest entries are kept, and those between them are counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple


class Entry(NamedTuple):
    """The size of one entry of a log; or a placeholder for entries that were left out."""

    characters: int
    left_out: int = 0
    """How many entries this placeholder stands for; 0 for a real entry."""


class EntryLimit(NamedTuple):
    """How many entries and characters are kept at both ends of a log; the newest entry is always kept."""

    first: int
    newest: int
    first_characters: int
    newest_characters: int

    def gap(self, entries: Sequence[Entry]) -> tuple[int, int] | None:
        """Return the range of entries to leave out; `None` if all entries may stay.

        A log has one gap. An earlier gap grows; if there are two gaps, the entries between them are left out too.
        """
        gaps = [place for place, entry in enumerate(entries) if entry.left_out]
        if len(gaps) < 2 and self._fit(entries):  # noqa: PLR2004 - one gap may stay
            return None
        start = _fitting(entries[: gaps[0] if gaps else None], self.first, self.first_characters)
        end = len(entries)
        after = entries[max(start, gaps[-1] + 1 if gaps else 0) :]
        end -= min(len(after), max(1, _fitting(reversed(after), self.newest, self.newest_characters)))
        return None if gaps == [start] and end == start + 1 else (start, end)

    def _fit(self, entries: Sequence[Entry]) -> bool:
        return (
            sum(not entry.left_out for entry in entries) <= self.first + self.newest
            and sum(entry.characters for entry in entries) <= self.first_characters + self.newest_characters
        )


def left_out(entries: Iterable[Entry]) -> int:
    """Count the real entries among these, and those that the placeholders stand for."""
    return sum(entry.left_out or 1 for entry in entries)


def _fitting(entries: Iterable[Entry], most: int, characters: int) -> int:
    """Count the leading entries that fit into so many entries and characters."""
    count = 0
    for entry in islice(entries, most):
        characters -= entry.characters
        if characters < 0:
            break
        count += 1
    return count
