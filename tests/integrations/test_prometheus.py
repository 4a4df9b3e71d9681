"""Metrics: what a scrape tells after real runs, and that documentation, dashboard and alerts know the same names."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry, Counter, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from aiotaskstore import (
    BackgroundEnded,
    BackgroundFailed,
    ClaimLost,
    ConfigurationError,
    ListenerFailed,
    ScheduleFired,
    TaskEnqueued,
    TaskRescued,
    TaskRetried,
    TaskStatus,
    TaskStore,
)
from aiotaskstore.events import Event
from aiotaskstore.integrations.prometheus import instrument
from aiotaskstore.integrations.prometheus.families import MOST_NAMES, Families

ROOT = Path(__file__).resolve().parents[2]
ID = UUID(int=7)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def scraped(registry: CollectorRegistry) -> Iterator[str]:
    """The address of the registry's metrics, over HTTP."""
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    yield f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    server.server_close()
    thread.join()


def scrape(address: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    with urllib.request.urlopen(address, timeout=60) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def value(samples: Any, name: str, **labels: str) -> float:
    return float(samples[f"aiotaskstore_{name}", frozenset(labels.items())])


async def test_a_scrape_tells_what_has_run(store: TaskStore, registry: CollectorRegistry, scraped: str):
    @store.task(queue="emails")
    async def send(text: str) -> str:
        return text

    @store.task(max_attempts=2, backoff=0)
    async def fails() -> None:
        raise ValueError("no good")

    instrument(store, registry)
    await store.enqueue_many([send.draft("hi") for _ in range(3)])
    await fails.enqueue()
    measuring = store._require_open()._measuring
    await measuring.measure_once()
    waiting = scrape(scraped)
    await store.dispatcher().run_once()
    await measuring.measure_once()
    after = scrape(scraped)
    assert value(waiting, "queue_depth", queue="emails", state="pending") == 3
    assert value(waiting, "queue_dispatchers", queue="emails") == 0
    assert value(after, "queue_depth", queue="emails", state="pending") == 0
    emails, failing = {"queue": "emails", "task": "send"}, {"queue": "default", "task": "fails"}
    assert value(after, "tasks_enqueued_total", **emails) == 3
    assert value(after, "task_payload_bytes_sum", **emails) == 3 * len('{"text":"hi"}')
    assert value(after, "tasks_completed_total", **emails, outcome="succeeded") == 3
    assert value(after, "task_result_bytes_sum", **emails) == 3 * len('"hi"')
    assert value(after, "tasks_completed_total", **failing, outcome="failed") == 1
    assert value(after, "tasks_retried_total", **failing, reason="error") == 1
    for name in ("task_duration_seconds_count", "task_wait_seconds_count"):
        assert (value(after, name, **emails), value(after, name, **failing)) == (3, 2)
    assert value(after, "task_end_to_end_seconds_count", **failing) == 1
    assert 0 < value(after, "task_end_to_end_seconds_sum", **failing) < 600


async def test_a_scrape_tells_what_runs_now(sqlite_url: str, registry: CollectorRegistry, scraped: str):
    store = TaskStore(sqlite_url)
    seen: list[Any] = []

    @store.task(queue="emails")
    def look() -> None:
        seen.append(scrape(scraped))

    instrument(store, registry)
    async with store, store.dispatcher():
        await (await look.enqueue()).wait(timeout=60)
    stopped = scrape(scraped)  # nobody has scraped since a slot was taken
    assert value(seen[0], "slots_in_use", queue="emails") == 1
    assert value(seen[0], "notify_connected", waking="data_version") == 1
    assert value(stopped, "slots_in_use", queue="emails") == 0
    assert 0 <= value(seen[0], "loop_lag_seconds") < 60


EVENTS: list[tuple[Event, str, dict[str, str]]] = [
    (ClaimLost(ID, "a", "q", 1), "claims_lost_total", {"queue": "q", "task": "a"}),
    (TaskRescued(ID, "a", "q", TaskStatus.PENDING, ID), "tasks_rescued_total",
     {"queue": "q", "task": "a", "status": "pending"}),
    (TaskRescued(ID, "a", "q", TaskStatus.INTERRUPTED, ID), "tasks_completed_total",
     {"queue": "q", "task": "a", "outcome": "interrupted"}),
    (TaskRetried(ID, "a", "q", 1, 0.0, 1.0, "error", undecodable=True), "tasks_undecodable_total",
     {"queue": "q", "task": "a"}),
    (ScheduleFired(ID, "a", "q", ID, "nightly", datetime.now(UTC), 2.5), "schedules_fired_total",
     {"schedule": "nightly"}),
    (ScheduleFired(ID, "a", "q", ID, "nightly", datetime.now(UTC), 1.0), "schedule_lag_seconds_sum",
     {"schedule": "nightly"}),
    (BackgroundFailed("claimer", ValueError(), 1), "background_failures_total", {"loop": "claimer"}),
    (BackgroundEnded("claimer", ValueError()), "loops_ended_total", {"loop": "claimer"}),
    (ListenerFailed(print, ValueError()), "listener_failures_total", {}),
]  # fmt: skip


@pytest.mark.parametrize(("event", "name", "labels"), EVENTS, ids=[name for _, name, _ in EVENTS])
def test_each_event_is_counted(event: Event, name: str, labels: dict[str, str], registry: CollectorRegistry):
    store = TaskStore("sqlite://")
    instrument(store, registry)
    store._hooks.emit(event)
    assert registry.get_sample_value(f"aiotaskstore_{name}", labels) == 1


def test_a_store_is_instrumented_once_until_that_ends(registry: CollectorRegistry):
    store, event = TaskStore("sqlite://"), TaskEnqueued(ID, "a", "q", 2)
    first = instrument(store, registry)
    assert instrument(store, registry) is first
    store._hooks.emit(event)
    first.end()
    first.end()
    assert not store._hooks.has_listener(TaskEnqueued)
    store._hooks.emit(event)
    with instrument(store, registry) as second:
        assert second is not first
        store._hooks.emit(event)
    counted = registry.get_sample_value("aiotaskstore_tasks_enqueued_total", {"queue": "q", "task": "a"})
    assert counted == 2


def test_names_beyond_the_limit_share_a_label(registry: CollectorRegistry):
    store = TaskStore("sqlite://")
    instrument(store, registry)
    for number in range(MOST_NAMES + 50):
        store._hooks.emit(TaskEnqueued(ID, f"task {number}", "q"))
    (family,) = (one for one in registry.collect() if one.name == "aiotaskstore_tasks_enqueued")
    counted = {one.labels["task"]: one.value for one in family.samples if one.name.endswith("_total")}
    assert len(counted) == MOST_NAMES + 1
    assert counted["other"] == 50


def test_what_cannot_be_instrumented_is_a_configuration_error(registry: CollectorRegistry):
    with pytest.raises(ConfigurationError, match="takes a TaskStore"):
        instrument("sqlite://", registry)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="must be a CollectorRegistry"):
        instrument(TaskStore("sqlite://"), "here")  # type: ignore[arg-type]
    Counter("aiotaskstore_claims_lost", "Somebody else's.", registry=registry)
    with pytest.raises(ConfigurationError, match="Pass another registry"):
        instrument(TaskStore("sqlite://"), registry)


def test_without_the_package_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch):
    for name in [one for one in sys.modules if one.startswith("aiotaskstore.integrations.prometheus")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'aiotaskstore\[prometheus\]'"):
        __import__("aiotaskstore.integrations.prometheus")


# ── documentation ─────────────────────────────────────────────────────────────────────────────────────────────


def documented() -> dict[str, tuple[str, tuple[str, ...]]]:
    """The table of the guide: each metric's type and labels."""
    page = (ROOT / "docs" / "guide" / "watching.md").read_text("utf-8")
    rows = re.findall(r"^\| `(aiotaskstore_\w+)` \| (\w+) \| ([^|]*) \|", page, re.MULTILINE)
    return {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def test_the_guide_lists_every_metric_with_its_type_and_labels(registry: CollectorRegistry):
    metrics = [family.metric for family in vars(Families(registry)).values() if hasattr(family, "metric")]
    ours = {
        metric._name + ("_total" if metric._type == "counter" else ""): (metric._type, tuple(metric._labelnames))
        for metric in metrics
    }
    assert documented() == ours


@pytest.mark.parametrize("file", ["grafana.json", "alerts.yml"])
def test_dashboard_and_alerts_use_only_metrics_and_labels_that_exist(file: str):
    text = (ROOT / "docs" / "monitoring" / file).read_text("utf-8")
    known = documented()
    names = set(re.findall(r"aiotaskstore_\w+", text))
    assert names
    for name in names:
        assert re.sub(r"_(bucket|sum|count)$", "", name) in known, name
    labels = {label for _, of_one in known.values() for label in of_one} | {"instance", "le"}
    for group in re.findall(r"(?:by|on) \(([^)]*)\)", text):
        assert set(group.split(", ")) <= labels, group


def test_the_dashboard_is_valid_and_its_panels_lie_side_by_side():
    board = json.loads((ROOT / "docs" / "monitoring" / "grafana.json").read_text("utf-8"))
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in board["panels"]})
    assert all(
        target["expr"].count("(") == target["expr"].count(")") for one in board["panels"] for target in one["targets"]
    )


def test_there_are_four_alerts_each_with_an_expression_and_a_summary():
    rules = (ROOT / "docs" / "monitoring" / "alerts.yml").read_text("utf-8").split("- alert: ")[1:]
    assert [rule.split("\n")[0] for rule in rules] == [
        "TasksWaitTooLong", "TasksFail", "BacklogWithoutDispatcher", "ScheduleMissed",
    ]  # fmt: skip
    for rule in rules:
        assert "expr:" in rule
        assert "summary:" in rule
