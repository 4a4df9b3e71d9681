"""A statement that is larger than the server's max_allowed_packet."""

from __future__ import annotations

from contextlib import closing

import pytest
from pymysql import err

from aiotaskstore import PayloadError, TaskStore, TaskStoreError
from aiotaskstore.storage.mysql.error_translation import translate
from tests.helpers import connect_mysql


async def test_what_does_not_fit_is_refused_and_the_database_is_not_called_unavailable(mysql_url: str):
    async with TaskStore(mysql_url, payload_limit=10**9) as store:
        handler = store.task(alias="keep")(_keep)
        most = await _packet(mysql_url)
        with pytest.raises(PayloadError, match=rf"max_allowed_packet, {most:,} bytes"):
            await handler.enqueue("é" * (most // 2))
        assert await store.tasks.count() == 0


async def test_a_callers_transaction_stays_usable(mysql_url: str):
    async with TaskStore(mysql_url, payload_limit=10**9) as store:
        handler = store.task(alias="keep")(_keep)
        await store.tasks.count()
        async with store.transaction():
            with pytest.raises(TaskStoreError):
                await handler.enqueue("x" * await _packet(mysql_url))
            handle = await handler.enqueue("short")
        assert await store.tasks.get(handle.id)


@pytest.mark.parametrize("code", [1153, 1301, 3150])
def test_the_servers_own_refusal_is_told_apart_from_an_outage(code: int):
    assert isinstance(translate(err.OperationalError(code, "Got a packet bigger than that")), PayloadError)


async def _keep(text: str) -> None:
    """Never runs."""


async def _packet(url: str) -> int:
    with closing(await connect_mysql(url)) as connection:
        async with connection.cursor() as cursor:
            await cursor.execute("SELECT @@max_allowed_packet")
            return int((await cursor.fetchone())[0])
