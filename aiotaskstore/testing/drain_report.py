"""What a drain has run."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiotaskstore.task import Task


@dataclass(frozen=True, slots=True)
class DrainReport:
    """What `tester.drain()` has run; a task that was retried has run more than once."""

    ran: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    retried: int = 0
    """Runs after which their tasks were placed again: after an error with attempts left, `Retry` or `Snooze`."""
    tasks: list[Task] = field(default_factory=list)
    """The tasks as they are stored after their runs, in the order of these; without those whose rows are not kept."""
    errors: list[BaseException] = field(default_factory=list)
    """What ended runs, in their order."""
