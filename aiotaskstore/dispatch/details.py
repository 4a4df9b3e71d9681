"""The lines of details that a run has not written yet. Their number is limited, however many its handler appends."""

from __future__ import annotations

import threading
from collections import deque

from aiotaskstore.side_row_limits import DETAILS
from aiotaskstore.storage.tasks import Line

LOCK = threading.Lock()
"""One lock for all runs. It is held for less than a microsecond, while making a lock would cost each run more."""
_BOUND_EVERY = 200
_BOUND_EVERY_CHARACTERS = 50_000
"""After so many lines, or characters, of one run, its task is checked for lines to leave out."""


class Details:
    """The lines of one run that wait to be written; a handler may append lines from any thread.

    Between two writes it keeps no more lines than one task may have: the first ones and the newest ones.
    """

    __slots__ = (
        "_first",
        "_first_characters",
        "_left_out",
        "_newest",
        "_newest_characters",
        "_number",
        "_since_bounding",
    )

    def __init__(self, *, later_attempt: bool) -> None:
        self._number = 0
        # Earlier attempts may have appended as many lines as one task may have.
        self._since_bounding = _BOUND_EVERY if later_attempt else 0
        self._empty()

    @property
    def characters(self) -> int:
        """How many characters the next `take` returns."""
        return self._first_characters + self._newest_characters

    def add(self, text: str) -> bool:
        """Keep a line; true if it is the first line since the last `take`."""
        with LOCK:
            self._number += 1
            self._keep(Line(self._number, text))
            return len(self._first) == 1 and not self._newest

    def take(self) -> tuple[tuple[Line, ...], bool]:
        """Return the lines to be written, and whether some lines of the task may have to be left out then."""
        with LOCK:
            if not self._first:
                return (), False
            gap = [Line(self._first[-1].number + 1, "", self._left_out)] if self._left_out else []
            lines = (*self._first, *gap, *self._newest)
            taken = (
                len(lines)
                + (self._first_characters + self._newest_characters) * _BOUND_EVERY // _BOUND_EVERY_CHARACTERS
            )
            self._since_bounding += taken
            self._empty()
            bounding = self._since_bounding >= _BOUND_EVERY
            if bounding:
                self._since_bounding = 0
            return lines, bounding

    def _empty(self) -> None:
        self._first: list[Line] = []
        self._newest: deque[Line] = deque()
        self._first_characters = self._newest_characters = self._left_out = 0

    def _keep(self, line: Line) -> None:
        room = not self._newest and len(self._first) < DETAILS.first
        if not self._first or (room and self._first_characters + len(line.text) <= DETAILS.first_characters):
            self._first.append(line)
            self._first_characters += len(line.text)
            return
        self._newest.append(line)
        self._newest_characters += len(line.text)
        while len(self._newest) > DETAILS.newest or self._newest_characters > DETAILS.newest_characters:
            self._newest_characters -= len(self._newest.popleft().text)
            self._left_out += 1
