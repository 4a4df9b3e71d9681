"""Two transactions of callers meet: whoever loses hears it in words of ours, and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

import aiotaskstore
from aiotaskstore import DatabaseUnavailableError, TaskStore
from tests.bad_input.refusals import refusal_of, together
from tests.helpers import LIMIT

PUBLIC = {value for value in vars(aiotaskstore).values() if isinstance(value, type) and issubclass(value, Exception)}


@pytest.fixture
async def store(server_url: str) -> AsyncIterator[TaskStore]:
    async with TaskStore(server_url) as opened:
        yield opened


def _judge(error: Any) -> None:
    assert type(error) in PUBLIC
    assert isinstance(error, DatabaseUnavailableError)
    assert error.nothing_done
    assert "run all of it again" in " ".join(str(error).split())


async def test_of_two_transactions_that_wait_for_each_other_one_is_told_to_begin_again(store: TaskStore):
    @store.task
    async def work() -> None: ...

    first, second = [(await work.options(delay=60).enqueue()).id for _ in range(2)]
    both = asyncio.Barrier(2)

    async def cancel(mine: UUID, others: UUID) -> None:
        async with store.transaction():
            await store.tasks.cancel(mine)
            await both.wait()
            await store.tasks.cancel(others)

    async with asyncio.timeout(LIMIT):
        answers = await together(cancel(first, second), cancel(second, first))
    errors = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(errors) == 1
    _judge(errors[0])
    assert [await store.handle(id_).status() for id_ in (first, second)] == ["cancelled"] * 2


async def test_one_whose_snapshot_is_too_old_is_told_to_begin_again(postgresql_url: str):
    async with TaskStore(postgresql_url) as store, TaskStore(postgresql_url) as other:

        @store.task
        async def work() -> None: ...

        task_id = (await work.options(delay=60).enqueue()).id
        async with store.transaction() as connection:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            assert await store.tasks.count() == 1
            await other.tasks.cancel(task_id)
            _judge(await refusal_of(lambda: store.tasks.cancel(task_id)))
            assert await store.tasks.count() == 1, "it is usable"


async def test_one_that_is_refused_as_it_commits_is_told_to_begin_again(postgresql_url: str):
    async with TaskStore(postgresql_url) as store, TaskStore(postgresql_url) as other:

        @store.task
        async def work() -> None: ...

        async def late() -> None:
            async with store.transaction() as connection:
                await connection.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                await store.tasks.count()
                async with other.transaction() as another:
                    await another.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                    await other.tasks.count()
                    await other.enqueue("work", unchecked=True)
                    await work.enqueue()

        _judge(await refusal_of(late))
        assert await store.tasks.count() == 1
