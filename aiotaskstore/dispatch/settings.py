"""A dispatcher's settings, normalised; every default of this floor stands here."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiotaskstore.duration import Duration, seconds
from aiotaskstore.errors import ConfigurationError
from aiotaskstore.queue import Queue, check_count, queue_name
from aiotaskstore.text import check_text

HEAL_EVERY = 5.0
CLEAN_EVERY = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherSettings:
    """What `store.dispatcher(…)` takes; durations in seconds."""

    queues: Mapping[str, int | None] | None
    """Slots by queue, `None` where the queue names none; or every queue that has work, also ones that appear later."""
    concurrency: int
    """Slots of a queue that names none."""
    poll_interval: float
    """The longest a lost wake-up can delay a task."""
    heartbeat: float
    """How often the dispatcher gives a sign of life."""
    lease: float
    """How long it is believed alive without one; three heartbeats fit in it."""
    grace: float
    """How long a stop waits for runs before it cancels them."""
    stuck_grace: float
    """How long a cancelled handler may take to end before its slot is taken from it."""
    on_missing: str
    """"leave" tasks whose alias has no handler here to others, or "fail" them."""
    heal_every: float | None
    clean_every: float | None
    name: str

    @staticmethod
    def parse(
        *,
        queues: Any,
        concurrency: int,
        poll_interval: Duration,
        heartbeat: Duration,
        lease: Duration,
        grace: Duration,
        stuck_grace: Duration,
        on_missing: str,
        healer: bool | Duration,
        cleaner: bool | Duration,
        name: str | None,
    ) -> DispatcherSettings:
        """Check and normalise; the first bad value is a `ConfigurationError`."""
        settings = DispatcherSettings(
            queues=parse_queues(queues),
            concurrency=check_count(concurrency, "concurrency"),
            poll_interval=seconds(poll_interval, "poll_interval", above_zero=True),
            heartbeat=seconds(heartbeat, "heartbeat", above_zero=True),
            lease=seconds(lease, "lease", above_zero=True),
            grace=seconds(grace, "grace"),
            stuck_grace=seconds(stuck_grace, "stuck_grace"),
            on_missing=on_missing,
            heal_every=_period(healer, HEAL_EVERY, "healer"),
            clean_every=_period(cleaner, CLEAN_EVERY, "cleaner"),
            name=check_text(name or f"{socket.gethostname()}:{os.getpid()}", "A dispatcher's name"),
        )
        if settings.lease < 2 * settings.heartbeat:
            raise ConfigurationError(
                f"lease must fit at least two heartbeats, but it is {settings.lease:g} s and a heartbeat "
                f"is {settings.heartbeat:g} s."
            )
        if on_missing not in ("leave", "fail"):
            raise ConfigurationError(f'on_missing must be "leave" or "fail", not {on_missing!r}.')
        return settings


def parse_queues(queues: Any) -> dict[str, int | None] | None:
    """Read `queues=`: a mapping to slots, a list of names or `Queue`s, one name, or nothing for all."""
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
        raise ConfigurationError(f'queues must be a mapping such as {{"emails": 20}} or a list, not {queues!r}.')
    if not slots:
        raise ConfigurationError("queues is empty, so nothing would ever run; leave it out for every queue.")
    return slots


def _slots(one: Any) -> tuple[str, int | None]:
    return (one.name, one.concurrency) if isinstance(one, Queue) else (queue_name(one), None)


def _period(value: bool | Duration, default: float, name: str) -> float | None:  # noqa: FBT001 - True, False or a period
    if value is False:
        return None
    return default if value is True else seconds(value, name, above_zero=True)
