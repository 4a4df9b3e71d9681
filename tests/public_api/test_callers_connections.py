"""In the caller's transaction, whatever driver it uses, and through SQLAlchemy: committed with it, gone with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, insert
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from aiotaskstore import (
    ConfigurationError,
    DatabaseUnavailableError,
    DuplicateTaskError,
    NotInTransactionError,
    TaskStatus,
    TaskStore,
    TaskStoreError,
)
from aiotaskstore.mechanics.hint import Hint
from tests.bad_input.refusals import judge, refusal_of
from tests.callers import WAYS, Caller, Way, caller, sqlalchemy_url
from tests.helpers import LIMIT, Mine, eventually, my_connection

_SETTINGS = {
    "postgresql": "SELECT name, setting FROM pg_settings UNION ALL SELECT name, statement FROM pg_prepared_statements "
    "WHERE position('aiotaskstore' in statement) > 0 AND $$psycopg$$ = $${driver}$$",
    "mysql": "SHOW SESSION VARIABLES WHERE Variable_name NOT IN ('timestamp', 'rand_seed1', 'rand_seed2', "
    "'last_insert_id', 'pseudo_thread_id', 'gtid_seq_no', 'last_gtid', 'gtid_executed', 'statement_id') "
    "AND LOCATE('statement_time', Variable_name) = 0",
    "sqlite": "SELECT * FROM pragma_foreign_keys, pragma_journal_mode, pragma_busy_timeout",
}
"""What a session is set to, and which statements of ours it has prepared (asyncpg's own cache does so anyway)."""


def on(*ways: Way) -> pytest.MarkDecorator:
    """Run a test in each of these ways, each on its engine."""
    return pytest.mark.parametrize(
        ("url", "way"), [(way.engine, way) for way in ways], indirect=["url"], ids=map(str, ways)
    )


every_way = on(*WAYS)
every_sqlalchemy = on(*(way for way in WAYS if way.kind != "raw"))
every_server = on(*(way for way in WAYS if way.engine != "sqlite"))


@pytest.fixture
async def other(url: str, store: TaskStore) -> AsyncIterator[Mine]:
    """A connection of somebody else's, who has made a table."""
    async with my_connection(url) as opened:
        await opened.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        if opened.dialect != "postgresql":
            await opened.commit()
        yield opened


@pytest.fixture
async def mine(url: str, way: Way, other: Mine) -> AsyncIterator[Caller]:
    async with caller(url, way) as opened:
        yield opened


async def orders(other: Mine) -> list[int]:
    found = [row[0] for row in await other.execute("SELECT id FROM orders ORDER BY id")]
    if other.dialect != "postgresql":
        await other.rollback()
    return found


@every_way
@pytest.mark.acceptance("A102")
async def test_a_task_is_committed_with_the_callers_own_rows_and_gone_with_its_rollback(
    store: TaskStore, mine: Caller, other: Mine
):
    @store.task
    async def work(n: int) -> int:
        return n

    handle = await work.using(mine.connection).enqueue(7)  # the first statement of the transaction
    await mine.execute("INSERT INTO orders (id) VALUES (1)")
    by_alias = await store.using(mine.connection).enqueue("work", {"n": 8}, delay=5, priority=-3)
    ids = await store.using(mine.connection).enqueue_many([work.draft(n) for n in (9, 10)])
    assert await store.using(mine.connection).tasks.count() == 4
    assert await store.tasks.count() == 0, "nobody else sees it yet"
    await mine.rollback()
    assert (await store.tasks.count(), await orders(other)) == (0, [])

    handle = await work.using(mine.connection).enqueue(7)
    await mine.execute("INSERT INTO orders (id) VALUES (2)")
    by_alias = await store.using(mine.connection).enqueue("work", {"n": 8})
    ids = await store.using(mine.connection).enqueue_many([work.draft(n) for n in (9, 10)])
    await mine.commit()
    assert await orders(other) == [2]
    assert await store.dispatcher().run_once() == 4
    assert await handle.result() == 7
    assert [task.result for task in await store.tasks.list(id_in=[by_alias.id, *ids], descending=False)] == [8, 9, 10]


@every_way
async def test_a_duplicate_keeps_the_callers_transaction_usable(store: TaskStore, mine: Caller, other: Mine):
    @store.task
    async def work() -> None: ...

    first = await work.options(external_id="one").enqueue()
    await mine.execute("INSERT INTO orders (id) VALUES (1)")
    bound = work.using(mine.connection)
    for _ in range(2):
        with pytest.raises(DuplicateTaskError) as caught:
            await bound.options(external_id="one").enqueue()
        assert caught.value.existing_id == first.id
    assert (await bound.options(external_id="one", on_conflict="return").enqueue()).id == first.id
    with pytest.raises(DuplicateTaskError):
        await store.using(mine.connection).enqueue_many([work.draft(), work.options(external_id="one").draft()])
    await bound.options(external_id="two").enqueue()
    with pytest.raises(DuplicateTaskError):
        await bound.options(external_id="two").enqueue()
    await mine.execute("INSERT INTO orders (id) VALUES (2)")
    await mine.commit()
    assert await store.tasks.count() == 2
    assert await orders(other) == [1, 2]


@every_way
async def test_reads_and_actions_take_part_in_it(store: TaskStore, mine: Caller):
    @store.task
    async def work(text: str) -> None: ...

    odd = ["", "it's", 'a "b" {c,d}', "back\\slash \\n", "NULL", "null", "день 🌞", "a\nb\tc", "%s $1 :x ?"]
    before = await work.enqueue("before")
    inside = store.using(mine.connection)
    ids = await inside.enqueue_many(
        [
            (work if number % 2 else work.options(external_id=f"id {text}x", source="s", timeout=1.5 + number))
            .options(metadata={"text": text}, owner=("user", f"{number}\\"))
            .draft(text)
            for number, text in enumerate(odd)
        ]
    )
    found = await inside.tasks.list(id_in=ids, descending=False)
    assert [task.payload["text"] for task in found] == odd
    assert [task.metadata["text"] for task in found] == odd
    assert [task.external_id for task in found] == [None if n % 2 else f"id {text}x" for n, text in enumerate(odd)]
    assert [task.owner for task in found] == [("user", f"{number}\\") for number in range(len(odd))]
    assert all(task.created_at.tzinfo is not None for task in found)
    assert await inside.tasks.count(source="s", external_id="id x") == 1
    assert (await inside.tasks.cancel(before.id, "inside")).status is TaskStatus.CANCELLED
    assert await inside.tasks.delete(where={"id_in": ids[:3]}) == 3
    assert await before.status() is TaskStatus.PENDING
    await mine.commit()
    assert await before.status() is TaskStatus.CANCELLED
    assert [task.payload["text"] for task in await store.tasks.list(status="pending", descending=False)] == odd[3:]


@every_way
@pytest.mark.acceptance("A103")
async def test_a_joined_block_takes_part_and_is_undone_by_the_rollback(store: TaskStore, mine: Caller):
    @store.task
    async def work(n: int) -> None: ...

    before = await work.enqueue(0)
    with store.joined(mine.connection):
        await work.enqueue(1)
        assert await store.tasks.count() == 2
        await store.tasks.cancel(before.id)
    assert await store.tasks.count() == 1
    await mine.rollback()
    assert [task.status for task in await store.tasks.list()] == ["pending"]


@every_way
async def test_a_commit_wakes_dispatchers_without_a_poll(store: TaskStore, mine: Caller):
    @store.task
    async def work(n: int) -> int:
        return n

    async with store.dispatcher(poll_interval=50):
        for n in range(3):
            await work.using(mine.connection).enqueue(100 + n)
            await mine.rollback()
            handle = await work.using(mine.connection).enqueue(n)
            await mine.commit()
            if mine.way.kind == "raw" and mine.way.engine != "postgresql":
                await store.notify()  # only SQLAlchemy tells us of its commits
            assert await handle.result(timeout=LIMIT / 2) == n
    assert await store.tasks.count() == 3


@on(*(way for way in WAYS if way.engine in {"mysql", "mariadb"} and way.kind != "raw"))
async def test_sqlalchemys_commit_passes_the_hint_on_and_its_rollback_drops_it(store: TaskStore, mine: Caller):
    """There the database tells nobody of a commit, and polls grow rare where nothing happens."""

    @store.task(queue="mail")
    async def work() -> None: ...

    hints: list[Hint] = []
    store._lifecycle.require_open().notifier.subscribe(hints.append)
    for number in range(1, 4):
        await work.options(queue="never").using(mine.connection).enqueue()
        await mine.rollback()
        await work.using(mine.connection).enqueue()
        await store.using(mine.connection).tasks.count()
        assert len(hints) == number - 1
        await mine.commit()
        await eventually(lambda: len(hints) == number)  # noqa: B023 - asked here and now
        assert hints[-1].queues == {"mail"}
        assert await store.tasks.count() == number


@every_way
async def test_the_connection_is_given_back_as_it_was(store: TaskStore, mine: Caller):
    @store.task
    async def work() -> None: ...

    kind = "mysql" if mine.way.engine == "mariadb" else mine.way.engine
    question = _SETTINGS[kind].replace("{driver}", mine.way.driver)

    async def asked() -> Any:
        return sorted(await mine.execute(question))

    before = await asked()
    await mine.commit()
    for _ in range(8):
        await work.using(mine.connection).options(external_id="one", on_conflict="return").enqueue()
        await store.using(mine.connection).tasks.list()
        await mine.commit()
    assert await asked() == before
    if mine.way == Way("postgresql", "psycopg", "raw"):
        assert await (await mine.connection.execute("SELECT '[1]'::json AS a")).fetchall() == [{"a": [1]}]


@every_server
async def test_a_statement_that_takes_too_long_ends_and_the_transaction_stays_usable(url: str, way: Way):
    async with TaskStore(url, enqueue_timeout=0.5) as store, TaskStore(url) as elsewhere, caller(url, way) as mine:

        @store.task
        async def work() -> None: ...

        # What must succeed is not under the short limit, which a slow machine exceeds.
        await elsewhere.enqueue("work", unchecked=True)
        async with elsewhere.transaction():
            await elsewhere.enqueue("work", external_id="one", unchecked=True)
            await elsewhere.using(mine.connection).enqueue("work", unchecked=True)
            error = await refusal_of(lambda: work.options(external_id="one").using(mine.connection).enqueue())
            judge(error, DatabaseUnavailableError, "enqueue_timeout")
            await elsewhere.using(mine.connection).enqueue("work", unchecked=True)
        await mine.commit()
        assert await store.tasks.count() == 4


# ── SQLAlchemy alone ──────────────────────────────────────────────────────────────────────────────────────


@every_sqlalchemy
async def test_a_savepoint_that_is_rolled_back_takes_its_tasks_with_it(store: TaskStore, mine: Caller, other: Mine):
    @store.task
    async def work(n: int) -> None: ...

    await work.using(mine.connection).enqueue(1)
    nested = await mine.connection.begin_nested()
    await mine.execute("INSERT INTO orders (id) VALUES (1)")
    await work.using(mine.connection).options(external_id="one").enqueue(2)
    await nested.rollback()
    async with mine.connection.begin_nested():
        await work.using(mine.connection).options(external_id="one").enqueue(3)
    await mine.execute("INSERT INTO orders (id) VALUES (2)")
    await mine.commit()
    assert {task.payload["n"] for task in await store.tasks.list()} == {1, 3}
    assert await orders(other) == [2]


@every_sqlalchemy
async def test_sqlalchemy_in_autocommit_is_refused(store: TaskStore, url: str, way: Way):
    @store.task
    async def work() -> None: ...

    async with caller(url, way, isolation_level="AUTOCOMMIT") as mine:
        for call in (
            lambda: work.using(mine.connection).enqueue(),
            store.using(mine.connection).tasks.list,
        ):
            judge(await refusal_of(call), NotInTransactionError, "SQLAlchemy connection commits by itself")
    assert await store.tasks.count() == 0


@every_sqlalchemy
async def test_a_transaction_that_the_block_commits_carries_the_task(store: TaskStore, url: str, way: Way, other: Mine):
    """As in a FastAPI dependency: the rows and the task in one `begin()`."""

    @store.task
    async def work(n: int) -> int:
        return n

    table = Table("orders", MetaData(), Column("id", Integer, primary_key=True))
    engine = create_async_engine(sqlalchemy_url(url, way.driver))
    try:
        make: Any = async_sessionmaker(engine).begin if way.kind == "session" else engine.begin
        async with make() as connection:
            await connection.execute(insert(table).values(id=5))
            handle = await work.using(connection).enqueue(5)
        with pytest.raises(LookupError):
            async with make() as connection:
                await connection.execute(insert(table).values(id=6))
                await work.using(connection).enqueue(6)
                raise LookupError
        async with engine.connect() as connection:
            await work.using(connection).enqueue(7)  # closed without a commit
    finally:
        await engine.dispose()
    assert await store.dispatcher().run_once() == 1
    assert await handle.result() == 5
    assert await orders(other) == [5]


async def test_many_sessions_one_after_the_other_wake_dispatchers_each(store: TaskStore, url: str):
    """Sessions come and go on few connections: no hint is lost, none belongs to another session."""
    engine_name = "postgresql" if url.startswith("postgresql") else "mysql" if url.startswith("mysql") else "sqlite"
    driver = {"postgresql": "asyncpg", "mysql": "aiomysql", "sqlite": "aiosqlite"}[engine_name]

    @store.task
    async def work(n: int) -> int:
        return n

    engine = create_async_engine(sqlalchemy_url(url, driver))
    session = async_scoped_session(async_sessionmaker(engine), scopefunc=lambda: 1)
    try:
        async with store.dispatcher(poll_interval=50):
            for n in range(20):
                handle = await store.using(session).enqueue("work", {"n": n})
                await session.commit()
                await session.remove()
                assert await handle.result(timeout=LIMIT / 2) == n
    finally:
        await engine.dispose()


async def test_what_cannot_carry_a_task_is_refused_with_the_reason(
    store: TaskStore, url: str, sqlite_url: str, postgresql_url: str
):
    @store.task
    async def work() -> None: ...

    wrong = sqlite_url if url.startswith("postgresql") else postgresql_url
    driver = "aiosqlite" if wrong == sqlite_url else "asyncpg"
    right = {"postgresql": "asyncpg", "mysql": "asyncmy", "sqlite": "aiosqlite"}[url.partition(":")[0]]
    elsewhere = create_async_engine(sqlalchemy_url(wrong, driver))
    engine = create_async_engine(sqlalchemy_url(url, right))
    closed = await engine.connect()
    await closed.close()
    sync = create_engine("sqlite://")
    try:
        async with elsewhere.connect() as connection, AsyncSession(elsewhere) as session, AsyncSession() as unbound:
            with sync.connect() as blocking, Session(sync) as blocking_session:
                refused: list[tuple[Any, type[TaskStoreError], str]] = [
                    (blocking, ConfigurationError, "block the event loop"),
                    (blocking_session, ConfigurationError, "block the event loop"),
                    (sync, ConfigurationError, "sqlalchemy's Engine only makes them"),
                    (sessionmaker(sync), ConfigurationError, "only makes them"),
                    (engine, ConfigurationError, "sqlalchemy's AsyncEngine only makes them"),
                    (async_sessionmaker(engine), ConfigurationError, "only makes them"),
                    (connection, ConfigurationError, "The store is on .*AsyncConnection is on"),
                    (session, ConfigurationError, "The store is on .*AsyncSession is on"),
                    (unbound, ConfigurationError, "bound to no one engine"),
                    (closed, DatabaseUnavailableError, "connection of this transaction is closed"),
                ]
                for target, kind, words in refused:
                    judge(await refusal_of(lambda: work.using(target).enqueue()), kind, words)  # noqa: B023
                    judge(await refusal_of(lambda: _listed(store, target)), kind, words)  # noqa: B023
                    judge(await refusal_of(lambda: _joined(store, target)), kind, words)  # noqa: B023
        async with AsyncSession(engine, autobegin=False) as waiting:
            judge(await refusal_of(lambda: work.using(waiting).enqueue()), NotInTransactionError, "session.begin()")
            async with waiting.begin():
                await work.using(waiting).enqueue()
    finally:
        await engine.dispose()
        await elsewhere.dispose()
        sync.dispose()
    assert await store.tasks.count() == 1


async def _listed(store: TaskStore, target: Any) -> None:
    await store.using(target).tasks.list()


async def _joined(store: TaskStore, target: Any) -> None:
    with store.joined(target):
        await store.tasks.count()


async def test_a_session_that_must_be_rolled_back_says_so(store: TaskStore, url: str):
    right = {"postgresql": "psycopg", "mysql": "aiomysql", "sqlite": "aiosqlite"}[url.partition(":")[0]]

    @store.task
    async def work() -> None: ...

    async with caller(url, Way("", right, "session")) as mine:
        await work.using(mine.connection).enqueue()
        mine.connection.sync_session.get_transaction()._rollback_exception = LookupError("a flush failed")
        mine.connection.sync_session.get_transaction()._state = type(
            mine.connection.sync_session.get_transaction()._state
        ).DEACTIVE
        error = await refusal_of(lambda: work.using(mine.connection).enqueue())
        judge(error, TaskStoreError, "Roll it back")
        await mine.rollback()
        await work.using(mine.connection).enqueue()
        await mine.commit()
    assert await store.tasks.count() == 1
