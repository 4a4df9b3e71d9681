"""Connections of an application by every driver and by SQLAlchemy, spoken to in the same words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import asyncmy
import psycopg
from psycopg.rows import dict_row
from psycopg.types.string import TextBinaryLoader
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine


class Way(NamedTuple):
    """How an application reaches a database."""

    engine: str
    driver: str
    kind: str
    """session or connection: SQLAlchemy's; raw: the driver's own."""

    def __str__(self) -> str:
        return "-".join(self)


WAYS = (
    Way("postgresql", "asyncpg", "session"),
    Way("postgresql", "asyncpg", "connection"),
    Way("postgresql", "psycopg", "session"),
    Way("postgresql", "psycopg", "raw"),
    Way("mysql", "aiomysql", "session"),
    Way("mysql", "asyncmy", "connection"),
    Way("mysql", "asyncmy", "raw"),
    Way("mariadb", "aiomysql", "connection"),
    Way("mariadb", "asyncmy", "session"),
    Way("sqlite", "aiosqlite", "session"),
    Way("sqlite", "aiosqlite", "connection"),
)


class Caller:
    """A connection of the application's own, and what it does with it."""

    def __init__(self, way: Way, connection: Any, engine: AsyncEngine | None) -> None:
        self.way, self.connection, self.engine = way, connection, engine

    async def execute(self, sql: str) -> list[tuple[Any, ...]]:
        if self.way.kind == "raw":
            async with self.connection.cursor() as cursor:
                await cursor.execute(sql)
                if cursor.description is None:
                    return []
                return [tuple(row.values() if isinstance(row, dict) else row) for row in await cursor.fetchall()]
        connection = await self.connection.connection() if self.way.kind == "session" else self.connection
        result = await connection.exec_driver_sql(sql)
        return [tuple(row) for row in result.fetchall()] if result.returns_rows else []

    async def commit(self) -> None:
        await self.connection.commit()

    async def rollback(self) -> None:
        await self.connection.rollback()


def sqlalchemy_url(url: str, driver: str) -> str:
    return f"{url.partition(':')[0]}+{driver}:{url.partition(':')[2]}"


@asynccontextmanager
async def caller(url: str, way: Way, **options: Any) -> AsyncIterator[Caller]:
    """Open a connection as an application would."""
    if way.kind == "raw":
        raw = await (_psycopg(url) if way.driver == "psycopg" else _asyncmy(url))
        try:
            yield Caller(way, raw, None)
        finally:
            await (raw.close() if way.driver == "psycopg" else raw.ensure_closed())
        return
    engine = create_async_engine(sqlalchemy_url(url, way.driver), **options)
    try:
        opened: Any = AsyncSession(engine) if way.kind == "session" else AsyncConnection(engine)
        async with opened:
            yield Caller(way, opened, engine)
    finally:
        await engine.dispose()


async def _psycopg(url: str) -> Any:
    connection = await psycopg.AsyncConnection.connect(url, row_factory=dict_row)
    for name in ("uuid", "timestamptz"):
        connection.adapters.register_loader(name, TextBinaryLoader)
    return connection


async def _asyncmy(url: str) -> Any:
    parts = urlsplit(url)
    return await asyncmy.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""),
        db=parts.path[1:],
    )
