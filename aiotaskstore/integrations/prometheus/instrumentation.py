"""Instrumentation of a store: its events become counts, its health and its queues become gauges."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self
from weakref import WeakKeyDictionary, WeakSet, ref

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from aiotaskstore.errors import ConfigurationError
from aiotaskstore.events import (
    BackgroundEnded,
    BackgroundFailed,
    ClaimLost,
    Event,
    ListenerFailed,
    QueuesMeasured,
    ScheduleFired,
    TaskClaimed,
    TaskEnqueued,
    TaskFinished,
    TaskRescued,
    TaskRetried,
)
from aiotaskstore.integrations.prometheus.families import Families
from aiotaskstore.queue_measurement import QueueMeasurement
from aiotaskstore.taskstore import TaskStore

_STATES = ("pending", "scheduled", "waiting", "running")


def instrument(store: TaskStore, registry: CollectorRegistry = REGISTRY) -> Instrumentation:
    """Count what a store does in this process, and measure its queues, in a Prometheus registry.

    May be called before the store is opened or after, once or again: a store has one instrumentation in a registry.
    Stores of several databases that have queues of the same names need a registry each. Returns what ends it.
    Raises `ConfigurationError` for something else than a store or a registry, and for a registry in which somebody
    else has a metric of the same name.
    """
    if not isinstance(store, TaskStore):
        raise ConfigurationError(f"instrument() takes a TaskStore, not {store!r:.100}.")
    if not isinstance(registry, CollectorRegistry):
        raise ConfigurationError(f"registry must be a CollectorRegistry of prometheus_client, not {registry!r:.100}.")
    return _sampler_of(registry).instrument(store)


class Instrumentation:
    """What counts the events of one store. Ends by `end()`, or at the end of a `with` block; its counts stay."""

    def __init__(self, store: TaskStore, families: Families) -> None:
        self.store: TaskStore = store
        self._families = families
        self._measured: set[str] = set()
        self._listeners: tuple[tuple[type[Event], Callable[[Any], None]], ...] = (
            (TaskEnqueued, self._enqueued),
            (TaskClaimed, self._claimed),
            (TaskFinished, self._finished),
            (TaskRetried, self._retried),
            (ClaimLost, self._claim_lost),
            (TaskRescued, self._rescued),
            (ScheduleFired, self._fired),
            (BackgroundFailed, self._background_failed),
            (BackgroundEnded, self._background_ended),
            (ListenerFailed, self._listener_failed),
            (QueuesMeasured, self._queues_measured),
        )
        self.active: bool = True
        """Whether it counts."""
        for kind, listener in self._listeners:
            store.on(kind, listener)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Count no more; a second call is a no-op."""
        self.active = False
        for kind, listener in self._listeners:
            self.store.off(kind, listener)

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────

    def _enqueued(self, event: TaskEnqueued) -> None:
        self._families.enqueued.of(event.queue, event.alias).inc()
        self._families.payload.of(event.queue, event.alias).observe(event.payload_size)

    def _claimed(self, event: TaskClaimed) -> None:
        self._families.wait.of(event.queue, event.alias).observe(event.wait)

    def _finished(self, event: TaskFinished) -> None:
        queue, alias, families = event.queue, event.alias, self._families
        families.completed.of(queue, alias, event.status.value).inc()
        families.end_to_end.of(queue, alias).observe(event.end_to_end)
        if event.result_size is not None:
            families.result.of(queue, alias).observe(event.result_size)
        self._attempted(queue, alias, event.took, undecodable=event.undecodable)

    def _retried(self, event: TaskRetried) -> None:
        self._families.retried.of(event.queue, event.alias, event.reason).inc()
        self._attempted(event.queue, event.alias, event.took, undecodable=event.undecodable)

    def _attempted(self, queue: str, alias: str, took: float, *, undecodable: bool) -> None:
        if undecodable:
            self._families.undecodable.of(queue, alias).inc()
        else:
            self._families.duration.of(queue, alias).observe(took)

    def _claim_lost(self, event: ClaimLost) -> None:
        self._families.claims_lost.of(event.queue, event.alias).inc()

    def _rescued(self, event: TaskRescued) -> None:
        self._families.rescued.of(event.queue, event.alias, event.status.value).inc()
        if event.status.finished:
            self._families.completed.of(event.queue, event.alias, event.status.value).inc()

    # ── around them ───────────────────────────────────────────────────────────────────────────────────────

    def _fired(self, event: ScheduleFired) -> None:
        self._families.fired.of(event.name).inc()
        self._families.lag.of(event.name).observe(event.lag)

    def _background_failed(self, event: BackgroundFailed) -> None:
        self._families.background_failures.of(event.loop).inc()

    def _background_ended(self, event: BackgroundEnded) -> None:
        self._families.loops_ended.of(event.loop).inc()

    def _listener_failed(self, _event: ListenerFailed) -> None:
        self._families.listener_failures.metric.inc()

    def _queues_measured(self, event: QueuesMeasured) -> None:
        families = self._families
        families.dispatchers.metric.set(event.dispatchers)
        families.overdue.metric.set(event.schedule_overdue)
        # A queue that is empty by now is not measured any more. To delete its series is impossible with several
        # processes, so that it becomes 0.
        empty = self._measured - {queue.name for queue in event.queues}
        for queue in (*event.queues, *map(QueueMeasurement, empty)):
            for state in _STATES:
                families.depth.of(queue.name, state).set(queue.depth.get(state, 0))
            families.oldest_pending.of(queue.name).set(queue.oldest_due)
            families.paused.of(queue.name).set(queue.paused)
            families.serving.of(queue.name).set(queue.dispatchers)
        self._measured = {queue.name for queue in event.queues} | empty


class Sampler(Collector):
    """Reads the health of all stores of a registry when that is scraped. It asks no database, and adds no metric."""

    def __init__(self, registry: CollectorRegistry) -> None:
        registry.register(self)  # before the metrics, so that they are sampled before they are collected
        self._families = Families(registry)
        self._instrumentations: WeakSet[Instrumentation] = WeakSet()
        self._queues: set[str] = set()

    def instrument(self, store: TaskStore) -> Instrumentation:
        """Return the instrumentation of a store in this registry, a new one if there is none."""
        for one in self._instrumentations:
            if one.store is store and one.active:
                return one
        made = Instrumentation(store, self._families)
        self._instrumentations.add(made)
        return made

    def collect(self) -> Iterable[Metric]:
        """Bring the gauges of this process up to date; callable from any thread."""
        stores = [one.store for one in self._instrumentations if one.active]
        dispatchers = [dispatcher for store in stores for dispatcher in store.health().dispatchers]
        slots = dict.fromkeys(self._queues, 0)
        for dispatcher in dispatchers:
            for queue, taken in dispatcher.slots_in_use.items():
                slots[queue] = slots.get(queue, 0) + taken
            self._families.notify_connected.of(dispatcher.waking).set(dispatcher.listening)
        for queue, taken in slots.items():
            self._families.slots.of(queue).set(taken)
        self._queues = set(slots)
        self._families.abandoned.metric.set(sum(one.abandoned for one in dispatchers))
        self._families.loop_lag.metric.set(max((one.loop_lag for one in dispatchers), default=0))
        return ()

    def describe(self) -> Iterable[Metric]:
        """Name no metric."""
        return ()


_samplers: WeakKeyDictionary[CollectorRegistry, ref[Sampler]] = WeakKeyDictionary()
"""By registry, which holds its sampler itself."""


def _sampler_of(registry: CollectorRegistry) -> Sampler:
    known = _samplers.get(registry)
    sampler = known() if known is not None else None
    if sampler is None:
        try:
            sampler = Sampler(registry)
        except ValueError as error:
            raise ConfigurationError(
                f"The registry has metrics of these names already, which are not ours: {error}. Pass another registry."
            ) from error
        _samplers[registry] = ref(sampler)
    return sampler
