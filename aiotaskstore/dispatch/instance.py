"""One start of a dispatcher, under one identity, from its start to its stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

from aiotaskstore.dispatch.assembly import Assembly
from aiotaskstore.dispatch.dependencies import DispatcherDependencies
from aiotaskstore.dispatch.dispatcher_settings import DispatcherSettings
from aiotaskstore.dispatch.in_flight import InFlight
from aiotaskstore.dispatch.instance_lifecycle import InstanceLifecycle
from aiotaskstore.dispatch.run import StopReason
from aiotaskstore.dispatch.run_once import RunOnce
from aiotaskstore.dispatch.shutdown import Shutdown
from aiotaskstore.events import BackgroundEnded, DispatcherStarted, DispatcherStopped
from aiotaskstore.mechanics.affinity import Affinity
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.storage.database import Database


class DispatcherInstance:
    """Begins the loops of one start, and ends them again. `shutdown.py` has the steps of its stop.

    The instance calls `failed` when one of its loops ended by an error, so that the instance must stop. It calls `over`
    when the stop is complete.
    """

    def __init__(
        self,
        settings: DispatcherSettings,
        dependencies: DispatcherDependencies,
        *,
        failed: Callable[[], None],
        over: Callable[[DispatcherInstance], None],
    ) -> None:
        self._settings, self._dependencies, self._on_failure, self._on_over = settings, dependencies, failed, over
        self._hooks, self._database = dependencies.hooks, dependencies.storage.database
        self.id: UUID = new_id()
        self.affinity: Affinity = Affinity()
        """The event loop and the process in which the instance was started; only there it can be stopped."""
        self.refuse_own_lock: Callable[[str], None] = dependencies.refuse_own_lock
        """Raises `ConfigurationError` with the advice in its text, if the caller would wait for its own transaction."""
        self.life: InstanceLifecycle = InstanceLifecycle(
            settings.name, begin=self._begin, end=self._end, cut=self._cut, failed=self._failed
        )
        self.assembly: Assembly = Assembly(self.id, settings, dependencies, self.life)
        self.run_once: RunOnce | None = None
        """The one pass that the instance makes; `None` if it works until it is stopped."""
        self._shutdown = Shutdown(self.assembly, self.life, stuck_grace=settings.stuck_grace)
        self._unsubscribe: Callable[[], None] = lambda: None
        self._recording: asyncio.Task[None] | None = None
        self._started = False

    @property
    def in_flight(self) -> InFlight:
        """The claims and runs of this instance."""
        return self.assembly.in_flight

    @property
    def database(self) -> Database:
        """The database whose tasks it runs."""
        return self._database

    def prepare_run_once(self, limit: int | None) -> RunOnce:
        """Make the instance run due tasks once, at most `limit`, and stop then. Call this before the start."""
        self.run_once = self.assembly.run_once(limit)
        return self.run_once

    def stop(self, grace: float) -> None:
        """Begin to stop: the instance claims nothing more, and its runs have `grace` seconds to end."""
        self._shutdown.begin(grace)

    def cancel_runs(self) -> None:
        """Cancel the runs and return their tasks to the queue, without waiting for the grace to end."""
        self._shutdown.cancel_runs()

    # ── begin ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _begin(self) -> None:
        """Enter the lifespan, register the dispatcher, then start the recorder, the heartbeat and all other loops."""
        assembly = self.assembly
        assembly.loops.keep(assembly.loop_lag.run(assembly.loops.closing), "loop lag")
        await self._database.probe()
        await self._dependencies.publish()
        await self._dependencies.lifespan.enter(self._lifespan_ended)
        if self.life.stopping:
            return
        await assembly.registration.register()
        if self.life.stopping:
            return
        self._recording = assembly.loops.keep(assembly.recorder.run(), "recorder")
        assembly.loops.keep(assembly.reconciler.guard(assembly.loops.closing), "guard")
        assembly.heartbeat.start()
        assembly.loops.repeat("restrictions", assembly.restrictions.read_once, assembly.restrictions.rest)
        if self.run_once is None:
            await self._begin_loops()
        else:
            assembly.loops.keep(self._make_one_pass(self.run_once), "run_once")

    async def _begin_loops(self) -> None:
        settings, assembly, loops = self._settings, self.assembly, self.assembly.loops
        loops.keep(assembly.listening.run(), "listener")
        await assembly.listening.tried.wait()
        if self.life.stopping:
            return
        loops.repeat("promoter", assembly.promoter.promote_once, assembly.promoter.rest)
        loops.every(settings.poll_interval, "key sweep", assembly.key_sweep.sweep_once)
        loops.repeat("canceller", assembly.canceller.cancel_once, assembly.canceller.rest)
        if settings.schedule_every is not None:
            loops.repeat("scheduler", assembly.scheduler.schedule_once, assembly.scheduler.rest)
        if settings.rescue_every is not None:
            loops.every(settings.rescue_every, "healer", assembly.healer.rescue_once)
        if settings.clean_every is not None:
            loops.every(settings.clean_every, "cleaner", assembly.cleaner.clean_once)
        loops.keep(assembly.claimer.run(), "claimer")
        self._unsubscribe = self._dependencies.notifier.subscribe(*assembly.subscribers)
        self._started = True
        without_listener = "memory" if self._database.shared_memory else "poll"
        waking = self._database.waking if assembly.listening.active else without_listener
        self._hooks.emit(DispatcherStarted(self.id, settings.name, waking))

    async def _make_one_pass(self, run_once: RunOnce) -> None:
        try:
            await run_once.run()
        finally:
            self.stop(self._settings.grace)

    # ── end ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _end(self) -> None:
        await self._shutdown.carry_out(self._unsubscribe, self._recording)

    def _cut(self) -> None:
        """Cancel every background task that still exists, also if the stop itself failed."""
        self.assembly.close_loops()
        self.assembly.heartbeat.end()
        self._unsubscribe()
        self.life.tasks.cancel()
        self._dependencies.lifespan.release(self._lifespan_ended)
        if self._started:
            self._hooks.emit(DispatcherStopped(self.id, self._settings.name, self.life.drained))
        self._on_over(self)

    def _lifespan_ended(self, error: BaseException) -> None:
        self.life.tasks.fail("lifespan", error)

    def _failed(self, loop: str, error: BaseException) -> None:
        self.stop(0)
        self._hooks.emit(BackgroundEnded(loop, error, self.id))
        self.in_flight.stop(StopReason.SHUTDOWN)
        self._on_failure()
