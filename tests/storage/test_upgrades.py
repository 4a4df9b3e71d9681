"""Tables that version 1 made, with rows in every status, are brought up to the present and lose nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from aiotaskstore import TaskStore
from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.outcome import EMPTY, Failed
from aiotaskstore.storage import migrations
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.operation import Query
from aiotaskstore.storage.rows import CODES
from aiotaskstore.storage.table_names import TableNames
from aiotaskstore.task import TaskStatus
from tests.storage.harness import Clock, Harness, harness_on

LIVE = [status for status in TaskStatus if not status.finished]
FINISHED = [status for status in TaskStatus if status.finished]


@pytest.mark.parametrize("by_hand", [False, True], ids=["migrated", "by the printed SQL"])
async def test_rows_that_version_1_stored_survive_the_upgrade_in_every_status(url: str, by_hand: bool):
    ids = {status: new_id() for status in TaskStatus}
    async with _version_1(url) as run:
        for status in LIVE:
            await _insert(run, "tasks", id=ids[status], status=CODES[status], **ROW)
        for status in FINISHED:
            await _insert(run, "history", id=ids[status], status=CODES[status], **ROW, **END)
        pending = {"id": ids[TaskStatus.PENDING], "queue": "default", "priority": 3, "run_at": Clock().now}
        if url.startswith("mysql"):
            await _insert(run, "ready", alias="work", **pending)
        for task_id in ids.values():
            await _insert(
                run, "task_errors", task_id=task_id, fence=1, attempt=1, at=Clock().now, type="OSError", message="down"
            )
            for line in (1, 2):
                await _insert(run, "task_details", task_id=task_id, fence=1, line=line, text=f"line {line}")
            await _insert(run, "task_progress", task_id=task_id, text="half", fraction=0.5, at=Clock().now)
        if by_hand:
            for statement in migrations.split(_ddl_beyond_version_1(url)):
                await run(statement)
    async with harness_on(url) as harness:
        assert await migrations.version(harness.database) == migrations.LATEST
        for status, task_id in ids.items():
            await _is_whole(harness, task_id, status)
        claims = await harness.claim(9)
        assert [claim.id for claim in claims] == [ids[TaskStatus.PENDING]]
        await harness.record(claims[0], Failed("ValueError", "no good", FinishReason.ERROR, "Traceback: new"))
        errors = (await harness.get(claims[0].id)).errors
        assert [(one.message, one.traceback) for one in errors] == [("down", ""), ("no good", "Traceback: new")]


async def test_an_upgrade_that_was_cut_short_is_finished_by_the_next(mysql_url: str):
    """MySQL commits every statement of a migration by itself."""
    migration = next(one for one in migrations.migrations("mysql") if one.version == 2)
    async with _version_1(mysql_url) as run:
        statements = migrations.split(migration.sql)
        for statement in statements[: len(statements) // 2]:
            await run(statement)
    async with harness_on(mysql_url) as harness:
        claim = await harness.run_one()
        await harness.record(claim, EMPTY)


async def test_a_database_that_only_the_first_version_made_is_upgraded_under_another_prefix(url: str):
    table_names = TableNames("jobs_")
    async with _version_1(url, table_names):
        pass
    known = migrations.migrations(url.partition(":")[0])
    assert await TaskStore(url, prefix="jobs_").migrate() == len(known) - 1
    async with harness_on(url, table_names=table_names) as harness:
        claim = await harness.run_one()
        await harness.record(claim, Failed("ValueError", "no good", FinishReason.ERROR, "Traceback"))
        assert [one.traceback for one in (await harness.get(claim.id)).errors] == ["Traceback"]


AT = Clock().now
ROW: dict[str, Any] = {
    "queue": "default", "alias": "work", "priority": 3, "run_at": AT, "payload": '{"n": 1}', "attempt": 1,
    "max_attempts": 5, "fence": 1, "on_stuck": 0, "strict": False, "metadata": '{"trace": "x"}',
    "created_at": AT, "updated_at": AT,
}  # fmt: skip
END: dict[str, Any] = {"result": "null", "finish_reason": "ok", "finished_at": AT}


@asynccontextmanager
async def _version_1(url: str, table_names: TableNames | None = None) -> AsyncIterator[Any]:
    """Make the tables as version 1 did, and return what runs a statement in them."""
    storage = connect(url, table_names=table_names)
    database = storage.database
    await database.open()
    first = migrations.migrations(database.kind)[0]
    try:
        async with database.session() as session:

            async def run(sql: str, **params: Any) -> None:
                if params:
                    await session.run(Query(sql, params))
                else:
                    await session.script(sql)

            text = migrations.ddl(database.kind, database.table_names, until=first.version)
            for statement in migrations.split(text):
                await run(statement)
            yield run
    finally:
        await database.close()


def _ddl_beyond_version_1(url: str) -> str:
    """The part of the printed SQL that version 1's lacks."""
    database = connect(url).database
    whole = migrations.ddl(database.kind, database.table_names)
    first = migrations.ddl(database.kind, database.table_names, until=1)
    assert whole.startswith(first.rstrip())
    return whole[len(first.rstrip()) :]


async def _insert(run: Any, table: str, **values: Any) -> None:
    names = ", ".join(values)
    places = ", ".join(f":{name}" for name in values)
    await run(f"INSERT INTO aiotaskstore_{table} ({names}) VALUES ({places})", **values)


async def _is_whole(harness: Harness, task_id: UUID, status: TaskStatus) -> None:
    task = await harness.get(task_id)
    assert (task.status, task.payload, task.metadata, task.attempt) == (status, {"n": 1}, {"trace": "x"}, 1)
    assert [(one.type, one.message, one.traceback) for one in task.errors] == [("OSError", "down", "")]
    assert (task.details, task.errors_left_out, task.details_left_out) == ("line 1\nline 2", 0, 0)
    assert task.progress is not None
    assert (task.progress.text, task.progress.fraction) == ("half", 0.5)
