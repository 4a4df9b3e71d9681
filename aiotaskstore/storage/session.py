"""A session: one connection while an operation uses it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from aiotaskstore.storage.operation import Rows, Step
from aiotaskstore.storage.statement_size import MOST_CHARACTERS


class Session(ABC):
    """What an operation needs of a connection; each dialect has its own."""

    most_characters: int = MOST_CHARACTERS
    """Characters that one statement may carry."""

    savepoint: str = "aiotaskstore"
    """The name of a savepoint in the caller's transaction. On MySQL a second one of a name would replace the first."""

    needs_transaction: bool = False
    """Whether every operation runs in a transaction, also one that does not begin any."""

    statement_limit: float | None = None
    """Seconds after which a statement in the caller's transaction fails as timed out, set by `Database.run_on`. The
    transaction stays usable where the dialect can do that."""

    @abstractmethod
    def abort(self) -> None:
        """Close the connection by force, without waiting: every pending call on it fails at once. Safe to repeat."""

    async def after_cancellation(self) -> None:
        """Make sure that a cancelled statement is no longer running; here, by closing the connection."""
        self.abort()

    @abstractmethod
    async def begin(self, lock_wait: float | None = None) -> None:
        """Begin a transaction, or a savepoint inside the caller's."""

    @abstractmethod
    async def commit(self) -> None:
        """Commit the transaction, or release the savepoint."""

    @abstractmethod
    async def rollback(self) -> None:
        """Roll back to where `begin` was called."""

    @abstractmethod
    async def run(self, step: Step) -> Rows:
        """Run one step. Raises our own errors, never the driver's."""

    @abstractmethod
    async def script(self, sql: str) -> None:
        """Run one statement of a migration."""
