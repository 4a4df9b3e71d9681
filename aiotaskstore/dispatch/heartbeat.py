"""The heartbeat. A thread of its own sends it, so that a dispatcher with a blocked event loop does not look dead."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol
from uuid import UUID

from aiotaskstore.dispatch.dispatcher_settings import DispatcherSettings
from aiotaskstore.dispatch.heartbeat_connection import CLOSING, HeartbeatConnection
from aiotaskstore.dispatch.loops import Loops
from aiotaskstore.errors import TaskStoreError
from aiotaskstore.mechanics.timed_event import TimedEvent
from aiotaskstore.storage.operation import Steps
from aiotaskstore.storage.storage import Storage

MOST_LISTED = 10_000
"""The most claims that a reply lists."""
_RETRY_AFTER = 1.0
"""The most seconds from a heartbeat without a reply to the next heartbeat."""
_AT_LEAST = 1.0
"""The least seconds to wait for a reply."""


class HeartbeatReply(NamedTuple):
    """The database's reply to a heartbeat."""

    known: bool
    """False if another dispatcher has taken this one for dead and rescued its tasks."""
    running: frozenset[tuple[UUID, int]]
    """The claims that the database lists for this dispatcher: (id, fence) each."""
    sent_at: float
    """When the heartbeat was sent, on our monotonic clock: the lease counts from this instant."""


class HeartbeatReceiver(Protocol):
    """Acts on the reply to each heartbeat, or on its error. Called in the dispatcher's own event loop."""

    def replied(self, reply: HeartbeatReply) -> None:
        """Act on a reply."""

    def missed(self, error: TaskStoreError) -> None:
        """Act on the error of a heartbeat without a reply."""


class HeartbeatSender:
    """Sends the heartbeats of one dispatcher instance, and passes the replies to `receiver`."""

    def __init__(
        self,
        dispatcher_id: UUID,
        settings: DispatcherSettings,
        storage: Storage,
        receiver: HeartbeatReceiver,
        loops: Loops,
    ) -> None:
        self._dispatcher_id, self._storage, self._receiver, self._loops = dispatcher_id, storage, receiver, loops
        self._period = settings.heartbeat
        # Before our runs count as lost, there must be time for a heartbeat on a new connection. But a busy machine is
        # slow: with a lease of a second, half of the rest would always be too short.
        self._reply_limit = max(settings.heartbeat, (settings.lease - settings.heartbeat) / 2, _AT_LEAST)
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._thread_ended = TimedEvent()
        self._wake: Callable[[], object] = lambda: None

    def start(self) -> None:
        """Send heartbeats from a new thread, or from this event loop if the database cannot be opened twice."""
        copy = self._storage.unopened_copy()
        if copy is None:
            self._loops.keep(self._send_from_here(), "heartbeat")
            return
        self._thread = threading.Thread(
            target=self._send_from_thread,
            args=(copy, asyncio.get_running_loop()),
            name="aiotaskstore-heartbeat",
            daemon=True,
        )
        self._thread.start()

    def end(self) -> None:
        """Send no more heartbeats; do not wait for the thread."""
        self._ending.set()
        self._wake()

    async def stop(self) -> None:
        """Send no more heartbeats, and wait for the thread to end; abandon it if it hangs in its connection."""
        self.end()
        if self._thread is not None and await self._thread_ended.wait(2 * CLOSING):
            self._thread.join()  # cannot block: the thread has set the event as its last step

    async def send(self) -> None:
        """Send one heartbeat from the dispatcher's own event loop; raise its error."""
        self._replied(await self.send_once(self._storage))

    async def send_once(self, storage: Storage) -> HeartbeatReply:
        """Send one heartbeat and return the reply."""
        me, sent_at = self._dispatcher_id, time.monotonic()

        def send() -> Steps[tuple[bool, list[tuple[UUID, int]]]]:
            known = yield from storage.dispatchers.heartbeat(me)
            return known, (yield from storage.tasks.running_of(me, MOST_LISTED))

        known, running = await storage.database.write_heartbeat(send)
        return HeartbeatReply(known, frozenset(running), sent_at)

    def _replied(self, reply: HeartbeatReply) -> None:
        if not self._ending.is_set():
            self._receiver.replied(reply)

    def _missed(self, error: TaskStoreError) -> None:
        if not self._ending.is_set():
            self._receiver.missed(error)

    async def _send_from_here(self) -> None:
        wait = 0.0
        while not await self._loops.closing.wait(wait):
            try:
                await self.send()
            except TaskStoreError as error:
                self._missed(error)
                wait = retry_after(self._period)
            else:
                wait = self._period

    # ── in the thread ─────────────────────────────────────────────────────────────────────────────────────

    def _send_from_thread(self, storage: Storage, loop: asyncio.AbstractEventLoop) -> None:
        error: BaseException = RuntimeError("it returned")
        try:
            asyncio.run(self._send_until_ended(storage, loop))
        except BaseException as raised:  # noqa: BLE001 - passed to the dispatcher, which cannot go on without heartbeats
            error = raised
        if not self._ending.is_set():
            _call_in(loop, self._loops.fail, "heartbeat", error)
        _call_in(loop, self._thread_ended.set)

    async def _send_until_ended(self, storage: Storage, loop: asyncio.AbstractEventLoop) -> None:
        """Send heartbeats until `end`, in the thread's own event loop; connect again after an error."""
        connection, woken = HeartbeatConnection(self.send_once, storage), TimedEvent()
        mine = asyncio.get_running_loop()

        def wake() -> None:
            woken.set()
            connection.interrupt()

        self._wake = lambda: _call_in(mine, wake)
        try:
            while not self._ending.is_set():
                await woken.wait(await self._send_on(connection, loop))
        finally:
            await connection.close()

    async def _send_on(self, connection: HeartbeatConnection[HeartbeatReply], loop: asyncio.AbstractEventLoop) -> float:
        """Send one heartbeat, and pass on its reply or its error; return the seconds until the next one."""
        started = time.monotonic()
        try:
            reply = await connection.send(self._reply_limit)
        except TaskStoreError as error:
            _call_in(loop, self._missed, error)
            return retry_after(self._period)
        if not _call_in(loop, self._replied, reply):
            self._ending.set()  # the dispatcher's event loop is closed
        return max(0.0, started + self._period - time.monotonic())


def retry_after(period: float) -> float:
    """Return the seconds from a heartbeat without a reply to the next one."""
    return min(period, _RETRY_AFTER)


def _call_in(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: object) -> bool:
    """Call a function in another thread's event loop; false if that loop is closed."""
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        return False
    return True
