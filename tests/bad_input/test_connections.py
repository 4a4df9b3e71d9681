"""Connections that a task cannot be enqueued on: refused before anything is sent on them."""

# ruff: noqa: E501, PLW0108 - a list of calls reads by its rows, and all alike
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import aiomysql
import aiosqlite
import asyncpg
import pytest

from aiotaskstore import (
    ConfigurationError,
    DatabaseUnavailableError,
    DuplicateTaskError,
    NotInTransactionError,
    PayloadError,
    TaskStore,
    UnknownAliasError,
)
from tests.bad_input.refusals import judge, refusal_of

BEGIN = {
    "postgresql": ("asyncpg", r"async with connection\.transaction\(\):"),
    "mysql": ("aiomysql", r"await connection\.begin\(\)"),
    "sqlite": ("aiosqlite", r'await connection\.execute\("BEGIN IMMEDIATE"\)'),
}


def kind_of(url: str) -> str:
    return urlsplit(url).scheme


async def connect(url: str, *, autocommit: bool = True) -> Any:
    """A connection of the application's own, in autocommit or as its driver opens it."""
    parts = urlsplit(url)
    match parts.scheme:
        case "postgresql":
            return await asyncpg.connect(url)
        case "mysql":
            return await aiomysql.connect(
                host=parts.hostname, port=parts.port or 3306, user=parts.username, password=unquote(parts.password or ""),
                db=parts.path[1:], autocommit=autocommit,
            )  # fmt: skip
        case _:
            file = parts.path.removeprefix("/")
            return await (aiosqlite.connect(file, isolation_level=None) if autocommit else aiosqlite.connect(file))


async def close(connection: Any) -> None:
    if isinstance(connection, aiomysql.Connection):
        connection.close()
    else:
        await connection.close()


@asynccontextmanager
async def connected(url: str, *, autocommit: bool = True) -> AsyncIterator[Any]:
    connection = await connect(url, autocommit=autocommit)
    try:
        yield connection
    finally:
        await close(connection)


async def begin(connection: Any) -> None:
    if isinstance(connection, aiomysql.Connection):
        await connection.begin()
    else:
        await connection.execute("BEGIN")


async def finish(connection: Any, word: str) -> None:
    if isinstance(connection, asyncpg.Connection):
        await connection.execute(word)
    else:
        await getattr(connection, word.lower())()


def declared(store: TaskStore) -> Any:
    @store.task
    async def add(a: int) -> int:
        return a

    return add


def join_the_connection(store: TaskStore, task: Any, connection: Any) -> Any:
    async def joined() -> None:
        with store.joined(connection):
            await task.enqueue(1)

    return joined


def ways(store: TaskStore, task: Any, connection: Any) -> list[Any]:
    """Every way by which a connection is given to us."""

    return [
        lambda: task.using(connection).enqueue(1),
        lambda: task.using(connection).options(priority=1).enqueue(1),
        lambda: task.options(external_id="x").using(connection).enqueue(1),
        lambda: store.using(connection).enqueue("add", {"a": 1}),
        lambda: store.using(connection).enqueue("elsewhere", {"a": 1}, unchecked=True),
        lambda: store.using(connection).enqueue_many([task.draft(1), task.draft(2)]),
        lambda: store.using(connection).tasks.list(),
        lambda: store.using(connection).tasks.count(),
        lambda: store.using(connection).tasks.cancel(where={"alias": "add"}),
        join_the_connection(store, task, connection),
    ]


async def test_none_is_no_connection_and_nothing_is_stored(store: TaskStore):
    """A forgotten connection must not enqueue outside any transaction."""

    @store.task
    async def add(a: int) -> int:
        return a

    async def joined() -> None:
        with store.joined(None):
            await add.enqueue(1)

    for call in (
        lambda: add.using(None).enqueue(1), lambda: add.options(delay=5).using(None).enqueue(1),
        lambda: add.using(None).options(delay=5).enqueue(1), lambda: store.using(None).enqueue("add", {"a": 1}),
        lambda: store.using(None).enqueue_many([add.draft(1)]), lambda: store.using(None).tasks.list(), joined,
    ):  # fmt: skip
        judge(await refusal_of(call), ConfigurationError, "None was given, which would enqueue outside any transaction")
    assert await store.tasks.count() == 0


async def test_a_connection_that_commits_by_itself_is_refused(store: TaskStore, url: str):
    task = declared(store)
    driver, how = BEGIN[kind_of(url)]
    async with connected(url) as connection:
        for way in ways(store, task, connection):
            words = (
                rf"The {driver} connection commits by itself.*Open one first \({how}\), or call \.enqueue\(\) without"
            )
            judge(await refusal_of(way), NotInTransactionError, words)
        assert await store.tasks.count() == 0
        await begin(connection)
        await task.using(connection).enqueue(1)
        await finish(connection, "COMMIT")
        judge(await refusal_of(lambda: task.using(connection).enqueue(2)), NotInTransactionError, "commits by itself")
    assert await store.tasks.count() == 1


async def test_a_connection_as_its_driver_opens_it_never_commits_for_its_owner(store: TaskStore, url: str):
    """Outside autocommit, the driver opens the transaction; what we do there stays the owner's to commit."""
    if kind_of(url) == "postgresql":
        return  # asyncpg knows nothing but autocommit and explicit transactions
    task = declared(store)
    stored = 0
    async with connected(url, autocommit=False) as connection:
        for name, count, call in (
            ("one", 1, lambda: task.using(connection).enqueue(1)),
            ("one with an external id", 1, lambda: task.options(external_id="x").using(connection).enqueue(1)),
            ("many", 2, lambda: store.using(connection).enqueue_many([task.draft(1), task.draft(2)])),
            ("by alias", 1, lambda: store.using(connection).enqueue("elsewhere", unchecked=True)),
            ("joined", 1, join_the_connection(store, task, connection)),
            ("a delete", -1, lambda: store.using(connection).tasks.delete(where={"alias": "elsewhere"})),
        ):
            for ending in ("ROLLBACK", "COMMIT"):
                await call()
                assert await store.tasks.count() == stored, f"{name}: committed before the {ending}"
                await finish(connection, ending)
            stored += count
            assert await store.tasks.count() == stored, name


async def test_a_connection_of_another_kind_is_refused(store: TaskStore, url: str):
    task = declared(store)
    driver, _ = BEGIN[kind_of(url)]
    name = {"postgresql": "PostgreSQL", "mysql": "MySQL", "sqlite": "SQLite"}[kind_of(url)]
    others: list[Any] = [object(), "connection", 5, store]
    async with connected("sqlite:///:memory:") as sqlite:
        if kind_of(url) != "sqlite":
            others.append(sqlite)
        for other in others:
            for way in ways(store, task, other):
                words = rf"store is on {name}: \.using\(\) takes an {driver} connection, not {type(other).__name__}"
                judge(await refusal_of(way), ConfigurationError, words)
    assert await store.tasks.count() == 0


async def test_a_pool_is_no_connection(store: TaskStore, url: str):
    task = declared(store)
    pool: Any
    match kind_of(url):
        case "postgresql":
            pool = await asyncpg.create_pool(url, min_size=1, max_size=1)
        case "mysql":
            parts = urlsplit(url)
            pool = await aiomysql.create_pool(
                host=parts.hostname, port=parts.port or 3306, user=parts.username, password=unquote(parts.password or ""),
                db=parts.path[1:],
            )  # fmt: skip
        case _:
            return  # there is none
    try:
        for way in ways(store, task, pool):
            judge(await refusal_of(way), ConfigurationError, r"takes an \w+ connection, not Pool")
    finally:
        if isinstance(pool, aiomysql.Pool):
            pool.close()
            await pool.wait_closed()
        else:
            await pool.close()


async def test_a_closed_connection_is_refused(store: TaskStore, url: str):
    task = declared(store)
    driver, _ = BEGIN[kind_of(url)]
    connection = await connect(url)
    await close(connection)
    for way in ways(store, task, connection):
        judge(
            await refusal_of(way), DatabaseUnavailableError, rf"The {driver} connection of this transaction is closed"
        )
    assert await store.tasks.count() == 0


async def test_a_refusal_leaves_the_callers_transaction_usable(store: TaskStore, url: str):
    task = declared(store)
    await task.options(external_id="taken").enqueue(0)
    async with connected(url) as connection:
        await begin(connection)
        await task.using(connection).enqueue(1)
        for call, kind in (
            (lambda: task.using(connection).enqueue("x"), PayloadError),
            (lambda: task.using(connection).options(delay=-1).enqueue(1), ConfigurationError),
            (lambda: store.using(connection).enqueue("ad", {"a": 1}), UnknownAliasError),
            (lambda: task.using(connection).options(external_id="taken").enqueue(2), DuplicateTaskError),
            (lambda: store.using(connection).enqueue_many([task.draft(3), task.options(external_id="taken").draft(4)]), DuplicateTaskError),
        ):  # fmt: skip
            judge(await refusal_of(call), kind, ".")
        await task.using(connection).enqueue(5)
        assert await store.using(connection).tasks.count() == 3
        await finish(connection, "COMMIT")
    assert sorted([one.payload["a"] for one in await store.tasks.list()]) == [0, 1, 5]


async def test_a_refused_connection_is_left_as_it_was(store: TaskStore, url: str):
    """Nothing is sent on it: no transaction is begun, no setting changed."""
    task = declared(store)
    async with connected(url) as connection:
        await refusal_of(lambda: task.using(connection).enqueue(1))
        match kind_of(url):
            case "postgresql":
                assert not connection.is_in_transaction()
            case "mysql":
                assert connection.get_autocommit()
                assert not connection.get_transaction_status()
            case _:
                assert not connection.in_transaction
                assert connection.isolation_level is None


async def test_a_transaction_that_takes_too_long_is_ended(url: str):
    begun = False
    async with TaskStore(url, transaction_timeout=0.2) as store:
        task = declared(store)
        while not begun:  # within the limit, which a slow machine may exceed before
            with pytest.raises(TimeoutError, match=r"transaction_timeout \(0.2 s\)") as raised:
                async with store.transaction():
                    begun = True
                    await task.enqueue(1)
                    await asyncio.Event().wait()
        assert "longer than" in str(raised.value)
        assert await store.tasks.count() == 0
        await task.enqueue(2)
        assert await store.tasks.count() == 1
