"""Tables that the version before filled, in every status, are upgraded while it still runs; nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from aiotaskstore import DispatcherOutdated, DuplicateTaskError, Task, TaskRescued, TaskStatus, TaskStore
from aiotaskstore.storage import migrations
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.operation import Query
from aiotaskstore.storage.rows import CODES
from tests.helpers import LIMIT, change, ended, eventually, expect

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def library_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the version before in it, for PYTHONPATH: its wheel is pure Python, and needs what we need."""
    folder = tmp_path_factory.mktemp("before")
    (wheel,) = HERE.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


class OldProcess:
    """A process of the version before."""

    def __init__(self, library: Path, folder: Path, mode: str, url: str) -> None:
        self._out, self._err = folder / f"{mode}.out", folder / f"{mode}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, str(HERE / "before.py"), mode, url], stdout=out, stderr=err, cwd=folder,
                env={**os.environ, "PYTHONPATH": str(library)},
            )  # fmt: skip

    async def line(self) -> str:
        """Wait for the one line that it prints."""

        def printed() -> bool:
            assert self._process.poll() is None, self._err.read_text()
            return self._out.read_text().endswith("\n")

        await eventually(printed)
        return self._out.read_text()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def old_process(library: Path, folder: Path, mode: str, url: str) -> Iterator[OldProcess]:
    process = OldProcess(library, folder, mode, url)
    try:
        yield process
    finally:
        process.kill()


@pytest.fixture
async def installation(library_before: Path, tmp_path: Path, url: str) -> AsyncIterator[tuple[OldProcess, Any]]:
    """Tables that the version before made and filled, one of its dispatchers alive, and what it says is in them."""
    with old_process(library_before, tmp_path, "doomed", url) as doomed:
        await doomed.line()
    with old_process(library_before, tmp_path, "veteran", url) as veteran:
        tasks = json.loads(await veteran.line())
        for status in (TaskStatus.WAITING, TaskStatus.PAUSED):
            await _force(url, UUID(tasks[status]["id"]), status)
            tasks[status]["status"] = str(status)
        yield veteran, tasks


async def test_an_installation_of_the_version_before_is_upgraded_while_it_runs(
    installation: tuple[OldProcess, Any], url: str
):
    veteran, before = installation
    assert set(before) == set(TaskStatus)
    async with TaskStore(url) as store:
        assert await migrations.version(store._require_open().storage.database) == migrations.LATEST
        for status, told in before.items():
            _is_whole(asdict(await store.tasks.require(told["id"])), told, status)
        assert await store.tasks.count(queue="before") == len(before)
        await _keeps_external_ids(store, before)
        await _names_the_older_dispatcher(store)
        await _finishes_everything(store, veteran, before)


async def _keeps_external_ids(store: TaskStore, before: Any) -> None:
    for kind in ("succeeded", "scheduled", "pending", "waiting", "paused"):
        with pytest.raises(DuplicateTaskError) as caught:
            await store.enqueue("double", {"number": 1}, external_id=before[kind]["external_id"])
        assert str(caught.value.existing_id) == before[kind]["id"]


async def _names_the_older_dispatcher(store: TaskStore) -> None:
    """By whoever pauses a queue, which the older dispatcher ignores, and in the list."""
    told: list[DispatcherOutdated] = []
    store.on(DispatcherOutdated, told.append)

    async def pause() -> bool:
        await store.queues.pause("before", "upgrading")
        return bool(told)

    await eventually(pause)  # on a busy machine its heartbeat may be late
    assert {one.name for one in told} == {"veteran"}
    ignored = {"paused queues (now before)", "cancelled definitions", "serialization keys", "soft deletion"}
    assert ignored == set(told[-1].ignored)
    assert {one.name: one.version for one in await store.dispatchers.list()} == {"veteran": None}
    await store.queues.resume("before")


async def _finishes_everything(store: TaskStore, veteran: OldProcess, before: Any) -> None:
    _declare(store)
    options: Any = {"heartbeat": 0.2, "lease": LIMIT, "healer": 0.1}
    enqueued_since = await _enqueued_since(store)
    async with expect(store, DispatcherOutdated, name="veteran"):
        dispatcher = store.dispatcher(name="new", **options)
        await dispatcher.start()
    try:
        async with expect(store, TaskRescued, task_id=UUID(before["running"]["id"])):
            veteran.kill()
            await change(
                store._require_open().storage.database,
                "UPDATE aiotaskstore_dispatchers SET lease = 0 WHERE name = :name",
                name="veteran",
            )
        held: Any = {"id_in": [told["id"] for told in before.values()], "status": ["scheduled", "waiting", "paused"]}
        await store.tasks.retry(where=held)
        for kind in ("failed", "cancelled", "interrupted"):
            await store.tasks.retry(before[kind]["id"])
        assert (await store.tasks.wait(enqueued_since.id, timeout=LIMIT)).result == 8
        finished = dict(zip(before, await ended(store, [UUID(told["id"]) for told in before.values()]), strict=True))
    finally:
        await dispatcher.stop()
    assert {task.status for task in finished.values()} == {TaskStatus.SUCCEEDED}
    results = {kind: task.result for kind, task in finished.items()}
    assert results == {
        "interrupted": None, "succeeded": 42, "failed": "no luck", "scheduled": 2, "cancelled": 4,
        "running": "attempt 2", "pending": 6, "waiting": 6, "paused": 6,
    }  # fmt: skip
    assert [(one.attempt, one.message) for one in finished["failed"].errors] == [(1, "no luck"), (2, "no luck")]
    assert await store.dispatchers.list() == []


async def _enqueued_since(store: TaskStore) -> Task:
    """Wait until the version before has stored one more task, into the tables that are no longer its own."""
    known = await store.tasks.count(queue="new")

    async def newest() -> Task | None:
        more = await store.tasks.count(queue="new") > known
        return (await store.tasks.list(queue="new", limit=1))[0] if more else None

    task: Task = await eventually(newest)
    return task


def _declare(store: TaskStore) -> None:
    """What the version before could not bring to a good end, ours can."""

    @store.task
    async def double(number: int) -> int:
        return 2 * number

    @store.task(queue="before")
    async def fail(why: str) -> str:
        return why

    @store.task(queue="before")
    async def linger() -> str:
        from aiotaskstore import current_context

        return f"attempt {current_context().attempt}"

    @store.task(queue="before")
    async def interrupted() -> None: ...


def _is_whole(task: dict[str, Any], told: dict[str, Any], status: str) -> None:
    """Compare what we read with what the version before printed."""
    found = json.loads(json.dumps(task, default=_plain))
    for error in found["errors"]:
        error.pop("traceback")
    assert found["status"] == status
    changed = {"updated_at"} if status in {"waiting", "paused"} else set()
    assert {name: found[name] for name in told.keys() - changed} == {name: told[name] for name in told.keys() - changed}
    assert task["deleted_at"] is None


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


async def _force(url: str, task_id: UUID, status: TaskStatus) -> None:
    """Put a pending row into a status that its schema knows and the version before never wrote."""
    storage = connect(url)
    await storage.database.open()
    try:
        async with storage.database.session() as session:
            sql = "UPDATE aiotaskstore_tasks SET status = :status WHERE id = :id"
            await session.run(Query(sql, {"status": CODES[status], "id": task_id}))
            if storage.database.kind == "mysql":
                await session.run(Query("DELETE FROM aiotaskstore_ready WHERE id = :id", {"id": task_id}))
    finally:
        await storage.database.close()
