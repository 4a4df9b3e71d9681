"""Transactions of an application's own, on connections of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiomysql
import aiosqlite
import asyncpg

from tests.helpers import LIMIT


@asynccontextmanager
async def rolled_back(url: str) -> AsyncIterator[Any]:
    """A transaction of the application's own, on a connection of its own."""
    parts = urlsplit(url)
    async with AsyncExitStack() as stack:
        if url.startswith("postgresql"):
            postgresql = await asyncpg.connect(url)
            stack.push_async_callback(postgresql.close)
            transaction = postgresql.transaction()
            await transaction.start()
            stack.push_async_callback(transaction.rollback)
            yield postgresql
        elif url.startswith("mysql"):
            address = {"host": parts.hostname, "port": parts.port or 3306, "user": parts.username}
            mysql = await aiomysql.connect(
                **address, password=parts.password or "", db=parts.path[1:], charset="utf8mb4"
            )
            stack.callback(mysql.close)
            await mysql.begin()
            stack.push_async_callback(mysql.rollback)
            yield mysql
        else:
            sqlite = await stack.enter_async_context(aiosqlite.connect(parts.path[1:], timeout=LIMIT))
            await sqlite.execute("BEGIN IMMEDIATE")
            stack.push_async_callback(sqlite.rollback)
            yield sqlite
