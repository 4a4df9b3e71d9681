"""Lists of any length in one call: SQLite takes 32,766 variables and a million letters of SQL, by default."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiotaskstore import TaskStore
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.storage.sqlite.database import SqliteDatabase

MANY = 40_000


@pytest.fixture
async def store(sqlite_url: str) -> AsyncIterator[TaskStore]:
    """A store whose connections have SQLite's own limits, whatever this build was given."""
    async with TaskStore(sqlite_url) as opened:
        database = opened._require_open().storage.database
        assert isinstance(database, SqliteDatabase)
        assert database._reader is not None
        for thread in (database.writer.thread, database._reader.thread):

            def limit(thread: Any = thread) -> None:
                thread.raw.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)
                thread.raw.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, 1_000_000)

            await thread.run(limit)
        yield opened


async def test_filters_take_lists_of_any_length(store: TaskStore):
    @store.task(queue="here")
    async def work() -> None: ...

    handles = [await work.enqueue() for _ in range(3)]
    ids = [*(handle.id for handle in handles), *(new_id() for _ in range(MANY))]
    names = [*(f"queue-{n}" for n in range(MANY)), "here"]
    assert await store.tasks.count(id_in=ids) == 3
    assert len(await store.tasks.list(id_in=ids, queue=names, alias=[*names, "work"], limit=2)) == 2
    assert await store.tasks.count(queue=names[:-1]) == 0
    assert await store.tasks.cancel(where={"id_in": ids, "queue": names}) == 3
    assert await store.tasks.retry(where={"id_in": ids, "alias": [*names, "work"]}) == 3
    assert await store.tasks.delete(where={"id_in": ids[1:], "queue": names}) == 2


async def test_very_many_external_ids_are_stored_in_one_call(store: TaskStore):
    @store.task
    async def work() -> None: ...

    drafts = [work.options(external_id=f"order-{n}", on_conflict="return").draft() for n in range(MANY)]
    ids = await store.enqueue_many(drafts)
    assert len(set(ids)) == MANY
    assert await store.enqueue_many(drafts) == ids
    assert await store.tasks.count() == MANY
