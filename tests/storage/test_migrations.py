"""The tables: made, remade, raced for, too old, too new, elsewhere."""

from __future__ import annotations

import asyncio
import re
import sys
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest

from aiotaskstore import ConfigurationError, SchemaOutdatedError, SchemaTooNewError, TaskStore, TaskStoreError
from aiotaskstore.storage import migrations
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.table_names import TableNames
from tests.helpers import LIMIT, my_connection
from tests.storage.harness import Harness, harness_on


@pytest.mark.acceptance("A02")
async def test_a_second_migration_finds_nothing_to_do(url: str):
    store = TaskStore(url)
    assert await store.migrate() == migrations.LATEST
    assert await store.migrate() == 0
    async with store:
        assert await store.migrate() == 0


@pytest.mark.acceptance("A02")
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


async def test_twenty_five_that_start_at_once_on_an_empty_database_all_open(url: str):
    """Also where some have a prefix of their own."""
    await start_at_once(url, None)


async def test_twenty_five_that_start_at_once_where_the_schema_is_missing_too_all_open(postgresql_url: str):
    await start_at_once(postgresql_url, "queueing")


async def start_at_once(url: str, schema: str | None) -> None:
    stores = [TaskStore(url, schema=schema, prefix=f"p{n % 2}_", pool_size=1) for n in range(25)]
    failures = []

    async def start(store: TaskStore) -> None:
        try:
            await store.open()
        except TaskStoreError as error:
            failures.append(error)

    try:
        async with asyncio.TaskGroup() as group:
            for store in stores:
                group.create_task(start(store))
        assert not failures
        assert [await store.tasks.count() for store in stores] == [0] * 25
    finally:
        for store in stores:
            await store.close()


_OPEN = """
import asyncio, sys
from aiotaskstore import TaskStore
url, schema = sys.argv[1:]
async def main():
    store = TaskStore(url, schema=schema or None)
    print("ready", flush=True)
    sys.stdin.readline()
    async with store:
        print(await store.tasks.count(), flush=True)
asyncio.run(main())
"""


async def test_processes_that_start_at_once_on_an_empty_database_all_open(url: str):
    schema = "queueing" if url.startswith("postgresql") else ""
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", _OPEN, url, schema,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )
        for _ in range(6)
    ]  # fmt: skip
    async with asyncio.timeout(LIMIT):
        for process in started:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
        answers = [await process.communicate() for process in started]
    assert [out for out, _ in answers] == [b"0\n"] * len(started), answers


async def test_a_user_without_the_right_to_make_schemas_uses_one_that_was_made(postgresql_url: str):
    role = f"role_{uuid4().hex[:8]}"
    async with my_connection(postgresql_url) as mine:
        database = urlsplit(postgresql_url).path[1:]
        await mine.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        try:
            await mine.execute(f"CREATE SCHEMA queueing AUTHORIZATION {role}")
            await mine.execute(f"REVOKE CREATE ON DATABASE {database} FROM PUBLIC")
            parts = urlsplit(postgresql_url)
            address = parts.netloc.rpartition("@")[2]
            url = urlunsplit(parts._replace(netloc=f"{role}:x@{address}"))
            async with TaskStore(url, schema="queueing") as store:
                assert await store.tasks.count() == 0
        finally:
            await mine.execute("DROP SCHEMA IF EXISTS queueing CASCADE")
            await mine.execute(f"DROP OWNED BY {role}")
            await mine.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize("schema", ["user", "select", "_", "s" * 40, "s" * 63])
async def test_any_schema_that_postgresql_takes_works_for_everything(postgresql_url: str, schema: str):
    """Reserved words, and names as long as they may be, with notifications and all."""
    store = TaskStore(postgresql_url, schema=schema, prefix="p" * 30)

    @store.task
    async def add(a: int) -> int:
        return a + 1

    async with store, store.dispatcher(poll_interval=60):
        assert await (await add.options(external_id="x").enqueue(1)).result(LIMIT) == 2
        async with store.transaction():
            inside = await add.enqueue(2)
        assert await inside.result(LIMIT) == 3
        assert await store.tasks.delete(where="all") == 2


def test_every_name_in_the_tables_fits_the_longest_prefix():
    for kind, longest in (("postgresql", 63), ("mysql", 64)):
        text = migrations.ddl(kind, TableNames(prefix="p" * 30))
        names = re.findall(r"\bp{30}\w+", text)
        assert names
        assert max(map(len, names)) <= longest


@pytest.mark.parametrize("schema", ["", "pg_mine", "s" * 64, "Upper", "1st", "a-b", 'a"b', 5, "naïve"])
def test_a_schema_that_postgresql_would_not_take_is_refused_when_the_store_is_made(schema: Any):
    with pytest.raises(ConfigurationError, match="A schema name is lower-case letters"):
        TaskStore("postgresql://nobody@nowhere/none", schema=schema)


def test_a_prefix_that_sqlite_keeps_for_itself_is_refused_when_the_store_is_made():
    with pytest.raises(ConfigurationError, match="must not start with sqlite_"):
        TaskStore("sqlite://", prefix="sqlite_")


async def test_without_migrate_missing_tables_are_an_error_that_names_the_command(url: str):
    store = TaskStore(url, migrate=False)
    with pytest.raises(SchemaOutdatedError, match="aiotaskstore migrate"):
        await store.open()
    assert not store.is_open
    await TaskStore(url).migrate()
    async with store:
        assert store.is_open


async def test_tables_of_a_newer_library_are_left_alone(url: str):
    async with harness_on(url) as harness:
        await _record_version(harness, migrations.LATEST + 1)
    for migrate in (True, False):
        with pytest.raises(SchemaTooNewError, match="Upgrade aiotaskstore"):
            await TaskStore(url, migrate=migrate).open()
    with pytest.raises(SchemaTooNewError):
        await TaskStore(url).migrate()


async def test_tables_of_an_older_library_are_refused_without_migrate(url: str):
    async with harness_on(url) as harness:
        await harness.sql("DELETE FROM aiotaskstore_migrations")
    with pytest.raises(SchemaOutdatedError):
        await TaskStore(url, migrate=False).open()


async def test_stores_with_different_prefixes_share_a_database_and_no_row(url: str):
    async with harness_on(url) as here, harness_on(url, table_names=TableNames("other_")) as there:
        task_id = await here.add(external_id="same")
        other_id = await there.add(external_id="same")
        assert await there.status(task_id) is None
        assert [claim.id for claim in await there.claim(10)] == [other_id]
        assert [claim.id for claim in await here.claim(10)] == [task_id]


async def test_a_schema_of_its_own_is_made_and_used_alone(postgresql_url: str):
    async with harness_on(postgresql_url, table_names=TableNames(schema="queueing")) as harness:
        await harness.add()
        rows = await harness.sql("SELECT table_schema FROM information_schema.tables WHERE table_name LIKE 'aiotask%'")
        assert {row[0] for row in rows} == {"queueing"}
        assert len(await harness.claim(10)) == 1


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
    assert 'CREATE SCHEMA IF NOT EXISTS "queueing"' in text
    assert '"queueing".aiotaskstore_tasks' in text


async def _record_version(harness: Harness, version: int) -> None:
    sql = "INSERT INTO aiotaskstore_migrations (version, name, applied_at) VALUES (:version, 'future', :at)"
    await harness.sql(sql, version=version, at=datetime.now(UTC))
