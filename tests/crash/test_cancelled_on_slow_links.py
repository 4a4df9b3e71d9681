"""Callers cancelled while the database's answer is on its way: nothing of theirs meets who uses the connection next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from aiotaskstore import TaskStore
from tests.crash.handlers import handlers
from tests.crash.journal import Journal
from tests.crash.proxy import Proxy
from tests.helpers import LIMIT

pytestmark = pytest.mark.crash


@pytest.fixture
async def store(way: Proxy, journal: Journal) -> AsyncIterator[TaskStore]:
    opened = TaskStore(way.url, pool_size=1)
    opened.include(handlers(journal))
    async with opened:
        yield opened


async def test_a_caller_cancelled_twice_takes_nobody_into_its_transaction(way: Proxy, store: TaskStore):
    """Its BEGIN is under way, and the rollback is cut short: whatever was stored next on it would be rolled back."""
    await store.enqueue("quick", {"number": 0})
    way.lag = 0.02
    handles = []
    async with asyncio.timeout(LIMIT):
        for number in range(12):
            drafts = [store.draft("quick", {"number": 1}), store.draft("quick", {"number": 2}, external_id=str(number))]
            caller = asyncio.ensure_future(store.enqueue_many(drafts))  # noqa: TID251
            await asyncio.sleep(0.002 + number * 0.004)  # in each of its statements in turn
            for _ in range(2):
                caller.cancel()
                await asyncio.sleep(0)
            handles.append(await store.enqueue("quick", {"number": number}))
            with suppress(asyncio.CancelledError):
                await caller
        way.lag = 0
        assert [await handle.status() for handle in handles] == ["pending"] * len(handles)


@pytest.mark.parametrize("statement", ["begin", "commit"])
async def test_a_transaction_cancelled_at_its_ends_is_given_back_in_silence(
    way: Proxy, store: TaskStore, statement: str
):
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    async with asyncio.timeout(LIMIT):
        async with store.transaction():
            pass
        for _ in range(3):
            way.lag = 0.05 if statement == "begin" else 0
            ready = asyncio.Event()

            async def work(ready: asyncio.Event = ready) -> None:
                ready.set() if statement == "begin" else None
                async with store.transaction():
                    await store.enqueue("quick", {"number": 1})
                    way.lag = 0.05
                    ready.set()

            caller = asyncio.ensure_future(work())  # noqa: TID251
            await ready.wait()
            await asyncio.sleep(0.02)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
        way.lag = 0
        async with store.transaction():
            await store.enqueue("quick", {"number": 2})
    assert [context["message"] for context in told] == []
