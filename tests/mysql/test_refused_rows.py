"""A row that a server's packet cannot carry is found and refused alone; all others are written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from aiotaskstore import PayloadError, TaskContext, TaskFailedError, TaskStatus, TaskStore, TaskStoreError
from tests.helpers import LIMIT
from tests.storage.test_weights import small_packets

PACKET = 300_000


@pytest.fixture
async def store(mysql_url: str) -> AsyncIterator[TaskStore]:
    """An open store on a server that, as far as it knows, takes little at once."""
    async with TaskStore(mysql_url) as opened:
        with small_packets(opened._require_open().storage.database, PACKET):
            yield opened


async def test_of_tasks_enqueued_together_only_the_one_too_large_is_refused(store: TaskStore):
    @store.task
    async def work(text: str) -> int:
        return len(text)

    texts = ["small"] * 20 + ["x" * PACKET] + ["y" * 20_000] * 30
    answers = await asyncio.gather(*(work.enqueue(text) for text in texts), return_exceptions=True)  # noqa: TID251
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert [type(error) for error in refused] == [PayloadError]
    assert answers[20] is refused[0]
    assert await store.tasks.count() == len(texts) - 1


async def test_a_result_too_large_fails_its_own_task_and_no_other(store: TaskStore):
    @store.task
    async def work(size: int) -> str:
        return "x" * size

    handles = [await work.enqueue(size) for size in (5, PACKET, 7)]
    async with store.dispatcher():
        assert [await handles[n].result(timeout=LIMIT) for n in (0, 2)] == ["xxxxx", "xxxxxxx"]
        with pytest.raises(TaskFailedError, match="max_allowed_packet"):
            await handles[1].result(timeout=LIMIT)
    task = await handles[1].task()
    assert (task.status, task.finish_reason) == (TaskStatus.FAILED, "unstorable")


async def test_progress_too_large_is_refused_to_its_own_handler_and_no_other(store: TaskStore):
    together = asyncio.Barrier(3)

    @store.task
    async def work(context: TaskContext, length: int) -> str:
        await together.wait()
        try:
            await context.progress("ж" * length)
        except TaskStoreError as error:
            return type(error).__name__
        return "stored"

    handles = [await work.enqueue(length) for length in (1, 9_000, 2)]
    with small_packets(store._require_open().storage.database, 16_000):
        async with store.dispatcher():
            assert [await handle.result(timeout=LIMIT) for handle in handles] == ["stored", "PayloadError", "stored"]
