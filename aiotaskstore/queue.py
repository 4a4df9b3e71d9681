"""A queue: a named line of tasks, and its defaults."""

from __future__ import annotations

from dataclasses import dataclass

from aiotaskstore.backoff import Backoff, as_backoff
from aiotaskstore.errors import ConfigurationError
from aiotaskstore.mechanics.duration import Duration, seconds
from aiotaskstore.mechanics.text import check_text
from aiotaskstore.retention import Retention, check_retention

DEFAULT_QUEUE = "default"


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue's defaults, used where neither the task nor its definition says otherwise.

    `concurrency` is how many of its tasks one dispatcher runs at once; `None` leaves it to the dispatcher.
    """

    name: str
    concurrency: int | None = None
    timeout: Duration | None = None
    max_attempts: int | None = None
    backoff: Backoff | Duration | None = None
    retention: Retention | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", queue_name(self.name))
        if self.concurrency is not None:
            check_count(self.concurrency, f'concurrency of queue "{self.name}"')
        if self.timeout is not None:
            object.__setattr__(self, "timeout", seconds(self.timeout, "timeout", above_zero=True))
        if self.max_attempts is not None:
            check_count(self.max_attempts, "max_attempts")
        object.__setattr__(self, "backoff", as_backoff(self.backoff))
        if self.retention is not None:
            check_retention(self.retention)


def queue_name(name: str | None) -> str:
    """Return the queue's name; `None` and an empty text mean the default queue."""
    return DEFAULT_QUEUE if name is None or name == "" else check_text(name, "A queue name")


def check_count(value: object, name: str) -> int:
    """Return `value` if it is a whole number of at least one."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        raise ConfigurationError(f"{name} must be a whole number of at least 1, but it is {value!r:.100}.")
    return value
