"""Leave three tasks in the tables of a peer: `python waiting_in_peers.py procrastinate postgresql://…`.

One is due, one has its time in the year 2040, a priority above the usual one and what keeps it unique, and one is of
another name.
"""

import asyncio
import json
import logging
import sys
from datetime import UTC, datetime

import asyncpg
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries
from procrastinate import App, PsycopgConnector

LATER = datetime(2040, 1, 1, tzinfo=UTC)


async def leave_in_procrastinate(url: str) -> None:
    app = App(connector=PsycopgConnector(conninfo=url, min_size=1, max_size=1))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await app.configure_task("remind").defer_async(address="ada@example.org")
        await app.configure_task(
            "remind", queue="mail", priority=5, schedule_at=LATER, lock="mail server", queueing_lock="bob"
        ).defer_async(address="bob@example.org")
        await app.configure_task("another").defer_async()


async def leave_in_pgqueuer(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        queries = Queries(AsyncpgDriver(connection))
        await queries.install()
        await queries.enqueue("remind", json.dumps({"address": "ada@example.org"}).encode())
        await queries.enqueue(
            "remind", json.dumps({"address": "bob@example.org"}).encode(), 5, LATER - datetime.now(UTC), "bob"
        )
        await queries.enqueue("another", None)
    finally:
        await connection.close()


logging.disable(logging.CRITICAL)
asyncio.run({"procrastinate": leave_in_procrastinate, "pgqueuer": leave_in_pgqueuer}[sys.argv[1]](sys.argv[2]))
