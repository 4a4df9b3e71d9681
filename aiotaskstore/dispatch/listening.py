"""Receives the hints of other processes for one dispatcher instance."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from aiotaskstore.dispatch.loop_backoff import LoopBackoff
from aiotaskstore.errors import TaskStoreError
from aiotaskstore.events import BackgroundFailed
from aiotaskstore.hooks import Hooks
from aiotaskstore.mechanics.hint import ANY_QUEUE
from aiotaskstore.mechanics.notifier import Subscriber
from aiotaskstore.mechanics.timed_event import TimedEvent
from aiotaskstore.storage.database import Database, NotificationListener

_log = logging.getLogger("aiotaskstore")


class Listening:
    """The listener's loop: passes hints to `receive` while it has a connection, and connects again after a loss."""

    def __init__(
        self,
        database: Database,
        hooks: Hooks,
        *,
        receive: Subscriber,
        poll_interval: float,
        backoff: LoopBackoff,
        closing: TimedEvent,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._database, self._hooks = database, hooks
        self._receive, self._poll_interval = receive, poll_interval
        self._backoff, self._closing, self._spawn = backoff, closing, spawn
        self._stop: Callable[[], None] = lambda: None
        self.active: bool = False
        """Whether hints of other processes can arrive now."""
        self.can_listen: bool = True
        """Whether this database and driver can notify, as far as that is known."""
        self.tried: asyncio.Event = asyncio.Event()
        """Set once `active` is known: after the first try to listen."""

    async def run(self) -> None:
        """Listen until `closing`. If this database or driver cannot notify, only wait for `closing`."""
        while not self._closing.is_set():
            try:
                async with self._database.listen(self._receive) as listener:
                    self._backoff.reset()
                    self.active = self.can_listen = listener is not None
                    self.tried.set()
                    if listener is not None:
                        self._receive(ANY_QUEUE)  # hints may have been sent before this connection listened
                        await self._until_lost(listener)
            except TaskStoreError as error:
                await self._backoff.wait(error)
            else:
                if not self.active:
                    self._report_polling()
                    await self._closing.wait()
            finally:
                self.active = False
                self.tried.set()

    def end(self) -> None:
        """End the wait for hints. `closing` must be set before."""
        self._stop()

    async def _until_lost(self, listener: NotificationListener) -> None:
        """Wait until the connection is lost, or `end` is called."""
        over = TimedEvent()
        self._stop = over.set

        async def lose() -> None:
            try:
                await listener.lost()
            except TaskStoreError as error:
                _log.debug("the listener's connection was lost: %s", error)

        losing = self._spawn(lose())
        losing.add_done_callback(lambda _: over.set())
        try:
            await over.wait()
        finally:
            losing.cancel()

    def _report_polling(self) -> None:
        why = self._database.no_notifications
        if why:
            error = TaskStoreError(
                f"Tasks enqueued elsewhere start up to {self._poll_interval:g} s late, since it polls. {why}"
            )
            self._hooks.emit(BackgroundFailed("listener", error, 0))
