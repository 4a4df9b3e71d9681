"""Behind a pooler the server may change with each transaction, so nothing may stay prepared on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

from aiotaskstore import TaskStore, noop
from aiotaskstore.storage import migrations
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.operation import Query, Rows, Steps
from aiotaskstore.storage.storage import Storage
from tests.helpers import LIMIT

BACKEND_KEY = b"K\x00\x00\x00\x0c"
"""How the message begins that carries the process id: a server's own, a pooler's invented one."""

SETTINGS = """
SELECT current_setting('search_path'), current_setting('TimeZone'),
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
    (SELECT count(*) FROM pg_listening_channels())
"""


@asynccontextmanager
async def pooler_before(url: str) -> AsyncIterator[str]:
    """Stand before the server and send clients a process id that is not its own."""
    parts = urlsplit(url)

    async def serve(client: asyncio.StreamReader, replies: asyncio.StreamWriter) -> None:
        server, requests = await asyncio.open_connection(parts.hostname, parts.port or 5432)
        async with asyncio.TaskGroup() as group:
            group.create_task(forward(client, requests))
            group.create_task(forward(server, replies, lie=True))

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    try:
        yield urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}"))
    finally:
        proxy.close()


async def forward(source: asyncio.StreamReader, target: asyncio.StreamWriter, *, lie: bool = False) -> None:
    try:
        while chunk := await source.read(65536):
            if lie and BACKEND_KEY in chunk:
                start, _, rest = chunk.partition(BACKEND_KEY)
                chunk, lie = start + BACKEND_KEY + (7).to_bytes(4, "big") + rest[4:], False
            target.write(chunk)
            await target.drain()
    except ConnectionError:
        pass  # whoever ended first has ended both
    finally:
        target.close()


async def prepared_after_some_use(storage: Storage) -> int:
    def ask() -> Steps[Rows]:
        for _ in range(3):
            yield Query("SELECT count(*) FROM pg_prepared_statements WHERE 1 = :one", {"one": 1})
        return (yield Query("SELECT count(*) FROM pg_prepared_statements WHERE 2 = :two", {"two": 2}))

    return int((await storage.database.read(ask))[0][0])


async def test_statements_are_prepared_where_the_server_is_spoken_to(postgresql_url: str):
    storage = connect(postgresql_url, pool_size=1)
    await storage.database.open()
    assert await prepared_after_some_use(storage) > 0
    await storage.database.close()


async def test_no_statement_is_prepared_behind_a_pooler(postgresql_url: str):
    async with pooler_before(postgresql_url) as pooled:
        storage = connect(pooled, pool_size=1)
        await storage.database.open()
        assert await prepared_after_some_use(storage) <= 1  # the one that asks
        await storage.database.close()


async def test_tasks_run_behind_a_pooler(postgresql_url: str):
    async with pooler_before(postgresql_url) as pooled:
        store = TaskStore(pooled)
        store.include(noop)
        async with store, store.dispatcher():
            handle = await noop.enqueue()
            assert (await handle.wait(timeout=LIMIT)).status == "succeeded"
            assert await migrations.version(store._require_open().storage.database) == migrations.LATEST


async def test_what_a_transaction_does_to_its_session_ends_with_it_behind_a_pooler_too(postgresql_url: str):
    """Before the COMMIT: after it, the session may serve somebody else."""
    async with pooler_before(postgresql_url) as pooled, TaskStore(pooled, pool_size=1) as store:
        store.include(noop)
        async with store.transaction() as connection:
            before = await connection.fetchrow(SETTINGS)
        async with store.transaction() as connection:
            for change in ("SET search_path TO pg_catalog", "SET TimeZone = 'Asia/Kathmandu'", "LISTEN something"):
                await connection.execute(change)
            await connection.execute("SELECT pg_advisory_lock(42)")
        async with store.transaction() as connection:
            await noop.using(connection).enqueue()
            assert tuple(await connection.fetchrow(SETTINGS)) == tuple(before)
        assert await store.tasks.count() == 1
