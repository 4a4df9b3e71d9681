"""The two kinds of items that the recorder receives of a run: reports, and the outcome."""

from __future__ import annotations

from typing import NamedTuple

from aiotaskstore.dispatch.run import Run
from aiotaskstore.outcome import Failed, Outcome, Retrying, Succeeded


class RunReport(NamedTuple):
    """Progress or new lines of details of a run, to be written before its outcome."""

    run: Run
    progress: tuple[str, float | None] | None


class RunOutcome(NamedTuple):
    """A run has ended with this outcome."""

    run: Run
    outcome: Outcome
    again: bool = False
    """Whether the outcome may be stored already, by a write whose reply was lost."""


def characters(item: RunReport | RunOutcome) -> int:
    """Return how many characters the item writes."""
    waiting = item.run.waiting_characters
    if isinstance(item, RunReport):
        return waiting + (len(item.progress[0]) if item.progress else 0)
    match item.outcome:
        case Succeeded(result=result):
            return waiting + len(result)
        case Failed(message=message, traceback=traceback) | Retrying(message=message, traceback=traceback):
            return waiting + 2 * len(message) + len(traceback)
        case _:
            return waiting
