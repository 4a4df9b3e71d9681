"""`clean`, and what `ls` and `delete` do with tasks that are hidden."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiotaskstore import TaskStore
from aiotaskstore.cli.console import Console
from aiotaskstore.cli.deletion import Deletion
from tests.cli.command import Commands
from tests.helpers import change


async def test_clean_deletes_what_finished_before_a_date_and_nothing_else(cli: Commands, url: str):
    ago = {"old": 40, "older": 90, "hidden": 90, "failed": 90, "new": 1}
    async with TaskStore(url) as store:
        database = store._require_open().storage.database
        for name, days in ago.items():
            handle = await store.enqueue(name, queue=name, unchecked=True)
            await (store.tasks.mark_failed if name == "failed" else store.tasks.mark_succeeded)(handle.id)
            at = datetime.now(UTC) - timedelta(days=days)
            await change(
                database, "UPDATE aiotaskstore_history SET finished_at = :at WHERE id = :id", at=at, id=handle.id
            )
        await store.tasks.soft_delete(where={"alias": "hidden"})
        await store.enqueue("pending", unchecked=True)
    listed = cli.start("ls", "--json", "--url", url)
    shown = await cli.done("ls", "--include-deleted", "--url", url)
    assert {one["alias"] for one in (await listed.ends()).json} == {"old", "older", "failed", "new", "pending"}
    assert "succeeded (soft-deleted)" in shown.out
    only = await cli.done("clean", "--before", "60d", "--status", "failed", "--url", url)
    assert (only.out, "Deleted 1 task that finished before" in only.err) == ("", True)
    day = (datetime.now(UTC) - timedelta(days=60)).date().isoformat()
    answer = await cli.done("clean", "--before", day, "--json", "--url", url)
    assert answer.json == {"deleted": 2, "before": f"{day}T00:00:00.000Z"}
    assert (await cli.done("clean", "--before", "12h", "-q", "old", "--json", "--url", url)).json["deleted"] == 1
    async with TaskStore(url) as store:
        assert {task.alias for task in await store.tasks.list(include_deleted=True)} == {"new", "pending"}


@pytest.mark.parametrize("when", ["", "soon", "2026-13-01", "-5d", "9999-01-01", "99999999999d"])
async def test_a_date_that_cannot_be_meant_is_a_usage_error(cli: Commands, sqlite_url: str, when: str):
    answer = await cli.run("clean", f"--before={when}", "--url", sqlite_url)
    assert (answer.code, answer.out) == (2, "")
    assert "such as" in answer.err


async def test_clean_needs_a_date(cli: Commands, sqlite_url: str):
    answer = await cli.run("clean", "--url", sqlite_url)
    assert (answer.code, "--before" in answer.err) == (2, True)


@pytest.fixture
async def finished(sqlite_url: str) -> AsyncIterator[TaskStore]:
    """A store with seven tasks that have been cancelled."""
    async with TaskStore(sqlite_url) as store:
        await store.enqueue_many([store.draft("x", unchecked=True) for _ in range(7)])
        await store.tasks.cancel(where="all")
        yield store


async def test_many_are_deleted_in_slices_and_it_tells_how_far_it_is(finished: TaskStore, monkeypatch, capsys):
    monkeypatch.setattr("aiotaskstore.cli.deletion._SLICE", 3)
    deletion = Deletion({"status": "cancelled"}, Console())
    assert await deletion.run(finished) == 7
    assert await finished.tasks.count() == 0
    assert capsys.readouterr().err == "deleting: 0 of 7 tasks\n"  # and the next line 10 s later


async def test_a_task_that_is_stored_meanwhile_stays(finished: TaskStore, monkeypatch):
    monkeypatch.setattr("aiotaskstore.cli.deletion._SLICE", 3)
    delete = finished.tasks.delete

    async def delete_and_store(**how: Any) -> Any:
        deleted = await delete(**how)
        ids.append(await finished.enqueue("x", unchecked=True))
        await finished.tasks.cancel(ids[-1].id)
        return deleted

    ids: list[Any] = []
    monkeypatch.setattr(finished.tasks, "delete", delete_and_store)
    assert await Deletion({"status": "cancelled"}, Console()).run(finished) == 7
    assert await finished.tasks.count() == len(ids)


async def test_an_interrupt_keeps_what_is_done_and_says_how_much(finished: TaskStore, monkeypatch):
    monkeypatch.setattr("aiotaskstore.cli.deletion._SLICE", 3)
    delete = finished.tasks.delete

    async def delete_once(**how: Any) -> Any:
        monkeypatch.setattr(finished.tasks, "delete", interrupt)
        return await delete(**how)

    async def interrupt(**how: Any) -> int:
        raise asyncio.CancelledError

    monkeypatch.setattr(finished.tasks, "delete", delete_once)
    deletion = Deletion({"status": "cancelled"}, Console())
    with pytest.raises(asyncio.CancelledError):
        await deletion.run(finished)
    assert str(deletion.interrupted()) == "Interrupted: 3 tasks deleted, the others are as they were."
    assert await finished.tasks.count() == 4
