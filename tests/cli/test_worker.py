"""`worker`: one process or several, from start to every kind of stop."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from aiotaskstore import Task, TaskStore
from tests.cli import app
from tests.cli.command import APP, Commands
from tests.crash.proxy import Proxy
from tests.helpers import LIMIT, change, eventually
from tests.servers.processes import free_port


@pytest.fixture
async def store(sqlite_url: str) -> AsyncIterator[TaskStore]:
    """The app's tasks on the test's database, run by nobody here."""
    opened = TaskStore(sqlite_url)
    for one in app.store.handlers:
        opened.include(one)
    async with opened:
        yield opened


async def lingering(store: TaskStore, folder: Path, count: int = 1) -> list[Task]:
    drafts = [store.draft("linger", {"folder": str(folder)}) for _ in range(count)]
    return [await store.tasks.require(one) for one in await store.enqueue_many(drafts)]


async def running(store: TaskStore, count: int = 1) -> None:
    async def look() -> bool:
        return await store.tasks.count(status="running") == count

    await eventually(look)


def pids(folder: Path) -> set[int]:
    return {int(one.name.removeprefix("lingers-")) for one in folder.glob("lingers-*")}


async def started(folder: Path, count: int) -> set[int]:
    """Wait until so many processes run a handler, and name them."""
    await eventually(lambda: len(pids(folder)) == count)
    return pids(folder)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_the_first_sigterm_waits_for_what_runs(cli: Commands, store: TaskStore, sqlite_url: str):
    (task,) = await lingering(store, cli.folder)
    worker = cli.start("worker", APP, "--url", sqlite_url)
    await running(store)
    worker.signal(signal.SIGTERM)
    waiting = (await store.enqueue("add", {"a": 1})).id
    (cli.folder / "go").touch()
    answer = await worker.ends()
    assert (answer.code, answer.out) == (0, "")
    assert (await store.tasks.require(task.id)).result == "went"
    assert (await store.tasks.require(waiting)).attempt in {0, 1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_what_outlasts_the_grace_is_handed_back(
    cli: Commands, store: TaskStore, sqlite_url: str, number: signal.Signals
):
    (task,) = await lingering(store, cli.folder)
    worker = cli.start("worker", APP, "--url", sqlite_url, "--grace", "100ms")
    await running(store)
    worker.signal(number)
    answer = await worker.ends()
    assert answer.code == 3
    assert "handed back 1 task" in answer.err
    back = await store.tasks.require(task.id)
    assert (back.status, back.attempt, back.run_at) == ("pending", 0, task.run_at)


async def test_the_second_signal_hands_back_at_once(cli: Commands, store: TaskStore, sqlite_url: str):
    (task,) = await lingering(store, cli.folder)
    worker = cli.start("worker", APP, "--url", sqlite_url, "--grace", "10m")
    await running(store)
    worker.signal(signal.SIGTERM)
    worker.signal(signal.SIGINT)
    assert (await worker.ends()).code == 3
    assert (await store.tasks.require(task.id)).status == "pending"


async def test_the_third_signal_exits_at_once(cli: Commands, store: TaskStore, sqlite_url: str):
    (cli.folder / "stubborn.py").write_text(
        "import asyncio\nfrom aiotaskstore import TaskStore\n"
        "store = TaskStore.from_env()\n"
        "@store.task\n"
        "async def linger(folder: str) -> None:\n"
        "    print('I run', flush=True)\n"
        "    while True:\n"
        "        try:\n"
        "            await asyncio.sleep(60)\n"
        "        except asyncio.CancelledError:\n"
        "            print('I stay', flush=True)\n"
    )
    await lingering(store, cli.folder)
    worker = cli.start("worker", "--app", "stubborn:store", "--url", sqlite_url, "--grace", "10m")
    await eventually(lambda: "I run" in worker.out)  # a run that is cancelled before it begins ends without a word
    worker.signal(signal.SIGTERM)
    worker.signal(signal.SIGINT)  # two of one kind would be one, if the second came before the first was heard
    await eventually(lambda: "I stay" in worker.out)
    worker.signal(signal.SIGTERM)
    assert (await worker.ends()).code == 1


async def test_drain_runs_what_is_due_and_exits(cli: Commands, store: TaskStore, sqlite_url: str):
    drafts = [store.draft("note", {"folder": str(cli.folder), "name": f"note-{n}"}) for n in range(50)]
    await store.enqueue_many(drafts)
    later = await store.enqueue("add", {"a": 1}, delay=3600)
    answer = await cli.done("worker", "--drain", "--processes", "2", APP, "--url", sqlite_url)
    assert len(list(cli.folder.glob("note-*"))) == 50
    assert sum(int(one) for one in re.findall(r"ran (\d+) tasks?;", answer.err)) == 50
    assert await later.status() == "scheduled"


@pytest.mark.parametrize("signals", [1, 2])
async def test_draining_stops_when_told(cli: Commands, store: TaskStore, sqlite_url: str, signals: int):
    (task,) = await lingering(store, cli.folder)
    worker = cli.start("worker", APP, "--drain", "--url", sqlite_url, "--grace", "100ms" if signals == 1 else "10m")
    await running(store)
    for number in (signal.SIGTERM, signal.SIGINT)[:signals]:
        worker.signal(number)
    assert (await worker.ends()).code == 3
    assert (await store.tasks.require(task.id)).status == "pending"


@pytest.mark.parametrize("drains", [["--drain"], []], ids=["drain", "run"])
async def test_what_is_claimed_as_the_signal_comes_counts_as_running(
    cli: Commands, store: TaskStore, sqlite_url: str, drains: list[str]
):
    """The database has given the task to the worker, which hears of it after the signal."""
    (cli.folder / "told.py").write_text(
        "import asyncio, os, signal\n"
        "from aiotaskstore.storage.sqlite.database import SqliteDatabase\n"
        "from aiotaskstore.task import Claim\n"
        "from tests.cli.app import store\n"
        "write = SqliteDatabase.write\n"
        "async def told(self, operation, **how):\n"
        "    answer = await write(self, operation, **how)\n"
        "    if isinstance(answer, list) and answer and isinstance(answer[0], Claim):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        await asyncio.sleep(0.1)\n"
        "    return answer\n"
        "SqliteDatabase.write = told\n"
    )
    (task,) = await lingering(store, cli.folder)
    worker = cli.start("worker", "--app=told:store", *drains, "--url", sqlite_url, "--grace", "100ms")
    answer = await worker.ends()
    assert answer.code == 3, answer
    back = await store.tasks.require(task.id)
    assert (back.status, back.attempt) == ("pending", 0)


async def test_only_the_queues_named_are_served(cli: Commands, store: TaskStore, sqlite_url: str):
    ids = await store.enqueue_many(
        [
            store.draft("add", {"a": 1}, queue="emails"),
            store.draft("add", {"a": 1}, queue="with:colon"),
            store.draft("add", {"a": 1}, queue="others"),
        ]
    )
    await cli.done("worker", "--drain", "-q", "emails:20,with:colon:3", APP, "--url", sqlite_url)
    assert [(await store.tasks.require(one)).status for one in ids] == ["succeeded", "succeeded", "pending"]


async def test_it_tells_each_start_and_end_unless_it_is_to_be_quiet(cli: Commands, store: TaskStore, sqlite_url: str):
    async def drained(*more: str) -> list[str]:
        handle, failing = await store.enqueue("add", {"a": 1}), await store.enqueue("explode", {"why": "a reason"})
        answer = await cli.done("worker", "--drain", *more, APP, "--url", sqlite_url)
        assert await handle.status() == "succeeded"
        lines = [line for line in answer.err.splitlines() if line]
        told = [line.partition(str(handle.id))[2].split()[0] for line in lines if str(handle.id) in line]
        assert any("ERROR" in line and str(failing.id) in line for line in lines)
        assert answer.err.count("raise RuntimeError(why)") == 1  # its traceback
        assert not any("functools.partial" in line or "Using selector" in line for line in lines)
        return [*told, *("dispatcher" for line in lines if "started, woken by" in line)]

    assert await drained() == ["started", "succeeded"]
    assert await drained("--processes", "2") == ["started", "succeeded"]
    assert await drained("-v") == ["started", "succeeded"]
    assert await drained("--quiet") == []


async def test_it_waits_for_a_database_that_is_started_later(cli: Commands, server_url: str):
    await waited(cli, server_url)


async def test_several_wait_for_a_database_that_is_started_later(cli: Commands, postgresql_url: str):
    await waited(cli, postgresql_url, "--processes", "2")


async def waited(cli: Commands, url: str, *more: str) -> None:
    """Start a worker before there is anything at its URL, and see it drain."""
    proxy, port = Proxy(url), free_port()
    away = urlsplit(url)._replace(netloc=f"{urlsplit(url).netloc.rpartition('@')[0]}@127.0.0.1:{port}").geturl()
    worker = cli.start("worker", "--drain", "--wait-for-database", "5m", APP, "--url", away, *more)
    await worker.says("Trying again for 5m.")
    await proxy.open(port)
    answer = await worker.ends()
    proxy.close()
    assert answer.code == 0, answer
    assert "The database is there." in answer.err
    assert "ran 0 tasks" in answer.err


async def test_waiting_for_a_database_ends_when_told_or_in_time(cli: Commands):
    url = "postgresql://nobody@127.0.0.1:1/nowhere"
    told = cli.start("worker", "--wait-for-database", "5m", APP, "--url", url)
    over = cli.start("worker", "--wait-for-database", "300ms", APP, "--url", url)
    assert (await over.ends()).code == 75
    await told.says("Trying again for 5m.")
    told.signal(signal.SIGTERM)
    assert (await told.ends()).code == 0


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_each_event_loop_works(cli: Commands, store: TaskStore, sqlite_url: str, loop: str):
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    handle = await store.enqueue("add", {"a": 1})
    await cli.done("worker", "--drain", "--loop", loop, APP, "--url", sqlite_url)
    assert await handle.result(timeout=LIMIT) == 2


async def test_two_processes_share_the_work_and_stop_together(cli: Commands, store: TaskStore, sqlite_url: str):
    tasks = await lingering(store, cli.folder, 4)
    worker = cli.start("worker", APP, "--processes", "2", "-q", "default:2", "--lease", "8s", "--url", sqlite_url)
    await running(store, 4)
    first = await started(cli.folder, 2)
    os.kill(min(first), signal.SIGKILL)
    await worker.says("SIGKILL); starting it again")
    # The lease of the dead one is over at once, so that the others' may be long.
    database = store._require_open().storage.database
    await change(database, "UPDATE aiotaskstore_dispatchers SET lease = 0 WHERE pid = :pid", pid=min(first))
    await started(cli.folder, 3)  # its tasks were rescued, and its successor runs them
    await running(store, 4)
    worker.signal(signal.SIGTERM)
    (cli.folder / "go").touch()
    assert (await worker.ends()).code == 0
    assert {(await store.tasks.require(one.id)).status for one in tasks} == {"succeeded"}
    assert not any(map(is_alive, pids(cli.folder)))


async def test_two_processes_return_to_the_queue_what_outlasts_the_grace(
    cli: Commands, store: TaskStore, sqlite_url: str
):
    tasks = await lingering(store, cli.folder, 2)
    worker = cli.start("worker", APP, "--processes", "2", "-q", "default:1", "--grace", "100ms", "--url", sqlite_url)
    await running(store, 2)
    worker.signal(signal.SIGINT)
    assert (await worker.ends()).code == 3
    assert {(await store.tasks.require(one.id)).status for one in tasks} == {"pending"}


async def test_workers_end_when_their_supervisor_is_killed(cli: Commands, store: TaskStore, sqlite_url: str):
    await lingering(store, cli.folder, 2)
    worker = cli.start("worker", APP, "--processes", "2", "-q", "default:1", "--grace", "100ms", "--url", sqlite_url)
    await running(store, 2)
    workers = await started(cli.folder, 2)
    worker.kill()
    await eventually(lambda: not any(map(is_alive, workers)))
    assert await store.tasks.count(status="pending") == 2


async def test_a_queue_that_no_task_has_is_noted_with_the_nearest_one(cli: Commands, sqlite_url: str):
    queues = "smus:20,sums=20,sums,archive"
    said = (await cli.done("worker", "--drain", "-q", queues, APP, "--url", sqlite_url)).err
    assert [line.strip() for line in said.splitlines() if "no task of this app" in line] == [
        'note    no task of this app has the queue "smus"; did you mean "sums"?',
        'note    no task of this app has the queue "sums=20"; write "sums:20"',
        'note    no task of this app has the queue "archive"',
    ]
