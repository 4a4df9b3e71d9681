"""The tables: made, remade, raced for, too old, too new, elsewhere."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from aiotaskstore import SchemaOutdatedError, SchemaTooNewError, TaskStore
from aiotaskstore.storage import migrations
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.statements import Naming
from tests.helpers import LIMIT
from tests.storage.bench import Bench, bench_on


async def test_a_second_migration_finds_nothing_to_do(url: str):
    store = TaskStore(url)
    assert await store.migrate() == migrations.LATEST
    assert await store.migrate() == 0
    async with store:
        assert await store.migrate() == 0


async def test_processes_that_migrate_at_once_apply_each_migration_once(url: str):
    storages = [connect(url) for _ in range(6)]
    for storage in storages:
        await storage.database.open()
    try:
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task(migrations.migrate(storage.database)) for storage in storages]
        assert sorted(run.result() for run in runs) == [0] * 5 + [migrations.LATEST]
        await migrations.check(storages[0].database)
    finally:
        for storage in storages:
            await storage.database.close()


async def test_stores_that_open_at_once_on_an_empty_database_all_open(url: str):
    stores = [TaskStore(url) for _ in range(4)]
    try:
        async with asyncio.TaskGroup() as group:
            for store in stores:
                group.create_task(store.open())
        assert [await store.tasks.count() for store in stores] == [0] * 4
    finally:
        for store in stores:
            await store.close()


async def test_without_migrate_missing_tables_are_an_error_that_names_the_command(url: str):
    store = TaskStore(url, migrate=False)
    with pytest.raises(SchemaOutdatedError, match="aiotaskstore migrate"):
        await store.open()
    assert not store.is_open
    await TaskStore(url).migrate()
    async with store:
        assert store.is_open


async def test_tables_of_a_newer_library_are_left_alone(url: str):
    async with bench_on(url) as bench:
        await _record_version(bench, migrations.LATEST + 1)
    for migrate in (True, False):
        with pytest.raises(SchemaTooNewError, match="Upgrade aiotaskstore"):
            await TaskStore(url, migrate=migrate).open()
    with pytest.raises(SchemaTooNewError):
        await TaskStore(url).migrate()


async def test_tables_of_an_older_library_are_refused_without_migrate(url: str):
    async with bench_on(url) as bench:
        await bench.sql("DELETE FROM aiotaskstore_migrations")
    with pytest.raises(SchemaOutdatedError):
        await TaskStore(url, migrate=False).open()


async def test_stores_with_different_prefixes_share_a_database_and_no_row(url: str):
    async with bench_on(url) as here, bench_on(url, naming=Naming("other_")) as there:
        task_id = await here.add(external_id="same")
        other_id = await there.add(external_id="same")
        assert await there.status(task_id) is None
        assert [claim.id for claim in await there.claim(10)] == [other_id]
        assert [claim.id for claim in await here.claim(10)] == [task_id]


async def test_a_schema_of_its_own_is_made_and_used_alone(postgresql_url: str):
    async with bench_on(postgresql_url, naming=Naming(schema="queueing")) as bench:
        await bench.add()
        rows = await bench.sql("SELECT table_schema FROM information_schema.tables WHERE table_name LIKE 'aiotask%'")
        assert {row[0] for row in rows} == {"queueing"}
        assert len(await bench.claim(10)) == 1


@pytest.mark.parametrize("prefix", ["aiotaskstore_", "my_queue_"])
async def test_the_ddl_text_run_by_hand_makes_tables_that_a_store_works_on(url: str, prefix: str):
    store = TaskStore(url, prefix=prefix, migrate=False)
    storage = connect(url)
    await storage.database.open()
    try:
        async with storage.database.session() as session:
            for statement in migrations.split(store.ddl()):
                await session.script(statement)
    finally:
        await storage.database.close()

    @store.task
    async def add(a: int, b: int) -> int:
        return a + b

    async with store:
        assert await store.migrate() == 0
        handle = await add.enqueue(1, b=2)
        async with store.dispatcher():
            assert await handle.result(timeout=LIMIT) == 3


def test_the_ddl_needs_no_database():
    for url in ("postgresql://nobody@nowhere/none", "mysql://nobody@nowhere/none", "sqlite:////no/where.db"):
        text = TaskStore(url, prefix="jobs_").ddl()
        assert "CREATE TABLE" in text
        assert "jobs_tasks" in text
        assert "aiotaskstore_" not in text


def test_the_ddl_names_the_schema_on_postgresql():
    text = TaskStore("postgresql://nobody@nowhere/none", schema="queueing").ddl()
    assert "CREATE SCHEMA IF NOT EXISTS queueing" in text
    assert "queueing.aiotaskstore_tasks" in text


async def _record_version(bench: Bench, version: int) -> None:
    sql = "INSERT INTO aiotaskstore_migrations (version, name, applied_at) VALUES (:version, 'future', :at)"
    await bench.sql(sql, version=version, at=datetime.now(UTC))
