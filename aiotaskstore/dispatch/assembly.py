"""Constructs the objects of one dispatcher instance. Each object receives its dependencies by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from functools import partial
from uuid import UUID

import anyio

from aiotaskstore.dispatch.after_hooks import AfterHooks
from aiotaskstore.dispatch.canceller import Canceller
from aiotaskstore.dispatch.claim_releaser import ClaimReleaser
from aiotaskstore.dispatch.claim_sender import ClaimSender
from aiotaskstore.dispatch.claimer import Claimer
from aiotaskstore.dispatch.cleaner import Cleaner
from aiotaskstore.dispatch.deadlines import Deadlines
from aiotaskstore.dispatch.dependencies import DispatcherDependencies, KeyGrants
from aiotaskstore.dispatch.dispatcher_settings import DispatcherSettings
from aiotaskstore.dispatch.freed_keys import FreedKeys
from aiotaskstore.dispatch.heartbeat import HeartbeatSender
from aiotaskstore.dispatch.in_flight import InFlight
from aiotaskstore.dispatch.instance_lifecycle import InstanceLifecycle
from aiotaskstore.dispatch.key_sweep import KeySweep
from aiotaskstore.dispatch.lease import Lease
from aiotaskstore.dispatch.listening import Listening
from aiotaskstore.dispatch.loop_backoff import LoopBackoffs
from aiotaskstore.dispatch.loop_lag import LoopLag
from aiotaskstore.dispatch.loops import Loops
from aiotaskstore.dispatch.outcome_events import OutcomeEvents
from aiotaskstore.dispatch.promoter import Promoter
from aiotaskstore.dispatch.reconciler import Reconciler
from aiotaskstore.dispatch.recorder import MOST_UNWRITTEN, Recorder
from aiotaskstore.dispatch.registration import Registration
from aiotaskstore.dispatch.rescue import Healer
from aiotaskstore.dispatch.restriction_reader import RestrictionReader
from aiotaskstore.dispatch.run import Run, RunDependencies, RunRecorder
from aiotaskstore.dispatch.run_once import RunOnce
from aiotaskstore.dispatch.scheduler import Scheduler
from aiotaskstore.dispatch.slots import Slots
from aiotaskstore.dispatch.unseen_claims import UnseenClaims
from aiotaskstore.dispatch.wakeup import Wakeup
from aiotaskstore.mechanics.hint import Hint, queue_hint
from aiotaskstore.mechanics.notifier import Subscriber


def run_dependencies(
    given: DispatcherDependencies,
    dispatcher_id: UUID,
    recorder: RunRecorder,
    runs: Callable[[], Collection[Run]],
    *,
    stuck_grace: float,
    lock_for: float,
) -> RunDependencies:
    """Construct what the runs of a dispatcher instance, or of a test, share; `runs` returns those under way."""
    return RunDependencies(
        dispatcher_id=dispatcher_id,
        database=given.storage.database,
        hooks=given.hooks,
        run_hooks=given.run_hooks,
        carriers=given.carriers,
        middleware=given.middleware,
        lifespan=given.lifespan,
        recorder=recorder,
        deadlines=Deadlines(runs, given.clock.timers()),
        # A limiter of our own, since anyio's is shared with the application. The slots are the limit.
        threads=anyio.CapacityLimiter(math.inf),
        store=given.store,
        queues=given.queues,
        result_limit=given.result_limit,
        stuck_grace=stuck_grace,
        tasks=given.storage.tasks,
        run_transaction=partial(given.run_transaction, lock_for=lock_for),
    )


class Assembly:
    """Constructs the objects in the order of their dependencies. No decision is made here."""

    def __init__(
        self,
        dispatcher_id: UUID,
        settings: DispatcherSettings,
        dependencies: DispatcherDependencies,
        life: InstanceLifecycle,
    ) -> None:
        self._dispatcher_id, self._settings, self._dependencies, self._life = (
            dispatcher_id,
            settings,
            dependencies,
            life,
        )
        self._storage, self._hooks = dependencies.storage, dependencies.hooks
        self.backoffs: LoopBackoffs = LoopBackoffs(self._hooks)
        self.loops: Loops = Loops(life.tasks, self.backoffs)
        self.loop_lag: LoopLag = LoopLag()
        self._make_waking()
        self._make_runs()
        self._make_heartbeat()
        self._make_claimer()
        self.healer: Healer = Healer(
            dispatcher_id,
            settings,
            self._storage,
            self._hooks,
            lease=self.lease,
            notify=dependencies.notifier.notify,
            key_grants=dependencies.key_grants,
        )
        self.cleaner: Cleaner = Cleaner(self._storage)
        self._make_scheduler()

    @property
    def subscribers(self) -> tuple[Subscriber, ...]:
        """The functions that receive each hint."""
        return (
            self.restrictions.receive,
            self.wakeup.receive,
            self.promoter.receive,
            self.scheduler.receive,
            self.canceller.receive,
        )

    def run_once(self, limit: int | None) -> RunOnce:
        """Construct one pass over the due tasks, at most `limit` of them."""
        return RunOnce(
            limit,
            heartbeat=self.heartbeat,
            healer=self.healer,
            promoter=self.promoter,
            scheduler=self.scheduler if self._settings.schedule_every is not None else None,
            key_sweep=self.key_sweep,
            key_grants=self.key_grants,
            wakeup=self.wakeup,
            claimer=self.claimer,
            in_flight=self.in_flight,
            recorder=self.recorder,
            stopping=self._stopping,
        )

    def close_loops(self) -> None:
        """Set `closing`, and end every wait of a loop, so that each loop ends."""
        self.loops.closing.set()
        self.recorder.close()
        self.after_hooks.close()
        self.promoter.look()
        self.canceller.look()
        self.restrictions.wake()
        self.scheduler.look()
        self.wakeup.wake()
        self.listening.end()
        self.backoffs.retry_now()

    def _make_waking(self) -> None:
        storage, poll_interval = self._storage, self._settings.poll_interval
        self.key_grants: KeyGrants = self._dependencies.key_grants
        self.promoter: Promoter = Promoter(storage, poll_interval, self._dependencies.notifier.notify, self.key_grants)
        self.key_sweep: KeySweep = KeySweep(
            storage,
            self.key_grants,
            passing_on=lambda: [*self.recorder.keys_to_free, *self.freed_keys.passing_on],
        )
        self.listening: Listening = Listening(
            storage.database,
            self._hooks,
            receive=self._receive,
            poll_interval=poll_interval,
            backoff=self.backoffs.create("listener"),
            closing=self.loops.closing,
            spawn=partial(self._life.tasks.spawn, name="aiotaskstore listener's connection"),
        )
        self.wakeup: Wakeup = Wakeup(
            poll_interval,
            listening=lambda: self.listening.active,
            mark_idle=self._mark_idle if storage.database.notifies_idle_dispatchers else None,
            expects_work=lambda: self.key_grants.pending or bool(self.recorder.keys_to_free),
        )
        self.freed_keys: FreedKeys = FreedKeys(self.key_grants, receive=self.wakeup.receive, stopping=self._stopping)
        self.restrictions: RestrictionReader = RestrictionReader(storage, self._hooks, wake=self.wakeup.receive)

    def _make_scheduler(self) -> None:
        given = self._dependencies
        self.scheduler: Scheduler = Scheduler(
            self._storage,
            self._hooks,
            self._settings,
            registry=given.schedules,
            prepare=given.prepare_occurrence,
            notify=given.notifier.notify,
            key_grants=given.key_grants,
            spawn=partial(self._life.tasks.spawn, name="aiotaskstore scheduler's function"),
        )

    def _make_runs(self) -> None:
        settings, given = self._settings, self._dependencies
        self.lease: Lease = Lease(settings.lease, settings.heartbeat)
        self.after_hooks: AfterHooks = AfterHooks(given.run_hooks, self._storage, self._hooks, self._life.tasks)
        self.recorder: Recorder = Recorder(
            self._storage,
            OutcomeEvents(self._hooks, self._returned_to_queue, self.after_hooks.call),
            self.lease,
            backoff=self.backoffs.create("recorder"),
            freed_keys=self.freed_keys,
            own_lock=given.own_lock,
            refused=lambda claim, error: given.report(claim.queue, claim.id, error),
        )
        limits = {name: queue.concurrency for name, queue in given.queues.items() if queue.concurrency}
        limits |= {name: slots for name, slots in (settings.queues or {}).items() if slots}
        runs = run_dependencies(
            given,
            self._dispatcher_id,
            self.recorder,
            lambda: self.in_flight.runs.values(),  # noqa: PLW0108 - it is made below
            stuck_grace=settings.stuck_grace,
            lock_for=settings.lock_for,
        )
        self.in_flight: InFlight = InFlight(
            Slots(limits, settings.concurrency),
            runs,
            registry=given.registry,
            spawn=self._life.tasks.spawn,
            emptied=self._life.changed.set,
        )
        self.canceller: Canceller = Canceller(self._dispatcher_id, self._storage, self.in_flight.runs)

    def _make_heartbeat(self) -> None:
        dispatcher_id, settings, storage = self._dispatcher_id, self._settings, self._storage
        self.releaser: ClaimReleaser = ClaimReleaser(
            settings.heartbeat, storage, self._hooks, self.wakeup, self._life.tasks.spawn
        )
        self.registration: Registration = Registration(
            dispatcher_id,
            settings,
            storage,
            self._hooks,
            registry=self._dependencies.registry,
            wakeup=self.wakeup,
            releaser=self.releaser,
            spawn=self._life.tasks.spawn,
        )
        self.reconciler: Reconciler = Reconciler(
            settings.heartbeat,
            self.lease,
            self.in_flight,
            self.registration,
            self.backoffs,
            unseen_claims=UnseenClaims(self.releaser, lambda: self.claim_sender.counts),
            wake=self.wakeup.wake,
        )
        self.heartbeat: HeartbeatSender = HeartbeatSender(dispatcher_id, settings, storage, self.reconciler, self.loops)

    def _make_claimer(self) -> None:
        self.claim_sender: ClaimSender = ClaimSender(
            self._dispatcher_id,
            self._storage,
            self._dependencies.registry,
            restrictions=self.restrictions,
            release=self.releaser.release,
            freed_keys=self.freed_keys,
        )
        self.claimer: Claimer = Claimer(
            self._settings,
            self.claim_sender,
            self.in_flight,
            self.wakeup,
            backoff=self.backoffs.create("claimer"),
            may_claim=self._may_claim,
            stopping=self._stopping,
        )

    # ── between the parts ─────────────────────────────────────────────────────────────────────────────────

    def _stopping(self) -> bool:
        return self._life.stopping

    def _may_claim(self) -> bool:
        return self.lease.fresh and self.recorder.backlog <= MOST_UNWRITTEN and self.after_hooks.has_room()

    def _returned_to_queue(self, queue: str, delay: float | None) -> None:
        """Wake the loop that acts next on a task that was returned to the queue and may run after `delay` seconds."""
        if delay:
            self.promoter.look()
        elif self._life.stopping:  # other dispatchers must claim the task, since this one claims nothing more
            self._dependencies.notifier.notify(queue_hint(queue))
        else:
            self.wakeup.receive(queue_hint(queue))

    def _receive(self, hint: Hint) -> None:
        """Pass on a hint of another process, to this instance only: each dispatcher has a listener of its own."""
        for subscriber in self.subscribers:
            subscriber(hint)

    async def _mark_idle(self, *, idle: bool) -> None:
        set_idle = self._storage.dispatchers.set_idle
        await self._storage.database.write(partial(set_idle, self._dispatcher_id, idle=idle))
