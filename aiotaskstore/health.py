"""Health: whether a process can do its work now, and what keeps it from that. Known without asking the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

LONGEST_LAG = 10.0
"""Seconds for which an event loop may be blocked before its process counts as not live."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherHealth:
    """The health of one dispatcher of this process, at one instant."""

    name: str
    id: UUID | None
    """The identity of its current start; `None` while it is stopped."""
    live: bool
    """Whether its event loop turns and its loops work; if not, the process should be started again."""
    ready: bool
    """Whether it claims tasks: it has started, does not stop, and its last heartbeat got a reply within the lease."""
    problems: tuple[str, ...] = ()
    """What keeps it from being live or ready, as text for people."""
    stopping: bool = False
    running: int = 0
    """How many tasks run now."""
    slots_in_use: Mapping[str, int] = field(default_factory=dict)
    """How many slots of each queue are taken."""
    abandoned: int = 0
    """Handlers that ignored their cancellation and may still run."""
    loop_lag: float = 0.0
    """Seconds by which its event loop is late, or was at the last turn, whichever is more."""
    heartbeat_age: float = 0.0
    """Seconds since the last heartbeat that got a reply was sent."""
    waking: str = "poll"
    """How it learns of tasks of other processes: `"notify"`, `"data_version"`, `"memory"` or `"poll"`."""
    listening: bool = False
    """Whether hints of other processes can arrive now; if not, it polls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreHealth:
    """The health of a store in this process, with that of its dispatchers."""

    open: bool
    live: bool
    """Whether its background work goes on and each of its dispatchers is live."""
    ready: bool
    """Whether it is open and each of its dispatchers is ready."""
    problems: tuple[str, ...] = ()
    """What keeps it from being live or ready, as text for people."""
    dispatchers: tuple[DispatcherHealth, ...] = ()
    """Those that have started and not stopped, or that a loop has ended whose error was raised to nobody yet."""
