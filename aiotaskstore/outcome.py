"""How one attempt ended, as a value."""

from __future__ import annotations

from dataclasses import dataclass


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


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed and none follows; `reason` is the task's finish reason."""

    error_type: str
    message: str
    reason: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The task ends as cancelled; `reason` is the finish reason, `why` the words of whoever cancelled it."""

    reason: str
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The handler asked to run later; the attempt is given back."""

    delay: float


@dataclass(frozen=True, slots=True)
class Released:
    """The claim is given back unfinished (shutdown); the attempt is given back, the place is kept."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The claim is no longer ours: nothing may be written."""


Outcome = Succeeded | Retrying | Failed | Cancelled | Snoozed | Released | Lost

RELEASED = Released()
LOST = Lost()
EMPTY = Succeeded("null")
