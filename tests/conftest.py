"""The databases that every test runs on: a fresh, empty one for each test, on real servers."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit
from uuid import uuid4

import aiomysql
import asyncpg
import pytest

from aiotaskstore import TaskStore

DIALECTS = ("postgresql", "mysql", "sqlite")


@pytest.fixture(params=DIALECTS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a fresh, empty database, on each of the three in turn."""
    with _FRESH[request.param]() as text:
        yield text


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    """The URL of a fresh, empty database on PostgreSQL."""
    with _fresh_postgresql() as text:
        yield text


@pytest.fixture
def mysql_url() -> Iterator[str]:
    """The URL of a fresh, empty database on MySQL or MariaDB."""
    with _fresh_mysql() as text:
        yield text


@pytest.fixture
def sqlite_url() -> Iterator[str]:
    """The URL of a SQLite file that does not exist yet."""
    with _fresh_sqlite() as text:
        yield text


@pytest.fixture
async def store(url: str) -> AsyncIterator[TaskStore]:
    """An open store on `url`, on the test's own loop."""
    async with TaskStore(url) as opened:
        yield opened


def pytest_sessionfinish() -> None:
    """Drop the databases that were kept to be used again."""
    while _idle:
        name = urlsplit(_idle.pop()).path.removeprefix("/")
        sql = f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"
        _aside(lambda sql=sql: _run_on_postgresql(_server("postgresql"), sql))  # type: ignore[misc]


def _server(dialect: str) -> str:
    variable = f"AIOTASKSTORE_TEST_{dialect.upper()}"
    text = os.environ.get(variable)
    if not text:
        pytest.fail(
            f"{variable} names no database. Run python3 tests/run.py, which starts one, or set it to a URL.",
            pytrace=False,
        )
    return text


_EMPTY = """
DO $$ DECLARE name text; BEGIN
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
    FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
    CREATE SCHEMA public;
END $$
"""
_idle: list[str] = []
"""Databases on PostgreSQL that are empty again: making one takes ten times as long as emptying it."""


@contextmanager
def _fresh_postgresql() -> Iterator[str]:
    server = _server("postgresql")
    if not _idle:
        name = f"aiotaskstore_{uuid4().hex[:16]}"
        _aside(lambda: _run_on_postgresql(server, f"CREATE DATABASE {name} TEMPLATE template0"))
        _idle.append(urlunsplit(urlsplit(server)._replace(path=f"/{name}")))
    text = _idle.pop()
    yield text
    _aside(lambda: _run_on_postgresql(text, _EMPTY))
    _idle.append(text)


async def _run_on_postgresql(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""), timeout=20)
    try:
        await connection.execute("SET client_min_messages = error")
        await connection.execute(sql)
    finally:
        await connection.close()


@contextmanager
def _fresh_mysql() -> Iterator[str]:
    server = _server("mysql")
    parts = urlsplit(server)
    name = f"aiotaskstore_{uuid4().hex[:16]}"

    async def run(sql: str) -> None:
        connection = await aiomysql.connect(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 3306,
            user=unquote(parts.username or "root"),
            password=unquote(parts.password or ""),
            connect_timeout=20,
        )
        try:
            async with connection.cursor() as cursor:
                await cursor.execute(sql)
        finally:
            await connection.ensure_closed()

    _aside(lambda: run(f"CREATE DATABASE {name} CHARACTER SET utf8mb4"))
    try:
        yield urlunsplit(parts._replace(path=f"/{name}"))
    finally:
        _aside(lambda: run(f"DROP DATABASE IF EXISTS {name}"))


@contextmanager
def _fresh_sqlite() -> Iterator[str]:
    folder = Path(unquote(urlsplit(_server("sqlite")).path).removeprefix("/")).absolute().parent
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{uuid4().hex[:16]}.db"
    try:
        yield f"sqlite:///{file}"
    finally:
        for left in folder.glob(f"{file.name}*"):
            left.unlink()


_FRESH: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "postgresql": _fresh_postgresql,
    "mysql": _fresh_mysql,
    "sqlite": _fresh_sqlite,
}


def _aside(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine on a loop and a thread of its own: the test's loop may not exist yet, or be in use."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
