"""The transaction of one run: what `context.transaction()` opens, and commits together with the task's success."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol

from aiotaskstore.errors import ConfigurationError


class CommitReply(NamedTuple):
    """What became of a commit."""

    committed: bool = False
    """Whether the commit has succeeded for certain."""
    refused: bool = False
    """Whether it was rolled back because of what the last operation returned."""
    error: Exception | None = None
    """Why it is not known to have succeeded; `None` also where it was rolled back before, as when its block raised."""
    maybe_committed: bool = False
    """Whether it may have succeeded all the same, since its reply was lost."""


class RunTransaction(Protocol):
    """A transaction that lasts until its run ends."""

    @property
    def expired(self) -> bool:
        """Whether it was rolled back because it took too long."""

    def overtime(self) -> TimeoutError:
        """Return the error for its having taken too long."""

    def block(self) -> AbstractAsyncContextManager[Any]:
        """Open it, and lend the driver's connection; a block that raises rolls it back."""

    async def commit(
        self, *operations: Callable[[], Generator[Any, Any, Any]], wanted: Callable[[Any], bool] = lambda _: True
    ) -> CommitReply:
        """Run operations in it and commit, unless what the last one returned is not `wanted`."""

    async def roll_back(self) -> CommitReply:
        """Roll back, unless a commit is under way already; return once it has ended."""

    def give_up(self) -> None:
        """Roll back without waiting for it; the handler no longer uses the connection."""

    def take_away(self) -> None:
        """Roll back without waiting for it, and close the connection, since the handler may go on."""


def check_opening(transaction: object | None, task: asyncio.Task[Any] | None) -> None:
    """Raise `ConfigurationError` if a run may not open its transaction: it has one, or this is not its own task."""
    if transaction is not None:
        raise ConfigurationError(
            "context.transaction() was entered a second time in one run, whose writes are committed once, with the "
            "task's success. Put them all into one block."
        )
    if task is not asyncio.current_task():
        raise ConfigurationError(
            "context.transaction() was entered outside its handler's own asyncio task, or after the handler has "
            "returned. Enter it in an `async def` handler, not in a thread or a task that the handler has started."
        )


def too_long(limit: float) -> TimeoutError:
    """Return the error for a transaction that took longer than it may."""
    return TimeoutError(f"The transaction took longer than transaction_timeout ({limit:g} s).")


def locked_too_long(limit: float) -> TimeoutError:
    """Return the error for a transaction of a run that has kept a dispatcher's heartbeats out for too long."""
    return TimeoutError(
        f"The transaction was open for longer than {limit:g} s. On SQLite no heartbeat can be written meanwhile, so it "
        "must end before the dispatcher's lease is in danger, also with a longer transaction_timeout. Do slow work "
        "before the block, or give the dispatcher a longer lease."
    )


def not_begun(limit: float) -> TimeoutError:
    """Return the error for a transaction that could not be begun in the time that it may take."""
    return TimeoutError(
        f"No transaction could be begun within transaction_timeout ({limit:g} s): others are open "
        "for as long as that. Keep them short, or give the store a larger pool_size."
    )
