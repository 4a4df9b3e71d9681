"""The options of a store, checked and normalised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from aiotaskstore.errors import ConfigurationError
from aiotaskstore.mechanics.duration import Duration, seconds
from aiotaskstore.queue import Queue, check_count
from aiotaskstore.retention import Retention, check_retention

_SQLITE_TRANSACTION, _TRANSACTION = 5.0, 30.0
"""Seconds that a transaction may take unless the application says so; on SQLite it keeps all others from writing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """What a store was made with, normalised; durations in seconds."""

    queues: dict[str, Queue]
    retention: Retention
    payload_limit: int
    wait_interval: float
    enqueue_timeout: float
    transaction_timeout: float | None
    """`None` where the application does not say."""

    @classmethod
    def parse(
        cls,
        *,
        queues: object,
        retention: Retention | None,
        payload_limit: int,
        wait_interval: Duration,
        enqueue_timeout: Duration,
        transaction_timeout: Duration | None,
    ) -> Self:
        """Check what the application gave; raises `ConfigurationError`."""
        return cls(
            queues={queue.name: queue for queue in _as_queues(queues)},
            retention=check_retention(retention or Retention()),
            payload_limit=check_count(payload_limit, "payload_limit"),
            wait_interval=seconds(wait_interval, "wait_interval", above_zero=True),
            enqueue_timeout=seconds(enqueue_timeout, "enqueue_timeout", above_zero=True),
            transaction_timeout=None
            if transaction_timeout is None
            else seconds(transaction_timeout, "transaction_timeout", above_zero=True),
        )

    def transaction_timeout_on(self, *, one_writer: bool) -> float:
        """Return how long a transaction may take; by default less where it keeps all others from writing."""
        if self.transaction_timeout is not None:
            return self.transaction_timeout
        return _SQLITE_TRANSACTION if one_writer else _TRANSACTION


def _as_queues(queues: object) -> list[Queue]:
    if isinstance(queues, str | Queue):
        queues = [queues]
    if not isinstance(queues, Iterable):
        raise ConfigurationError(
            f'queues must be a list such as [Queue("emails", concurrency=20)], not {queues!r:.100}.'
        )
    made = [queue if isinstance(queue, Queue) else Queue(queue) for queue in queues]
    repeated = sorted(name for name, count in Counter(queue.name for queue in made).items() if count > 1)
    if repeated:
        raise ConfigurationError(
            f"queues names {', '.join(repeated)} more than once, and only one of each could count. Name a queue once."
        )
    return made
