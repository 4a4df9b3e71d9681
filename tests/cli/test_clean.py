"""`clean`, and what `ls` and `delete` do with tasks that are hidden."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from aiotaskstore import TaskStore
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
