"""A store on the application's own pool: what it cannot do by itself, and what it says."""

from __future__ import annotations

import json
import logging
from contextlib import AsyncExitStack

import asyncpg
import pytest

from aiotaskstore import DispatcherStarted, TaskStore, TaskStoreError
from aiotaskstore.events import BackgroundFailed
from aiotaskstore.noop_task import noop
from aiotaskstore.storage.operation import Query, Rows, Steps
from tests.helpers import LIMIT, expect


async def test_a_pool_without_listen_url_says_once_what_to_do(postgresql_url: str, caplog: pytest.LogCaptureFixture):
    async with asyncpg.create_pool(postgresql_url, min_size=1, max_size=4) as pool:
        store = TaskStore(pool)
        store.include(noop)
        async with store, expect(store, BackgroundFailed, loop="listener") as events, store.dispatcher():
            assert (await (await noop.enqueue()).wait(timeout=LIMIT)).status == "succeeded"
    (event,) = events
    assert isinstance(event, BackgroundFailed)
    assert "up to 1 s late, since it polls" in str(event.error)
    assert 'TaskStore(pool, listen_url="postgresql://' in str(event.error)
    (record,) = (one for one in caplog.records if "listen_url" in one.getMessage())
    assert record.levelno == logging.WARNING
    assert "again in" not in record.getMessage()


async def test_a_pool_with_listen_url_is_woken_by_notifications(postgresql_url: str, caplog: pytest.LogCaptureFixture):
    async with asyncpg.create_pool(postgresql_url, min_size=1, max_size=4) as pool:
        store = TaskStore(pool, listen_url=postgresql_url)
        store.include(noop)
        async with store, expect(store, DispatcherStarted) as events, store.dispatcher():
            assert (await (await noop.enqueue()).wait(timeout=LIMIT)).status == "succeeded"
    (event,) = events
    assert isinstance(event, DispatcherStarted)
    assert event.waking == "notify"
    assert "listen_url" not in caplog.text


async def test_a_pool_that_decodes_json_by_a_codec_of_its_own_changes_no_result(postgresql_url: str):
    async def decode(connection: asyncpg.Connection) -> None:
        for kind in ("json", "jsonb"):
            await connection.set_type_codec(kind, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")

    async with asyncpg.create_pool(postgresql_url, min_size=1, max_size=4, init=decode) as pool:
        store = TaskStore(pool)

        @store.task
        async def echo(text: str) -> dict[str, str]:
            return {"text": text}

        async with store, store.dispatcher():
            handle = await echo.options(metadata={"from": "test"}).enqueue("ä")
            assert await handle.result(timeout=LIMIT) == {"text": "ä"}
            task = await handle.task()
    assert (task.payload, task.result, task.metadata) == ({"text": "ä"}, {"text": "ä"}, {"from": "test"})


class KeptAsItIs(asyncpg.Connection):
    """A connection whose session nobody resets, as applications have behind a pooler."""

    def get_reset_query(self) -> str:
        return ""


async def test_an_applications_connections_keep_their_settings(postgresql_url: str):
    """Also where the pool resets nothing; behind a pooler, somebody else would go on with what we had set."""
    async with asyncpg.create_pool(
        postgresql_url, min_size=4, max_size=4, connection_class=KeptAsItIs, server_settings={"enable_seqscan": "off"}
    ) as pool:
        store = TaskStore(pool)
        store.include(noop)
        async with store, store.dispatcher():
            assert (await (await noop.enqueue()).wait(timeout=LIMIT)).status == "succeeded"
            with pytest.raises(TaskStoreError, match="no_such_function"):
                await store._require_open().storage.database.read(refused)
        async with AsyncExitStack() as stack:
            for _ in range(4):
                connection = await stack.enter_async_context(pool.acquire())
                row = await connection.fetchrow(SETTINGS)
                assert row is not None
                assert tuple(row) == ("auto", "on", "off")


SETTINGS = """
SELECT current_setting('plan_cache_mode'), current_setting('enable_bitmapscan'), current_setting('enable_seqscan')
"""


def refused() -> Steps[Rows]:
    return (yield Query("SELECT no_such_function()", {}))
