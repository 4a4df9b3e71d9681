"""The tests of the small application."""

from __future__ import annotations

import os
import unittest
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from aiotaskstore import TaskStatus, TaskStore
from aiotaskstore.testing import TaskStoreTester
from tests.testing.suite import shop

mark = getattr(pytest.mark, os.environ.get("SHOP_MARK", "asyncio"))
MakeTester = Callable[..., TaskStoreTester]


@mark
async def test_signing_up_sends_a_welcome_a_minute_later(task_tester: MakeTester):
    async with task_tester(shop.store) as tester:
        await shop.sign_up(42)
        task = await tester.assert_enqueued(shop.send_welcome, {"queue": "emails", "count": 1}, user_id=42)
        await tester.refute_enqueued(shop.send_invoice)
        assert (await tester.drain()).ran == 0
        await tester.travel(minutes=1)
        assert (await tester.drain()).succeeded == 1
        assert (await shop.store.tasks.require(task.id)).result == "sent to 42 in bg"


@mark
async def test_inline(task_tester: MakeTester):
    async with task_tester(shop.store) as tester:
        with tester.inline():
            handle = await shop.send_welcome.enqueue(7)
        assert await handle.status() is TaskStatus.SUCCEEDED
        with tester.inline(), pytest.raises(ConnectionError, match="no mail server"):
            await shop.send_invoice.enqueue(7)


@mark
async def test_a_store_of_the_tests_own(task_store: TaskStore, task_tester: MakeTester):
    @task_store.task
    async def double(n: int) -> int:
        return 2 * n

    async with task_tester(task_store) as tester:
        assert await tester.perform(double, 21) == 42


@mark
async def test_this_fails_for_a_reason_that_is_shown(task_tester: MakeTester):
    async with task_tester(shop.store) as tester:
        await shop.sign_up(43)
        await tester.assert_enqueued(shop.send_welcome, {"delay": timedelta(minutes=1)}, user_id=42, locale="bg")


def test_where_testers_work(task_tester: MakeTester, tasks_database: str, request: Any):
    with task_tester(shop.store):
        told = request.config.getoption("--tasks-database")
        assert tasks_database == (told or "sqlite://")
        assert (shop.store.url or "").partition(":")[0] == tasks_database.partition(":")[0]


class Test(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        self.tester = await self.enterAsyncContext(TaskStoreTester(shop.store))

    async def test_unittest(self) -> None:
        await shop.send_welcome.enqueue(1)
        await self.tester.drain()
        await self.tester.assert_enqueued(shop.send_welcome, {"status": "succeeded"}, user_id=1)
