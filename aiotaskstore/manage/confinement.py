"""Confinement: a test has all that a store does happen in one transaction of its own, which it rolls back."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from aiotaskstore.manage.ambient_transaction import AmbientTransaction

if TYPE_CHECKING:
    from aiotaskstore.storage.database import Database
    from aiotaskstore.storage.operation import Operation, T
    from aiotaskstore.storage.session import Session


class Savepoints:
    """Lends savepoints of one transaction, where a store would open transactions of its own."""

    def __init__(self, database: Database, confined: AmbientTransaction) -> None:
        self._database, self._connection = database, confined.connection

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Set a savepoint and lend the driver's connection; a block that raises undoes it."""
        return self._database.savepoint(self._connection)

    def close_lent(self, connection: Any) -> None:
        """Do nothing: the connection is the test's."""

    def borrow(self, connection: Any) -> Session:
        """Raise if the connection is in no transaction, or closed."""
        return self._database.borrow(connection)

    async def run_on(self, connection: Any, operation: Operation[T]) -> T:
        """Run an operation in the transaction."""
        return await self._database.run_on(connection, operation)
