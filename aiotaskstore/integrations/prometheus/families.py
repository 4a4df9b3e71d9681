"""The metrics themselves: their names, labels and buckets, once for each registry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

M = TypeVar("M", Counter, Gauge, Histogram)

MOST_NAMES = 200
"""The most names of tasks, of queues and of schedules that become labels; all further ones share a label."""
OTHER = "other"
"""The label of names beyond these."""

_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600,
)  # fmt: skip
_BYTES = (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
_TASK = ("queue", "task")


class LabelBound:
    """The first names that come are labels, as many as there may be; all others are `other`."""

    def __init__(self, most: int = MOST_NAMES) -> None:
        self._most, self._names = most, set[str]()

    def __call__(self, name: str) -> str:
        """Return the label of a name."""
        if name in self._names:
            return name
        if len(self._names) >= self._most:
            return OTHER
        self._names.add(name)
        return name


class Family(Generic[M]):
    """One metric. Keeps its children by their labels, since the library takes longer to look one up than to count."""

    def __init__(self, metric: M, bounds: Iterable[LabelBound | None]) -> None:
        self.metric: M = metric
        self._bounds = tuple(bounds)
        self._children: dict[tuple[str, ...], M] = {}

    def of(self, *labels: str) -> M:
        """Return the child with these labels; names that are too many share one."""
        child = self._children.get(labels)
        if child is None:
            bounded = [bound(label) if bound else label for bound, label in zip(self._bounds, labels, strict=True)]
            child = self.metric.labels(*bounded)
            if tuple(bounded) == labels:
                self._children[labels] = child
        return child


class Families:
    """The metrics of one registry. Stores that share a registry share them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        queue, task, schedule = LabelBound(), LabelBound(), LabelBound()
        self._bounds = {"queue": queue, "task": task, "schedule": schedule}
        self.enqueued: Family[Counter] = self._counter("tasks_enqueued", "Tasks that this process stored.", _TASK)
        self.completed: Family[Counter] = self._counter(
            "tasks_completed", "Tasks that runs or rescues of this process finished.", (*_TASK, "outcome")
        )
        self.retried: Family[Counter] = self._counter(
            "tasks_retried", "Attempts that ended with another one to follow.", (*_TASK, "reason")
        )
        self.undecodable: Family[Counter] = self._counter(
            "tasks_undecodable", "Attempts whose payload did not fit their handler.", _TASK
        )
        self.claims_lost: Family[Counter] = self._counter(
            "claims_lost", "Outcomes dropped, since the claim was lost.", _TASK
        )
        self.rescued: Family[Counter] = self._counter(
            "tasks_rescued", "Tasks of dead dispatchers that this process rescued.", (*_TASK, "status")
        )
        self.duration: Family[Histogram] = self._durations(
            "task_duration_seconds", "How long handlers took, each attempt.", _TASK
        )
        self.wait: Family[Histogram] = self._durations(
            "task_wait_seconds", "How late tasks were claimed, counted from run_at.", _TASK
        )
        self.end_to_end: Family[Histogram] = self._durations(
            "task_end_to_end_seconds", "From the creation of tasks to their stored outcome.", _TASK
        )
        self.payload: Family[Histogram] = self._sizes("task_payload_bytes", "Payloads of stored tasks, as JSON.", _TASK)
        self.result: Family[Histogram] = self._sizes("task_result_bytes", "Results of succeeded tasks, as JSON.", _TASK)
        self.fired: Family[Counter] = self._counter(
            "schedules_fired", "Occurrences of schedules made into tasks.", ("schedule",)
        )
        self.lag: Family[Histogram] = self._durations(
            "schedule_lag_seconds", "How late occurrences were seen.", ("schedule",)
        )
        self.background_failures: Family[Counter] = self._counter(
            "background_failures", "Failures of loops, which try again: the database away, for one.", ("loop",)
        )
        self.loops_ended: Family[Counter] = self._counter(
            "loops_ended", "Loops that an error ended, which must not happen.", ("loop",)
        )
        self.listener_failures: Family[Counter] = self._counter(
            "listener_failures", "Listeners and hooks that raised.", ()
        )
        self.depth: Family[Gauge] = self._gauge(
            "queue_depth", "Tasks of a queue by state, counted up to 10,000.", ("queue", "state"), "livemostrecent"
        )
        self.oldest_pending: Family[Gauge] = self._gauge(
            "oldest_pending_seconds", "Age of the oldest task due and not started.", ("queue",), "livemostrecent"
        )
        self.paused: Family[Gauge] = self._gauge(
            "queue_paused", "1 while a queue is paused.", ("queue",), "livemostrecent"
        )
        self.serving: Family[Gauge] = self._gauge(
            "queue_dispatchers", "Dispatchers alive that serve a queue.", ("queue",), "livemostrecent"
        )
        self.dispatchers: Family[Gauge] = self._gauge(
            "dispatchers", "Dispatchers alive, of all processes.", (), "livemostrecent"
        )
        self.overdue: Family[Gauge] = self._gauge(
            "schedule_overdue_seconds", "For how long a schedule has been due and not fired.", (), "livemostrecent"
        )
        self.slots: Family[Gauge] = self._gauge(
            "slots_in_use", "Slots taken by runs of this process.", ("queue",), "livesum"
        )
        self.abandoned: Family[Gauge] = self._gauge(
            "handlers_abandoned", "Handlers that ignored their cancellation.", (), "livesum"
        )
        self.notify_connected: Family[Gauge] = self._gauge(
            "notify_connected", "1 while hints of other processes can arrive; else it polls.", ("waking",), "livemin"
        )
        self.loop_lag: Family[Gauge] = self._gauge("loop_lag_seconds", "How late the event loop is.", (), "livemax")

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Family[Counter]:
        return self._family(Counter(f"aiotaskstore_{name}", text, labels, registry=self._registry), labels)

    def _durations(self, name: str, text: str, labels: tuple[str, ...]) -> Family[Histogram]:
        histogram = Histogram(f"aiotaskstore_{name}", text, labels, buckets=_SECONDS, registry=self._registry)
        return self._family(histogram, labels)

    def _sizes(self, name: str, text: str, labels: tuple[str, ...]) -> Family[Histogram]:
        histogram = Histogram(f"aiotaskstore_{name}", text, labels, buckets=_BYTES, registry=self._registry)
        return self._family(histogram, labels)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...], among_processes: Any) -> Family[Gauge]:
        gauge = Gauge(f"aiotaskstore_{name}", text, labels, multiprocess_mode=among_processes, registry=self._registry)
        return self._family(gauge, labels)

    def _family(self, metric: M, labels: tuple[str, ...]) -> Family[M]:
        return Family(metric, [self._bounds.get(label) for label in labels])
