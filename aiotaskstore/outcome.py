"""How one attempt ended, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from aiotaskstore.finish_reason import FinishReason


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The handler returned; `result` is JSON text."""

    result: str


@dataclass(frozen=True, slots=True)
class Retrying:
    """The attempt failed and another one follows after `delay` seconds."""

    error_type: str
    message: str
    delay: float
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed and none follows."""

    error_type: str
    message: str
    reason: FinishReason
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The task ends as cancelled; `why` is the caller's reason."""

    reason: FinishReason
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The handler asked to run later; the attempt is not counted."""

    delay: float


@dataclass(frozen=True, slots=True)
class Released:
    """The task returns to the queue unfinished (shutdown); the attempt is not counted, its place is kept."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The claim is no longer ours: nothing may be written."""


Outcome = Succeeded | Retrying | Failed | Cancelled | Snoozed | Released | Lost

RELEASED = Released()
LOST = Lost()
EMPTY = Succeeded("null")
