"""The options of a dispatcher, and the settings to which they are normalised."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from aiotaskstore.errors import ConfigurationError
from aiotaskstore.mechanics.duration import Duration, seconds
from aiotaskstore.mechanics.text import check_text
from aiotaskstore.queue import Queue, check_count, queue_name

RESCUE_EVERY = 5.0
CLEAN_EVERY = 60.0


OnMissing = Literal["leave", "fail"]


class DispatcherOptions(TypedDict, total=False):
    """The options of `store.dispatcher(…)` and `store.run(…)`."""

    queues: Mapping[str, int] | Sequence[str | Queue] | str | None
    """The queues to serve: names with slots, or names. `None` serves every queue, also queues that appear later."""
    concurrency: int
    """How many tasks of one queue run at once, unless `queues` or the `Queue` sets its slots."""
    poll_interval: Duration
    """How often the dispatcher looks for work without a hint: the longest delay of a task whose hint was lost."""
    heartbeat: Duration
    """How often the dispatcher sends a heartbeat."""
    lease: Duration
    """How long it counts as alive without a heartbeat; then others rescue its tasks. At least 2 × `heartbeat`."""
    grace: Duration
    """How long a stop waits for runs before it cancels them and returns them to the queue."""
    stuck_grace: Duration
    """How long a cancelled handler may take to end before its task is recorded as stuck and its slot is free."""
    on_missing: OnMissing
    """"leave" tasks whose alias has no handler here to other dispatchers, or "fail" them."""
    scheduler: bool | Duration
    """Whether the dispatcher makes the tasks of schedules. It sleeps until the next one is due, and looks at least this
    often; `True` is every `poll_interval`."""
    healer: bool | Duration
    """Whether the dispatcher rescues the tasks of dead dispatchers, and how often; `True` is every 5 seconds."""
    cleaner: bool | Duration
    """Whether the dispatcher deletes finished tasks past their retention, and how often; `True` is every 60 seconds."""
    name: str | None
    """A name for people to read; by default the host and the process id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherSettings:
    """The options of a dispatcher, checked and normalised: durations in seconds. Described at `DispatcherOptions`."""

    queues: Mapping[str, int | None] | None
    """Slots by queue (`None`: not set here); `None` instead of a mapping serves every queue."""
    concurrency: int
    poll_interval: float
    heartbeat: float
    lease: float
    grace: float
    stuck_grace: float
    on_missing: OnMissing
    schedule_every: float | None
    rescue_every: float | None
    clean_every: float | None
    name: str

    @property
    def lock_for(self) -> float:
        """Seconds for which a run may keep heartbeats out (on SQLite), also from the moment at which one is due."""
        room = max(self.lease - 2 * self.heartbeat, self.heartbeat / 2)
        return max(room - 1, room / 2)  # the rest is for the heartbeat itself

    @staticmethod
    def parse(  # noqa: PLR0913 - an argument for each option
        *,
        queues: Any,
        concurrency: int,
        poll_interval: Duration,
        heartbeat: Duration,
        lease: Duration,
        grace: Duration,
        stuck_grace: Duration,
        on_missing: OnMissing,
        scheduler: bool | Duration,
        healer: bool | Duration,
        cleaner: bool | Duration,
        name: str | None,
    ) -> DispatcherSettings:
        """Check and normalise the options. Raises `ConfigurationError` for the first bad value."""
        settings = DispatcherSettings(
            queues=parse_queues(queues),
            concurrency=check_count(concurrency, "concurrency"),
            poll_interval=seconds(poll_interval, "poll_interval", above_zero=True),
            heartbeat=seconds(heartbeat, "heartbeat", above_zero=True),
            lease=seconds(lease, "lease", above_zero=True),
            grace=seconds(grace, "grace"),
            stuck_grace=seconds(stuck_grace, "stuck_grace"),
            on_missing=on_missing,
            schedule_every=_period(scheduler, seconds(poll_interval, "poll_interval"), "scheduler"),
            rescue_every=_period(healer, RESCUE_EVERY, "healer"),
            clean_every=_period(cleaner, CLEAN_EVERY, "cleaner"),
            name=check_text(name or f"{socket.gethostname()}:{os.getpid()}", "A dispatcher's name"),
        )
        if settings.lease < 2 * settings.heartbeat:
            raise ConfigurationError(
                f"lease must fit at least two heartbeats, but it is {settings.lease:g} s and a heartbeat "
                f"is {settings.heartbeat:g} s."
            )
        if on_missing not in ("leave", "fail"):
            raise ConfigurationError(f'on_missing must be "leave" or "fail", not {on_missing!r:.100}.')
        return settings


def parse_queues(queues: Any) -> dict[str, int | None] | None:
    """Normalise `queues=`: a mapping to slots, a list of names or `Queue`s, one name, or `None` for every queue."""
    if queues is None:
        return None
    if isinstance(queues, str | Queue):
        queues = [queues]
    slots: dict[str, int | None]
    if isinstance(queues, Mapping):
        slots = {queue_name(name): check_count(count, f'slots of queue "{name}"') for name, count in queues.items()}
    elif isinstance(queues, Iterable):
        slots = dict(map(_slots, queues))
    else:
        raise ConfigurationError(f'queues must be a mapping such as {{"emails": 20}} or a list, not {queues!r:.100}.')
    if not slots:
        raise ConfigurationError("queues is empty, so nothing would ever run; leave it out for every queue.")
    return slots


def _slots(one: Any) -> tuple[str, int | None]:
    return (one.name, one.concurrency) if isinstance(one, Queue) else (queue_name(one), None)


def _period(value: bool | Duration, default: float, name: str) -> float | None:  # noqa: FBT001 - True, False or a period
    if value is False:
        return None
    return default if value is True else seconds(value, name, above_zero=True)
