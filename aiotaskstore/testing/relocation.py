"""Relocation: a store's tables are somewhere else for the time of a test, under a clock that the test moves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import replace
from enum import Enum
from typing import Any, Final, Literal

from aiotaskstore.connection_argument import check_connection
from aiotaskstore.errors import ConfigurationError
from aiotaskstore.lifespan import Lifespan
from aiotaskstore.manage.ambient_transaction import AmbientTransaction
from aiotaskstore.mechanics.clock import Clock
from aiotaskstore.storage.location import Location
from aiotaskstore.storage.table_names import TableNames
from aiotaskstore.storage.url import parse_url
from aiotaskstore.taskstore import TaskStore
from aiotaskstore.testing.own_tables import drop_tables, own_names


class OwnDatabase(Enum):
    """The type of `KEEP`."""

    KEEP = "the store's own database"


KEEP: Final = OwnDatabase.KEEP
"""For `TaskStoreTester(store, database=KEEP)`: the store keeps its own database, and its own tables."""
MEMORY = "sqlite://"
_ADVICE = "give that database=<URL of the session's or connection's server>, or connection=<the session or connection>."


class Relocation:
    """Takes a closed store to another location and back.

    While it is held open, the application may open and close the store as it likes: it stays open.
    """

    def __init__(
        self,
        store: TaskStore,
        database: str | Literal[OwnDatabase.KEEP] | Any,
        connection: Any,
        *,
        clock: Clock,
        lifespan: Lifespan | None,
    ) -> None:
        self._store, self._connection = store, connection
        self._lifespan = self._lifespan_before = lifespan or store._lifespan
        if connection is not None:
            check_connection(connection)
        self.keeps: bool = database is KEEP or connection is not None
        self._before: Location = store._location
        self._location = self._chosen(database, clock)
        self._owns_tables = not self.keeps and not _in_memory(self._location)

    @property
    def confined(self) -> AmbientTransaction | None:
        """The transaction that everything happens in, if that is one of the test's."""
        return self._store._ambient.confined

    def begin(self) -> None:
        """Take the store there, to be opened there from now on."""
        store = self._store
        if store.is_open:
            raise ConfigurationError(
                "The store is open already, and its tables cannot be replaced under it. Enter the tester first, and "
                "open the store, or start the application, inside its block."
            )
        self._before = store._location
        store._locate(self._location)
        self._lifespan_before, store._lifespan = store._lifespan, self._lifespan
        if self._connection is not None:
            store._ambient.confined = AmbientTransaction(self._connection, None)

    async def open(self) -> None:
        """Open the store there, and hold it open."""
        store = self._store
        try:
            await store.open(migrate=None if self.keeps else True)
            if self._connection is not None:
                store._require_open().storage.database.check_joinable(self._connection)
        except BaseException:
            await self.close()
            raise
        store._lifecycle.held = True

    async def close(self) -> None:
        """Close the store, and drop its tables if they were made for the test."""
        self._store._lifecycle.held = False
        try:
            await self._store.close()
        finally:
            if self._owns_tables:
                await drop_tables(self._location)

    def drop_apart(self) -> None:
        """Drop the tables from where no event loop runs, or where another one does."""
        if self._owns_tables:
            _run_apart(drop_tables(self._location))

    def end(self) -> None:
        """Take the store back."""
        store = self._store
        store._lifecycle.held = False
        store._ambient.confined = None
        store._locate(self._before)
        store._lifespan = self._lifespan_before

    def _chosen(self, database: str | Literal[OwnDatabase.KEEP] | Any, clock: Clock) -> Location:
        before = self._before
        if database is KEEP or self._connection is not None:
            return replace(before, clock=clock)
        anywhere = Location(database, TableNames(), before.pool_size, None, clock)
        if _in_memory(anywhere):
            return replace(anywhere, why_here=f"A TaskStoreTester has it in memory: {_ADVICE}")
        names = own_names(anywhere.kind)
        return replace(anywhere, table_names=names, why_here=f"A TaskStoreTester has taken it there: {_ADVICE}")


def _in_memory(location: Location) -> bool:
    target = location.target
    return isinstance(target, str) and location.kind == "sqlite" and parse_url(target).path == ":memory:"


def _run_apart(work: Coroutine[Any, Any, None]) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
