"""Every text is stored and given back as it was, whatever character set the server's databases have by default."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import aiomysql
import pytest

from aiotaskstore import ConfigurationError, TaskContext, TaskFailedError, TaskStore
from tests.helpers import LIMIT, connect_mysql, eventually

TEXT = "Grüße, мир 🎉"


@pytest.fixture
async def latin1_url(mysql_url: str) -> str:
    """The URL of an empty database whose default character set is latin1, as MariaDB's is in places."""
    connection = await connect_mysql(mysql_url)
    async with connection.cursor() as cursor:
        await cursor.execute(f"ALTER DATABASE `{urlsplit(mysql_url).path[1:]}` CHARACTER SET latin1")
    connection.close()
    return mysql_url


async def pool_of(url: str, **options: Any) -> Any:
    parts = urlsplit(url)
    return await aiomysql.create_pool(
        host=parts.hostname, port=parts.port or 3306, user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""), db=parts.path[1:], minsize=1, maxsize=3, **options,
    )  # fmt: skip


async def _carries_every_text(store: TaskStore) -> None:
    @store.task(alias="works", title=TEXT, description=TEXT)
    async def works(context: TaskContext, text: str) -> str:
        context.info(TEXT)
        await context.progress(TEXT)
        return text

    @store.task(alias="fails", max_attempts=1)
    async def fails() -> None:
        raise ValueError(TEXT)

    keyed = works.options(
        external_id=TEXT, on_conflict="return", metadata={"text": TEXT}, owner=("shop", TEXT), source=TEXT
    )
    handle = await keyed.enqueue(TEXT)
    assert (await keyed.enqueue(TEXT)).id == handle.id
    async with store.transaction():
        assert (await keyed.enqueue(TEXT)).id == handle.id
    assert [task.id for task in await store.tasks.list(external_id=TEXT)] == [handle.id]
    cancelled = await works.options(external_id="another", delay=3600).enqueue(TEXT)
    await store.tasks.cancel(cancelled.id, reason=TEXT)
    failing = await fails.enqueue()
    async with store.dispatcher(poll_interval=0.1):
        assert await handle.result(timeout=LIMIT) == TEXT
        with pytest.raises(TaskFailedError):
            await failing.result(timeout=LIMIT)
    task = await handle.task()
    assert (task.external_id, task.owner, task.source) == (TEXT, ("shop", TEXT), TEXT)
    assert (task.payload, task.metadata) == ({"text": TEXT}, {"text": TEXT})
    assert task.progress is not None
    assert task.progress.text == TEXT
    assert TEXT in task.details
    assert (await store.tasks.require(cancelled.id)).cancel_reason == TEXT
    failed = await failing.task()
    assert failed.error is not None
    assert TEXT in failed.error
    assert await store.tasks.delete(handle.id)
    assert (await keyed.enqueue(TEXT)).id != handle.id


async def test_a_database_of_another_character_set_holds_every_text(latin1_url: str):
    async with TaskStore(latin1_url) as store:
        await _carries_every_text(store)


async def test_an_applications_pool_in_such_a_database_carries_every_text(latin1_url: str):
    async with await pool_of(latin1_url) as pool, TaskStore(pool) as store:
        await _carries_every_text(store)


async def test_a_pool_that_cannot_carry_every_text_is_refused(mysql_url: str):
    async with await pool_of(mysql_url, charset="latin1") as pool:
        store = TaskStore(pool)
        with pytest.raises(ConfigurationError, match=r'charset=.latin1.*Connect with charset="utf8mb4"'):
            await store.open()
        assert not store.is_open
        await eventually(lambda: pool.freesize == pool.size)


async def test_a_connection_that_cannot_carry_every_text_is_refused(mysql_url: str):
    connection = await connect_mysql(mysql_url, charset="latin1")
    async with TaskStore(mysql_url) as store:

        @store.task
        async def work(text: str) -> None: ...

        await connection.begin()
        with pytest.raises(ConfigurationError, match=r'charset=.latin1.*Connect with charset="utf8mb4"'):
            await work.using(connection).enqueue(TEXT)
        await connection.commit()
        assert await store.tasks.count() == 0
    connection.close()
