"""Opens and closes a store, as often as the application likes, on one event loop after another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from aiotaskstore.errors import ConfigurationError, TaskStoreError
from aiotaskstore.health import DispatcherHealth, StoreHealth
from aiotaskstore.hooks import Hooks
from aiotaskstore.manage.calls import CLOSED

if TYPE_CHECKING:
    from aiotaskstore.manage.open_store import OpenStore
    from aiotaskstore.storage.storage import Storage

_INHERITED: list[OpenStore] = []
"""Stores that our parent process had open at a fork. Kept, since closing their connections here could harm it."""


class StartedDispatcher(Protocol):
    """What a store needs of a dispatcher that has started."""

    def begin_stop(self) -> object:
        """Begin to stop, without waiting."""

    async def stop(self) -> object:
        """Wait until it has stopped."""

    def health(self) -> DispatcherHealth:
        """Return its health."""


class StoreLifecycle:
    """Holds the open store, if there is one.

    `connect` returns an unopened storage; `assemble` builds the open store from an opened storage.
    """

    def __init__(self, connect: Callable[[], Storage], assemble: Callable[[Storage], OpenStore], hooks: Hooks) -> None:
        self._connect, self._assemble, self._hooks = connect, assemble, hooks
        self._opened: OpenStore | None = None
        self._changing = asyncio.Lock()
        self.held: bool = False
        """Whether somebody else closes it: a test that shares its database with an application under it."""
        self.running: set[StartedDispatcher] = set()
        """The dispatchers that are not stopped."""
        self.failed: set[StartedDispatcher] = set()
        """The dispatchers that a loop of theirs has ended, until the error is raised to somebody."""

    @property
    def is_open(self) -> bool:
        """Whether it is connected, and what it was opened on still there."""
        return self._opened is not None and not self._opened.affinity.gone

    def health(self) -> StoreHealth:
        """Return the store's health, and its dispatchers'; callable from any thread."""
        opened, is_open = self._opened, self.is_open
        known = {*tuple(self.running), *tuple(self.failed)} if is_open else ()
        dispatchers = tuple(one.health() for one in known)
        failure = opened.background.failure if opened is not None and is_open else None
        problems = [] if is_open else ["the store is not open"]
        problems += [] if failure is None else [str(failure)]
        problems += [f"dispatcher {one.name}: {problem}" for one in dispatchers for problem in one.problems]
        live = failure is None and all(one.live for one in dispatchers)
        ready = live and is_open and all(one.ready for one in dispatchers)
        return StoreHealth(open=is_open, live=live, ready=ready, problems=tuple(problems), dispatchers=dispatchers)

    def require_open(self) -> OpenStore:
        """Return the open store; raises `ConfigurationError` where it is closed, or open on another event loop."""
        if self._opened is None:
            raise ConfigurationError(CLOSED)
        self._opened.affinity.check()
        return self._opened

    async def open(self, *, migrate: bool) -> None:
        """Connect, and bring the tables up to date or check them; while open, a no-op."""
        from aiotaskstore.storage import migrations  # noqa: PLC0415 - with what only an open store needs

        self._leave_behind()
        if self._opened is not None:
            self._opened.affinity.check()
        async with self._changing:
            if self._opened is not None:
                return
            storage = self._connect()
            if not migrate:
                migrations.check_file(storage.database)
            await storage.database.open()
            try:
                if migrate and await migrations.version(storage.database) != migrations.LATEST:
                    await migrations.migrate(storage.database)
                else:
                    await migrations.check(storage.database)
                opened = self._assemble(storage)
                await opened.start()
            except BaseException:
                await storage.database.close()
                raise
            self._opened = opened

    async def close(self) -> None:
        """Stop dispatchers, write what `enqueue_soon` holds, disconnect; raises what a loop ended of.

        While it is held, it stays connected.
        """
        self._leave_behind()
        if self._opened is not None:
            self._opened.affinity.check()
            self._opened.calls.refuse_own_lock("Close the store after the block.")
            self._opened.calls.refuse_inside()
            self._opened.lifespan.refuse_inside("Close the store elsewhere.")
        async with self._changing:
            opened = self._opened
            if opened is None:
                return
            await self._end_runs(opened)
            await opened.soon.close()
            if self.held:
                return
            self._opened = None
            self.failed.clear()
            self._hooks.spawn_with(None)
            try:
                await opened.close()
            finally:
                await opened.storage.database.close()
        self._changing = asyncio.Lock()  # the next open may be on another loop
        opened.background.check()

    async def flush(self) -> None:
        """Wait until what `enqueue_soon` holds is stored; while closed, a no-op."""
        if self._opened is not None and self._opened.soon.pending:
            await self.require_open().soon.flush()

    async def migrate(self) -> int:
        """Create or update the tables, whether the store is open or not; returns how many migrations were applied."""
        from aiotaskstore.storage import migrations  # noqa: PLC0415 - the same

        if self.is_open:
            opened = self.require_open()
            opened.calls.refuse_own_lock("Migrate after the block.")
            return await migrations.migrate(opened.storage.database)
        database = self._connect().database
        await database.open()
        try:
            return await migrations.migrate(database)
        finally:
            await database.close()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Storage]:
        """Lend the storage of the open store; else one that is opened for the block, only to be read."""
        if self.is_open:
            opened = self.require_open()
            opened.calls.refuse_own_lock("Diagnose after the block.")
            yield opened.storage
            return
        storage = self._connect()
        await storage.database.open_for_reading()
        try:
            yield storage
        finally:
            await storage.database.close()

    def missing(self) -> str:
        """Return a sentence that says that there is no database, where opening the store would make one."""
        return "" if self.is_open else self._connect().database.missing()

    def _leave_behind(self) -> None:
        """Abandon what was opened on a loop that is closed, or by the process that we are a fork of."""
        opened = self._opened
        if opened is None or not opened.affinity.gone:
            return
        self._opened, self._changing, self.running, self.failed = None, asyncio.Lock(), set(), set()
        self._hooks.spawn_with(None)
        if opened.affinity.forked:
            _INHERITED.append(opened)
        else:
            opened.storage.database.abandon()

    async def _end_runs(self, opened: OpenStore) -> None:
        """Stop every dispatcher and leave the lifespan, also those that are started and entered meanwhile."""
        while True:
            opened.lifespan.leave_soon()  # once nobody uses it, also if this call is cancelled
            if self.running:
                await self._stop_dispatchers()
            elif not await opened.lifespan.left():
                return

    async def _stop_dispatchers(self) -> None:
        """Stop every dispatcher, all at the same time."""
        for dispatcher in self.running:
            dispatcher.begin_stop()
        for dispatcher in list(self.running):
            with suppress(TaskStoreError):  # a loop of it ended, which is reported by then
                await dispatcher.stop()
