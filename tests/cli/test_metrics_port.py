"""`worker --metrics-port`: metrics and health over HTTP, of one process and of several together."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aiotaskstore import TaskStore
from tests.cli import app
from tests.cli.command import APP, Command, Commands
from tests.helpers import LIMIT, ended, eventually

BLOCKING = """
import os, time
from pathlib import Path
from aiotaskstore import TaskStore
from aiotaskstore.dispatch import instance_health

instance_health.LONGEST_LAG = 2.0
store = TaskStore.from_env()

@store.task
async def note(folder: str) -> None: ...

@store.task
async def block(folder: str) -> None:
    Path(folder, f"blocks-{os.getpid()}").touch()
    while not Path(folder, "go").exists():
        time.sleep(0.01)
"""


class Reply(NamedTuple):
    status: int
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    def counted(self, name: str, **labels: str) -> float:
        """Add up the samples of a metric that have these labels."""
        samples = [one for family in text_string_to_metric_families(self.text) for one in family.samples]
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


class Worker:
    """A worker that serves, and requests to it."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.address = ""

    async def says_where(self) -> Worker:
        await self.command.says("/health\n")
        found = re.search(r"(http://\S+)/metrics", self.command.err)
        assert found is not None
        self.address = found[1]
        return self

    def get(self, place: str) -> Reply:
        try:
            with urllib.request.urlopen(f"{self.address}{place}", timeout=LIMIT) as reply:
                return Reply(reply.status, reply.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, error.read().decode())

    async def becomes(self, place: str, status: int) -> Reply:
        """Ask until the reply has this status."""
        replies: list[Reply] = []

        def look() -> bool:
            replies.append(self.get(place))
            return replies[-1].status == status

        await eventually(look)
        return replies[-1]


@pytest.fixture
async def store(sqlite_url: str) -> AsyncIterator[TaskStore]:
    opened = TaskStore(sqlite_url)
    for one in app.store.handlers:
        opened.include(one)
    async with opened:
        yield opened


async def test_a_worker_serves_its_metrics_and_its_health_to_its_end(cli: Commands, store: TaskStore, sqlite_url: str):
    worker = await Worker(cli.start("worker", APP, "--url", sqlite_url, "--metrics-port", 0)).says_where()
    await worker.becomes("/health/ready", 200)
    ids = [(await store.enqueue("add", {"a": 1})).id, (await store.enqueue("explode", {"why": "no"})).id]
    await ended(store, ids)
    await eventually(lambda: worker.get("/metrics").counted("aiotaskstore_tasks_completed_total") == 2)
    text = worker.get("/metrics")
    assert text.counted("aiotaskstore_tasks_completed_total", task="add", queue="sums", outcome="succeeded") == 1
    assert text.counted("aiotaskstore_tasks_completed_total", task="explode", outcome="failed") == 1
    health = worker.get("/health")
    (process,) = health.json["workers"]
    assert (health.status, health.json["live"], health.json["problems"]) == (200, True, [])
    assert process["pid"] == worker.command.process.pid
    assert worker.get("/").status == worker.get("/elsewhere").status == 404

    port = worker.address.rpartition(":")[2]
    second = await cli.run("worker", APP, "--url", sqlite_url, "--metrics-port", port)
    assert second.code == 1
    assert f"--metrics-port {port} cannot be opened on 127.0.0.1" in second.err
    assert "Traceback" not in second.err

    await store.enqueue("linger", {"folder": str(cli.folder)})
    await eventually(lambda: list(cli.folder.glob("lingers-*")))
    worker.command.signal(signal.SIGTERM)
    stopping = await worker.becomes("/health/ready", 503)
    assert "it is stopping" in stopping.json["problems"][0]
    assert worker.get("/health/live").status == 200
    (cli.folder / "go").touch()
    assert (await worker.command.ends()).code == 0


async def test_several_workers_are_told_of_together_through_a_block_and_a_crash(cli: Commands, sqlite_url: str):
    (cli.folder / "blocking.py").write_text(BLOCKING)
    command = cli.start("worker", "--app", "blocking:store", "--url", sqlite_url, "--processes", 2, "--metrics-port", 0)
    worker = await Worker(command).says_where()

    def finished() -> float:
        return worker.get("/metrics").counted("aiotaskstore_tasks_completed_total", outcome="succeeded")

    payload = {"folder": str(cli.folder)}
    async with TaskStore(sqlite_url) as store:
        await worker.becomes("/health", 200)
        before = {one["pid"] for one in worker.get("/health").json["workers"]}
        assert len(before) == 2
        await ended(store, [(await store.enqueue("note", payload, unchecked=True)).id for _ in range(6)])
        await eventually(lambda: finished() == 6)

        await store.enqueue("block", payload, unchecked=True)
        blocked = await worker.becomes("/health/live", 503)
        assert "its event loop has been blocked for" in " ".join(blocked.json["problems"])
        await eventually(lambda: sorted(one["live"] for one in worker.get("/health").json["workers"]) == [False, True])
        assert worker.get("/metrics").counted("aiotaskstore_loop_lag_seconds") >= 2
        assert worker.get("/metrics").counted("aiotaskstore_slots_in_use") == 1
        (cli.folder / "go").touch()
        await worker.becomes("/health", 200)
        await eventually(lambda: finished() == 7)

        killed = min(before)
        folder = Path(re.findall(r"--metrics-socket=([^\0]+)", Path(f"/proc/{killed}/cmdline").read_text())[0]).parent
        os.kill(killed, signal.SIGKILL)
        await eventually(lambda: killed not in {one["pid"] for one in worker.get("/health").json["workers"]})
        await worker.becomes("/health", 200)
        assert finished() == 7
        assert not list(folder.glob(f"*_{killed}.db"))
        await ended(store, [(await store.enqueue("note", payload, unchecked=True)).id for _ in range(4)])
        await eventually(lambda: finished() == 11)

        (last := cli.folder / "last").mkdir()
        await store.enqueue("block", {"folder": str(last)}, unchecked=True)
        await eventually(lambda: list(last.glob("blocks-*")))
    command.signal(signal.SIGTERM)

    def stop() -> set[str]:
        return {problem.partition(": ")[2] for problem in worker.get("/health").json["problems"]}

    await eventually(lambda: stop() >= {"it is stopping", "it has stopped"})
    (last / "go").touch()
    assert (await command.ends()).code == 0
    assert not folder.exists()


async def test_without_the_extra_there_is_health_and_advice_instead_of_metrics(cli: Commands, sqlite_url: str):
    (cli.folder / "prometheus_client.py").write_text("raise ImportError('hidden by the test')\n")
    path = f"{cli.folder}:{Path(__file__).resolve().parents[2]}"
    command = cli.start("worker", APP, "--url", sqlite_url, "--metrics-port", 0, PYTHONPATH=path)
    worker = await Worker(command).says_where()
    await worker.becomes("/health/ready", 200)
    reply = worker.get("/metrics")
    assert reply.status == 501
    assert "pip install 'aiotaskstore[prometheus]'" in reply.text
    assert "pip install 'aiotaskstore[prometheus]'" in command.err
    command.signal(signal.SIGTERM)
    assert (await command.ends()).code == 0
