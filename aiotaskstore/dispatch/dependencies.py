"""The dependencies that a dispatcher receives from its store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from uuid import UUID

from aiotaskstore.carrier import Carriers
from aiotaskstore.hooks import Hooks
from aiotaskstore.mechanics.clock import Clock
from aiotaskstore.mechanics.notifier import Notifier
from aiotaskstore.middleware import MiddlewareStack
from aiotaskstore.queue import Queue
from aiotaskstore.registry import Registry
from aiotaskstore.run_hooks import RunHooks
from aiotaskstore.run_transaction import RunTransaction
from aiotaskstore.schedule_registry import ScheduleRegistry

if TYPE_CHECKING:
    from aiotaskstore.prepared_task import PreparedTask
    from aiotaskstore.storage.schedule_rows import ScheduleRow
    from aiotaskstore.storage.storage import Storage


class PrepareOccurrence(Protocol):
    """Makes the task of a schedule's occurrence."""

    async def __call__(self, row: ScheduleRow, occurrence: datetime, name: str | None = None) -> PreparedTask | None:
        """Make the task; `None` where a function skips it. A `name` is for a task that was not planned."""


class KeyGrants(Protocol):
    """What a dispatcher needs of whatever grants serialization keys."""

    @property
    def granted(self) -> int:
        """How often a grant has made tasks pending."""

    @property
    def pending(self) -> bool:
        """Whether a key is wanted that has not been granted or refused."""

    def grant_soon(self, keys: Iterable[str]) -> None:
        """Make the first waiting task of each of these keys pending, where no task holds the key."""

    def was_granted(self, queues: Collection[str]) -> None:
        """Count a grant that made tasks of these queues pending, and wake whoever can run them."""

    async def drain(self) -> None:
        """Wait until nothing is wanted any more, within a limit of its own."""


class LifespanUse(Protocol):
    """What a dispatcher needs of the store's lifespan."""

    @property
    def state(self) -> Any:
        """What the lifespan function yielded. Raises `ConfigurationError` while it is not entered."""

    async def enter(self, user: Callable[[BaseException], None]) -> None:
        """Enter it, unless it is entered; `user` is called with the error if it ends by itself."""

    def release(self, user: Callable[[BaseException], None]) -> None:
        """Note that `user` does not use it any more."""


class MakeRunTransaction(Protocol):
    """Makes the transaction of one run."""

    def __call__(self, expired: Callable[[], None], *, lock_for: float) -> RunTransaction:
        """Make it; `expired` is called if it takes too long, or keeps others from writing for `lock_for` seconds."""


class DispatcherDependencies(NamedTuple):
    """The parts of the open store that a dispatcher needs."""

    store: Any
    """The object that handlers see as `context.store`."""
    storage: Storage
    registry: Registry
    schedules: ScheduleRegistry
    clock: Clock
    """Measures the time that handlers take."""
    prepare_occurrence: PrepareOccurrence
    """Makes the tasks of schedules, as an enqueue does."""
    hooks: Hooks
    run_hooks: RunHooks
    carriers: Carriers
    middleware: MiddlewareStack
    lifespan: LifespanUse
    """What the application opens before the first run."""
    queues: dict[str, Queue]
    """Queue defaults by name."""
    result_limit: int
    report: Callable[[str | None, UUID | None, BaseException], None]
    """Reports an error that concerns the task with this queue and id."""
    notifier: Notifier
    """Passes hints to every dispatcher, in this process and in others."""
    key_grants: KeyGrants
    """Grants the serialization keys that runs, rescues and promotions free or want."""
    running: set[Any]
    """The store's dispatchers that are not stopped; the store stops them when it is closed."""
    failed: set[Any]
    """The store's dispatchers that a loop of theirs has ended, until the error is raised to somebody."""
    publish: Callable[[], Awaitable[None]]
    """Makes the registered definitions and schedules known in the database."""
    own_lock: Callable[[], Any]
    """Returns the connection of the caller's transaction, if that transaction keeps all others from writing."""
    run_transaction: MakeRunTransaction
    refuse_own_lock: Callable[[str], None]
    """Raises `ConfigurationError` with the advice in its text, if the caller is inside such a transaction."""
