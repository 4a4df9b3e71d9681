"""On SQLite an open transaction keeps everybody else from writing: what would wait for it inside it is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import Context
from typing import Any

import pytest

from aiotaskstore import ClaimLostError, ConfigurationError, DuplicateTaskError, TaskContext, TaskStatus, TaskStore
from tests.bad_input.refusals import judge, refusal_of, together
from tests.helpers import LIMIT, my_connection

WORDS = "would wait for itself"


@pytest.fixture(params=["file", "memory"])
async def store(request: pytest.FixtureRequest, sqlite_url: str) -> AsyncIterator[TaskStore]:
    url = sqlite_url if request.param == "file" else "sqlite://"
    async with TaskStore(url, transaction_timeout=LIMIT) as opened:
        yield opened


async def test_a_dispatcher_that_runs_is_not_stopped_inside_a_transaction_but_after_it(store: TaskStore):
    @store.task
    async def work(n: int) -> int:
        return n

    async with asyncio.timeout(LIMIT), store.dispatcher() as dispatcher:
        async with store.transaction():
            judge(await refusal_of(dispatcher.stop), ConfigurationError, WORDS)
            judge((await together(dispatcher.stop()))[0], ConfigurationError, WORDS)
            assert dispatcher.running
            handle = await work.enqueue(1)
        assert await handle.result() == 1
        assert await dispatcher.stop()
        async with store.transaction():
            assert await dispatcher.stop(), "there is nothing to stop"


async def _inside(block: Any) -> None:
    async with block:
        raise AssertionError("entered")


async def test_what_would_wait_for_the_transaction_it_is_called_in_is_refused_at_once(store: TaskStore):
    @store.task
    async def work(n: int) -> None: ...

    dispatcher = store.dispatcher()
    finished = await work.enqueue(0)
    await finished.cancel()
    unfinished = await work.enqueue(0)
    async with asyncio.timeout(LIMIT / 2):
        async with store.transaction():
            soon = store.enqueue_soon(work.draft(1))
            calls: dict[str, Callable[[], Awaitable[Any]]] = {
                "a transaction": lambda: _inside(store.transaction()),
                "flush": store.flush,
                "wait": unfinished.wait,
                "result": unfinished.result,
                "start": dispatcher.start,
                "run_once": dispatcher.run_once,
                "migrate": store.migrate,
                "close": store.close,
            }
            for name, call in calls.items():
                error = await refusal_of(call)
                judge(error, ConfigurationError, WORDS)
                assert error.__cause__ is None, name
            assert (await finished.wait()).status is TaskStatus.CANCELLED, "there is nothing to wait for"
            await work.enqueue(2)
        await store.flush()
    assert await soon.status() is TaskStatus.PENDING
    assert await store.tasks.count() == 4


async def test_gathered_calls_inside_a_transaction_are_refused_and_the_transaction_goes_on(store: TaskStore):
    @store.task
    async def work(n: int) -> None: ...

    first = await work.enqueue(0)
    async with asyncio.timeout(LIMIT / 2), store.transaction() as connection:
        answers = await together(
            work.enqueue(1),
            store.enqueue_many([work.draft(2)]),
            store.enqueue("work", {"n": 3}),
            store.tasks.cancel(first.id),
            store.tasks.delete(where={"queue": "default"}),
        )
        for answer in answers:
            judge(answer, ConfigurationError, WORDS)
        assert [await refusal_of(lambda: _group(work)) for _ in range(2)]
        bound = work.using(connection)  # in any task: they take turns on the connection
        twice = [bound.options(external_id="one").draft(n) for n in (5, 6)]
        answers = await together(
            _one_by_one(bound, 10, 15),
            store.using(connection).enqueue_many([work.draft(7), *twice]),
            _one_by_one(bound, 15, 20),
        )
        assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [DuplicateTaskError]
        await work.enqueue(4)
    numbers = sorted(task.payload["n"] for task in await store.tasks.list() if task.payload)
    assert numbers == [0, 4, *range(10, 20)]


async def _one_by_one(bound: Any, first: int, end: int) -> None:
    for n in range(first, end):
        await bound.enqueue(n)


async def _group(work: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for n in range(2):
            group.create_task(work.enqueue(n))


async def test_only_while_the_transaction_is_open_and_only_what_was_started_inside(store: TaskStore):
    @store.task
    async def work(n: int) -> None: ...

    left = asyncio.Event()

    async def later() -> None:
        await left.wait()
        await work.enqueue(1)

    async with asyncio.timeout(LIMIT / 2), asyncio.TaskGroup() as group:
        async with store.transaction():
            group.create_task(later())
            outside = group.create_task(work.enqueue(2), context=Context())
            await asyncio.sleep(0.05)
            assert not outside.done(), "whoever comes from outside waits"
        left.set()
    assert await store.tasks.count() == 2


async def test_another_connections_enqueue_inside_a_transaction_is_refused(sqlite_url: str):
    async with TaskStore(sqlite_url) as store, my_connection(sqlite_url) as mine:

        @store.task
        async def work(n: int) -> None: ...

        async with asyncio.timeout(LIMIT / 2), store.transaction():
            judge(await refusal_of(lambda: work.using(mine.connection).enqueue(1)), ConfigurationError, WORDS)
            with store.joined(mine.connection):
                judge(await refusal_of(lambda: work.enqueue(1)), ConfigurationError, WORDS)
            await work.enqueue(2)
        assert await store.tasks.count() == 1


async def test_progress_inside_a_transaction_commits_with_it(store: TaskStore):
    told = asyncio.Event()

    @store.task
    async def work(context: TaskContext) -> str:
        async with store.transaction() as connection:
            await context.progress("half", fraction=0.5)
            await connection.execute("CREATE TABLE orders (id INTEGER)")
            answers = await together(context.progress("from a task of its own"))
            judge(answers[0], ConfigurationError, WORDS)
        told.set()
        with pytest.raises(LookupError):
            async with store.transaction():
                await context.progress("gone with the rollback")
                raise LookupError
        progress = (await store.tasks.require(context.task.id)).progress
        assert progress is not None
        await context.progress("after")
        return progress.text

    async with store.dispatcher():
        handle = await work.enqueue()
        assert await handle.result(timeout=LIMIT) == "half"
        assert (await handle.task()).progress.text == "after"  # type: ignore[union-attr]


async def test_progress_inside_a_transaction_is_fenced(store: TaskStore):
    forced = asyncio.Event()

    @store.task
    async def work(context: TaskContext) -> None:
        async with store.transaction():
            await store.tasks.cancel(context.task.id, force=True)
            try:
                await context.progress("not any more")
            except ClaimLostError:
                forced.set()

    async with store.dispatcher():
        handle = await work.enqueue()
        task = await handle.wait(timeout=LIMIT)
        assert task.status is TaskStatus.CANCELLED
    assert forced.is_set()


async def test_a_plain_enqueue_beside_ones_own_open_transaction_says_whose_lock_it_may_be(sqlite_url: str):
    async with TaskStore(sqlite_url, enqueue_timeout=0.3) as store, my_connection(sqlite_url) as mine:

        @store.task
        async def work() -> None: ...

        await mine.begin()
        error = await refusal_of(work.enqueue)
        assert "transaction" in str(error)
        assert r".using(" in str(error)
        await mine.rollback()
