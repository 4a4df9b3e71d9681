"""The heartbeat: sent from a thread of its own, so that a blocked event loop does not look like death."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from aiotaskstore.errors import TaskStoreError
from aiotaskstore.events import LoopTroubled
from aiotaskstore.storage.steps import Unit
from aiotaskstore.storage.storage import Storage

if TYPE_CHECKING:
    from aiotaskstore.dispatch.shift import Shift

_MOST_BELIEVED = 10_000
_GUARD_EVERY = 0.5


class Answer(NamedTuple):
    """What the database answered to a sign of life."""

    known: bool
    """False if somebody has declared us dead and rescued our tasks."""
    running: frozenset[tuple[UUID, int]]
    """What it believes we run: (id, fence) each."""
    at: float
    """Our monotonic clock when the sign was sent: the lease counts from there."""


class Pulse:
    """Signs of life and their answers.

    A dispatcher whose signs go unanswered for lease − heartbeat must assume that others will rescue its tasks, and
    ends its runs before they may.
    """

    def __init__(self, shift: Shift) -> None:
        self._shift = shift
        self.steady: int = 0
        """Signs answered in a row since the start, or since the database was last lost."""
        self._answered_at = time.monotonic()
        self._suspects: frozenset[tuple[UUID, int]] = frozenset()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._wake: Callable[[], object] = lambda: None

    @property
    def fresh(self) -> bool:
        """Whether the database has heard from us recently enough to trust our claims."""
        settings = self._shift.settings
        return time.monotonic() - self._answered_at < settings.lease - settings.heartbeat

    def start(self) -> None:
        """Beat from a thread of our own, or from this loop where the database cannot be opened twice."""
        twin = self._shift.storage.twin()
        if twin is None:
            self._shift.spawn(self._beat_here(), "heartbeat")
            return
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._beat_apart(twin, loop)),
            name="aiotaskstore-heartbeat",
            daemon=True,
        )
        self._thread.start()

    async def stop(self) -> None:
        """Beat no more."""
        self._ending.set()
        self._wake()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    async def beat_once(self, storage: Storage) -> Answer:
        """Give one sign of life."""
        me, at = self._shift.dispatcher_id, time.monotonic()

        def ask() -> Unit[tuple[bool, list[tuple[UUID, int]]]]:
            known = yield from storage.dispatchers.beat(me)
            return known, (yield from storage.tasks.running_of(me, _MOST_BELIEVED))

        known, running = await storage.database.write(ask)
        return Answer(known, frozenset(running), at)

    def answered(self, answer: Answer) -> None:
        """Take an answer in; in the dispatcher's own loop."""
        shift = self._shift
        if answer.known:
            self.steady += 1
            self._answered_at = max(self._answered_at, answer.at)
        else:  # claims made before we are known again could be taken from us at once
            self.steady = 0
            shift.disowned()
        if len(answer.running) < _MOST_BELIEVED:
            shift.lose_runs_but(answer.running, answer.at)
        # A claim on its way to us looks like one we do not run; only what is so twice in a row is given back.
        strangers = answer.running - shift.claims()
        lost_claims, self._suspects = strangers & self._suspects, strangers
        if lost_claims:
            shift.give_back(lost_claims)
        shift.wakeup.stir()

    def unanswered(self, error: TaskStoreError) -> None:
        """Hear that a sign found no answer; in the dispatcher's own loop."""
        self.steady = 0
        self._shift.hooks.emit(LoopTroubled("heartbeat", error, self._shift.settings.heartbeat))

    async def guard(self) -> None:
        """End our runs as lost once the database has not heard from us for too long; for ever."""
        while True:
            await asyncio.sleep(min(_GUARD_EVERY, self._shift.settings.heartbeat / 2))
            if not self.fresh:
                self._shift.lose_runs()

    async def _beat_here(self) -> None:
        while True:
            try:
                self.answered(await self.beat_once(self._shift.storage))
            except TaskStoreError as error:
                self.unanswered(error)
            await asyncio.sleep(self._shift.settings.heartbeat)

    async def _beat_apart(self, storage: Storage, loop: asyncio.AbstractEventLoop) -> None:
        """The thread's own loop: connect, beat, connect again after trouble."""
        woken = asyncio.Event()
        mine = asyncio.get_running_loop()
        self._wake = lambda: mine.call_soon_threadsafe(woken.set)
        heartbeat = self._shift.settings.heartbeat
        is_open = False
        while not self._ending.is_set():
            started = time.monotonic()
            try:
                async with asyncio.timeout(self._shift.settings.lease):
                    if not is_open:
                        await storage.database.open()
                        is_open = True
                    answer = await self.beat_once(storage)
            except (TaskStoreError, TimeoutError) as error:
                trouble = error if isinstance(error, TaskStoreError) else TaskStoreError("no answer within the lease")
                _tell(loop, self.unanswered, trouble)
                rest = min(heartbeat, 1.0)
            else:
                _tell(loop, self.answered, answer)
                rest = max(0.0, started + heartbeat - time.monotonic())
            try:
                async with asyncio.timeout(rest):
                    await woken.wait()
            except TimeoutError:
                continue
        if is_open:
            await storage.database.close()


def _tell(loop: asyncio.AbstractEventLoop, hear: Callable[..., None], what: object) -> None:
    try:
        loop.call_soon_threadsafe(hear, what)
    except RuntimeError:  # the dispatcher's loop is closed: its process is ending
        return
