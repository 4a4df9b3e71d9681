"""Grants serialization keys after a commit that freed one, or that added a task which waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial

from aiotaskstore.errors import TaskStoreError
from aiotaskstore.events import BackgroundFailed
from aiotaskstore.hooks import Hooks
from aiotaskstore.mechanics.bisecting import write_bisecting
from aiotaskstore.mechanics.hint import queue_hint
from aiotaskstore.mechanics.notifier import Notifier
from aiotaskstore.storage.tasks import MOST_ROWS, Tasks


class KeyGranter:
    """Grants the keys of an open store: keys that are wanted while a grant is in flight go together in the next one.

    A grant that fails is reported, and not repeated: the sweep of any dispatcher finds the key again.
    """

    def __init__(self, tasks: Tasks, notifier: Notifier, hooks: Hooks, *, limit: float) -> None:
        self._tasks, self._notifier, self._hooks, self._limit = tasks, notifier, hooks, limit
        self._wanted: dict[str, None] = {}
        self._waiters: list[asyncio.Future[None]] = []
        self._arrived = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.granted: int = 0
        """How often a grant has made tasks pending."""

    @property
    def pending(self) -> bool:
        """Whether a key is wanted that has not been granted or refused."""
        return not self._quiet.is_set()

    def grant_soon(self, keys: Iterable[str]) -> None:
        """Make the first waiting task of each of these keys pending, where no task holds the key."""
        for key in keys:
            self._wanted[key] = None
            self._quiet.clear()
            self._arrived.set()

    async def grant(self, keys: Iterable[str]) -> None:
        """Do the same, and wait until it is done, or has failed; at most `limit` seconds."""
        self.grant_soon(keys)
        if self.pending:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(done)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limit):
                    await done

    def was_granted(self, queues: Collection[str]) -> None:
        """Count a grant that made tasks of these queues pending, and wake whoever can run them."""
        if queues:
            self.granted += 1
            self._notifier.notify(queue_hint(*sorted(queues)))

    async def drain(self) -> None:
        """Wait until nothing is wanted any more, at most `limit` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limit):
                await self._quiet.wait()

    async def run(self) -> None:
        """Grant until cancelled."""
        try:
            while True:
                await self._arrived.wait()
                await self.grant_once()
        finally:
            self._quiet.set()
            _resolve(self._waiters)

    async def grant_once(self) -> None:
        """Grant every key that is wanted by now."""
        self._arrived.clear()
        keys, self._wanted = list(self._wanted), {}
        waiters, self._waiters = self._waiters, []
        try:
            for start in range(0, len(keys), MOST_ROWS):
                await self._grant_some(keys[start : start + MOST_ROWS])
        finally:
            _resolve(waiters)
            if not self._wanted:
                self._quiet.set()

    async def _grant_some(self, keys: Sequence[str]) -> None:
        replies = await write_bisecting(self._write, keys)
        error = next((reply for reply in replies if isinstance(reply, TaskStoreError)), None)
        if error is not None:
            self._hooks.emit(BackgroundFailed("key granter", error, 0))

    async def _write(self, keys: Sequence[str]) -> Sequence[None]:
        self.was_granted(await self._tasks.database.write(partial(self._tasks.grant, keys), limit=self._limit))
        return [None] * len(keys)


def _resolve(waiters: Iterable[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
