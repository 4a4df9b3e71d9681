"""The server of metrics and health: which reply means what, and that nothing of it is left."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aiotaskstore import TaskStore
from aiotaskstore.cli.exit_code import Failure
from aiotaskstore.cli.metrics_server import MetricsServer, Page, page_at, text_page
from aiotaskstore.cli.watched_worker import WatchedWorker
from aiotaskstore.cli.watched_workers import WatchedWorkers
from tests.helpers import eventually


class Told:
    """What a server tells in these tests."""

    def __init__(self, *, live: bool = True, ready: bool = True) -> None:
        self.live, self.ready = live, ready

    def metrics(self) -> Page:
        return text_page(200, "counted 1")

    def health(self) -> Mapping[str, Any]:
        return {"live": self.live, "ready": self.ready, "problems": ()}


class Broken(Told):
    def metrics(self) -> Page:
        raise ValueError("a bug")


class ToldByAWorker(Told):
    def health(self) -> Mapping[str, Any]:
        worker = {"pid": 11, "live": True, "ready": True, "problems": [], "dispatchers": []}
        return {**worker, "workers": [worker]}


@pytest.mark.parametrize(
    ("live", "ready", "statuses"),
    [(True, True, (200, 200, 200)), (True, False, (503, 200, 503)), (False, False, (503, 503, 503))],
)
def test_each_place_of_health_replies_by_what_it_is_for(live: bool, ready: bool, statuses: tuple[int, ...]):
    told = Told(live=live, ready=ready)
    assert tuple(page_at(f"/health{place}", told).status for place in ("", "/live", "/ready/")) == statuses


def test_a_server_serves_until_its_end_and_leaves_no_thread():
    with MetricsServer.on_port("127.0.0.1", 0, Told()) as server:
        silent = socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2])))
        with urllib.request.urlopen(f"{server.address}/metrics", timeout=60) as reply:  # although the other one hangs
            assert reply.read() == b"counted 1\n"
        silent.close()
    assert not [one for one in threading.enumerate() if one.name == "aiotaskstore-metrics"]
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{server.address}/metrics", timeout=60)


def test_an_error_is_a_reply_and_the_next_request_is_served():
    with MetricsServer.on_port("::1" if socket.has_ipv6 and _has_loopback6() else "127.0.0.1", 0, Broken()) as server:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{server.address}/metrics", timeout=60)
        with caught.value as error:
            assert (error.code, error.read()) == (500, b"ValueError: a bug\n")
        with urllib.request.urlopen(f"{server.address}/health", timeout=60) as reply:
            assert reply.status == 200


def _has_loopback6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_a_port_that_is_taken_or_an_address_of_nobody_is_a_failure_that_names_it():
    with MetricsServer.on_port("127.0.0.1", 0, Told()) as server:
        port = int(server.address.rpartition(":")[2])
        with pytest.raises(Failure, match=f"--metrics-port {port} cannot be opened on 127.0.0.1"):
            MetricsServer.on_port("127.0.0.1", port, Told())
    with pytest.raises(Failure, match=r"cannot be opened on no\.such\.host\.invalid"):
        MetricsServer.on_port("no.such.host.invalid", 0, Told())


async def test_a_worker_is_ready_while_its_dispatcher_runs_and_not_as_soon_as_its_store_is_open():
    store = TaskStore("sqlite://")
    store.task(alias="work")(lambda: None)
    worker = WatchedWorker(store)
    async with store:
        early = worker.health()
        async with store.dispatcher():
            await eventually(lambda: worker.health()["ready"])
        late = worker.health()
    for health in (early, late):
        assert (health["live"], health["ready"], health["problems"]) == (True, False, ("no dispatcher is running",))


def test_a_worker_that_does_not_answer_is_not_live_and_one_that_starts_is_not_ready(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("aiotaskstore.cli.watched_workers._ANSWER_LIMIT", 0.1)
    with WatchedWorkers(3) as workers:
        workers.started(1, 11)
        workers.started(2, 22)
        hanging = socket.socket(socket.AF_UNIX)
        (place,) = workers.arguments(1)
        hanging.bind(place.partition("=")[2])
        hanging.listen()
        health = workers.health()
        hanging.close()
    assert [(one["pid"], one["live"], one["ready"]) for one in health["workers"]] == [
        (11, False, False), (22, True, False), (None, True, False),
    ]  # fmt: skip
    assert "does not answer" in health["problems"][0]
    assert (health["live"], health["ready"]) == (False, False)
    assert not Path(place.partition("=")[2]).parent.exists()


def test_workers_that_stop_are_stopping_or_have_stopped_and_slow_answers_are_no_fault(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("aiotaskstore.cli.watched_workers._ANSWER_LIMIT", 0.1)
    with WatchedWorkers(4) as workers, socket.socket(socket.AF_UNIX) as hanging:
        (place,) = workers.arguments(1)
        hanging.bind(place.partition("=")[2])
        hanging.listen()
        for number, pid in enumerate((11, 22, 33), start=1):
            workers.started(number, pid)
        workers.ended(3, 33)
        workers.finished(4)
        before = workers.health()["problems"]
        workers.stopping()
        health = workers.health()
    assert before[2:] == ["worker 3: it is not running; it is started again", "worker 4: it has stopped"]
    assert health["problems"] == [
        "worker 1: it is stopping", "worker 2: it is stopping", "worker 3: it has stopped", "worker 4: it has stopped",
    ]  # fmt: skip
    assert (health["live"], health["ready"]) == (True, False)


def test_a_worker_that_does_not_know_yet_that_it_stops_is_not_ready(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("aiotaskstore.cli.watched_workers._ANSWER_LIMIT", 60)
    with WatchedWorkers(1) as workers:
        workers.started(1, 11)
        (place,) = workers.arguments(1)
        with MetricsServer.on_socket(Path(place.partition("=")[2]), ToldByAWorker()):
            assert workers.health()["ready"]
            workers.stopping()
            health = workers.health()
    assert (health["live"], health["ready"], health["problems"]) == (True, False, ["worker 1: it is stopping"])
