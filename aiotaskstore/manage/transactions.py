"""Transactions that the application works in: opened here, or its own, joined."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from aiotaskstore.errors import ConfigurationError
from aiotaskstore.manage.ambient_transaction import AmbientTransaction, AmbientTransactions
from aiotaskstore.manage.confinement import Savepoints
from aiotaskstore.manage.transaction_keeper import TransactionKeeper, TransactionLender
from aiotaskstore.run_transaction import RunTransaction, not_begun, too_long

if TYPE_CHECKING:
    from aiotaskstore.manage.open_store import OpenStore


class Transactions:
    """Opens transactions for the calls of an asyncio task, and joins transactions of the application."""

    def __init__(self, require_open: Callable[[], OpenStore], ambient: AmbientTransactions) -> None:
        self._require_open, self._ambient = require_open, ambient
        self.limit: float = inf
        """The maximum of seconds for a transaction opened here."""
        self.locks: bool = False
        """Whether it blocks all other writers."""

    @contextmanager
    def join(self, connection: Any) -> Iterator[None]:
        """Have this asyncio task's calls inside the block join the connection's transaction."""
        self._require_open().storage.database.check_joinable(connection)
        with self._ambient.join(connection):
            yield

    def of_run(self, expired: Callable[[], None], *, lock_for: float = inf) -> RunTransaction:
        """Make the transaction of one run, not opened yet; `expired` is called if it takes too long.

        Where it blocks all other writers, it is open for at most `lock_for` seconds.

        Raises `ConfigurationError` inside a `store.transaction()`, and while the store is closed.
        """
        store = self._require_open()
        if self._ambient.inside():
            raise ConfigurationError(
                "context.transaction() was entered inside store.transaction(), or in a run that has one open already. "
                "Leave the outer one out: what it does can be done in context.transaction()."
            )

        def committed(joined: AmbientTransaction) -> None:
            if joined.hint:
                store.notifier.notify(joined.hint)
            store.granter.grant_soon(joined.wanted_keys)

        return TransactionKeeper(
            self._lender(store),
            limit=self.limit,
            open_for=lock_for if self.locks else inf,
            spawn=store.background.spawn,
            join=partial(self._ambient.enter, locks=self.locks),
            committed=committed,
            expired=expired,
        )

    def _lender(self, store: OpenStore) -> TransactionLender:
        confined = self._ambient.confined
        return store.storage.database if confined is None else Savepoints(store.storage.database, confined)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Any]:
        """Open a transaction, lend the driver's connection, and notify dispatchers once it has committed."""
        store = self._require_open()
        store.calls.refuse_own_lock("Leave the inner transaction out: what its task does joins the open one.")
        limit, begun = self.limit, False
        try:
            async with asyncio.timeout(limit) as deadline, self._lender(store).transaction() as connection:
                begun = True
                with self._ambient.join(connection, ours=True, locks=self.locks) as joined:
                    yield connection
        except TimeoutError as error:
            if not deadline.expired():
                raise
            if not begun:
                raise not_begun(limit) from error
            raise too_long(limit) from error
        if joined.hint:
            store.notifier.notify(joined.hint)
        if joined.wanted_keys:
            await store.granter.grant(joined.wanted_keys)
