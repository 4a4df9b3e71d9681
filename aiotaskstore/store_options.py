"""The options of a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict
from uuid import UUID

from aiotaskstore.mechanics.duration import Duration
from aiotaskstore.queue import Queue
from aiotaskstore.retention import Retention

OnError = Callable[[str | None, UUID | None, BaseException], Any]
"""Takes the queue and the id of the task, where there is one, and the error."""


class StoreOptions(TypedDict, total=False):
    """What `TaskStore(…)` and `TaskStore.from_env(…)` take."""

    queues: Sequence[Queue]
    """Queues with defaults of their own; any other name is a queue all the same."""
    prefix: str
    """What the names of our tables begin with."""
    schema: str | None
    """On PostgreSQL, the schema of our tables."""
    migrate: bool
    """Whether opening brings the tables up to date, or only checks them."""
    pool_size: int
    """The most connections that the store keeps open at once, on PostgreSQL and MySQL."""
    listen_url: str | None
    """On PostgreSQL, a direct connection for notifications, where the database is a pool or behind a pooler."""
    on_error: OnError | None
    """Called with (queue, task id, error) for each failed attempt, lost claim, background failure and failed listener.
    """
    retention: Retention | None
    """How long finished tasks are kept where neither the task nor its definition nor its queue says so; 7 days."""
    payload_limit: int
    """Bytes of JSON that a payload or a result may have."""
    wait_interval: Duration
    """How often the store looks whether the tasks that somebody waits for have finished."""
    enqueue_timeout: Duration
    """How long an `enqueue()` may wait for its insert before it raises `DatabaseUnavailableError`."""
    transaction_timeout: Duration | None
    """How long `store.transaction()` may take; without it 5 seconds on SQLite, else 30."""
    debug: bool
    """Whether statements are logged to `aiotaskstore.sql`, at DEBUG; without it that logger has the level INFO, unless
    the application gives it one."""
