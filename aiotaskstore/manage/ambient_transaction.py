"""The transaction that the calls of one asyncio task join without a `connection` argument."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from aiotaskstore.mechanics.hint import NOTHING, Hint


@dataclass(slots=True)
class AmbientTransaction:
    """A transaction that the calls of one asyncio task join."""

    connection: Any
    task: asyncio.Task[Any] | None
    outer: AmbientTransaction | None = None
    """The transaction around this one."""
    locks: bool = False
    """Whether nobody else can write until it ends (`store.transaction()` on SQLite)."""
    ours: bool = False
    """Whether `store.transaction()` has opened it, on a connection of the store's."""
    over: bool = False
    hint: Hint = NOTHING
    """What dispatchers are to know once it has committed."""
    wanted_keys: set[str] = field(default_factory=set)
    """The serialization keys that are to be granted once it has committed."""


class AmbientTransactions:
    """Knows which transaction the current asyncio task has joined. Of nested transactions, the innermost counts."""

    def __init__(self) -> None:
        self._joined: ContextVar[AmbientTransaction | None] = ContextVar("aiotaskstore_joined", default=None)
        self.confined: AmbientTransaction | None = None
        """The transaction that every call takes part in, whoever makes it: a test's, which rolls it back."""

    def current(self) -> AmbientTransaction | None:
        """Return it; tasks started inside inherit the context, but not the transaction."""
        joined = self._innermost()
        return joined if joined is not None and joined.task is asyncio.current_task() else self.confined

    def locking(self) -> AmbientTransaction | None:
        """Return the open transaction, of this task or of one that started it, that keeps all others waiting."""
        joined = self._joined.get()
        while joined is not None and (joined.over or not joined.locks):
            joined = joined.outer
        return joined

    def inside(self) -> bool:
        """Return whether this task, or one that started it, is in a `store.transaction()` that is open."""
        joined = self._joined.get()
        while joined is not None and (joined.over or not joined.ours):
            joined = joined.outer
        return joined is not None

    def enter(self, connection: Any, *, locks: bool) -> AmbientTransaction:
        """Have this task's calls take part in a transaction of ours from now on, until it is `over`."""
        joined = AmbientTransaction(connection, asyncio.current_task(), outer=self._innermost(), ours=True, locks=locks)
        self._joined.set(joined)
        return joined

    def _innermost(self) -> AmbientTransaction | None:
        """Return the innermost transaction that is not over."""
        joined = self._joined.get()
        while joined is not None and joined.over:
            joined = joined.outer
        return joined

    @contextmanager
    def join(self, connection: Any, *, ours: bool = False, locks: bool = False) -> Iterator[AmbientTransaction]:
        """Have this task's calls take part in the connection's transaction."""
        joined = AmbientTransaction(
            connection, asyncio.current_task(), outer=self._joined.get(), ours=ours, locks=locks
        )
        token = self._joined.set(joined)
        try:
            yield joined
        finally:
            joined.over = True
            self._joined.reset(token)
