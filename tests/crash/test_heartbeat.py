"""The heartbeat and the stop while links to the database hang, and after it was away."""

from __future__ import annotations

import asyncio
import threading

import pytest

from aiotaskstore import ClaimLost, TaskStarted, TaskStatus, TaskStore
from aiotaskstore.events import BackgroundFailed, BackgroundRecovered
from tests.crash.proxy import Proxy
from tests.helpers import LIMIT, eventually, expect

pytestmark = pytest.mark.crash


async def test_a_heartbeat_whose_link_hangs_is_sent_on_another_before_any_run_is_lost(way: Proxy):
    lost: list[object] = []
    let_go = asyncio.Event()
    async with TaskStore(way.url) as store:
        store.on(ClaimLost, lost.append)

        @store.task
        async def work() -> str:
            await let_go.wait()
            return "kept"

        async with store.dispatcher(heartbeat=0.5, lease=12, healer=False):
            async with expect(store, TaskStarted):
                handle = await work.enqueue()
            async with expect(store, BackgroundFailed, BackgroundRecovered, loop="heartbeat"):
                await eventually(lambda: way.freeze(lambda link: b"SET heartbeat_at" in link.sent))
            let_go.set()
            assert await handle.result(timeout=LIMIT) == "kept"
    assert lost == []


async def test_a_stop_ends_although_every_link_hangs(way: Proxy):
    async with TaskStore(way.url) as store:
        store._require_open().storage.database.deadline = 10 * LIMIT

        @store.task
        async def waits() -> None:
            await asyncio.Event().wait()

        dispatcher = store.dispatcher(heartbeat=0.5, lease=2, stuck_grace=0.2, poll_interval=0.1)
        await dispatcher.start()
        async with expect(store, TaskStarted):
            await waits.enqueue()
        way.freezing = True
        way.freeze_all()
        async with asyncio.timeout(LIMIT):  # it never waits for the database's whole deadline
            await dispatcher.stop(grace=0.2)
        assert not dispatcher.running
        way.freezing = False
        for link in list(way.links):
            link.close()
    await eventually(lambda: not any(one.name == "aiotaskstore-heartbeat" for one in threading.enumerate()))


async def test_after_an_outage_work_goes_on_as_soon_as_the_database_answers_anybody(way: Proxy):
    """The claimer had failed often enough to sit out seconds."""
    failures: list[BackgroundFailed] = []
    async with TaskStore(way.url) as store, TaskStore(way.url) as elsewhere:

        @store.task
        async def work() -> str:
            return "done"

        @store.on(BackgroundFailed)
        def receive(event: BackgroundFailed) -> None:
            failures.append(event)

        async with store.dispatcher(heartbeat=5, lease=60, poll_interval=0.1):
            way.refusing = True
            for link in list(way.links):
                link.close()
            await eventually(lambda: any(one.loop == "claimer" and one.failures >= 5 for one in failures))
            async with expect(store, BackgroundRecovered, loop="claimer"):
                way.refusing = False
                handle = await elsewhere.enqueue("work")
            assert (await store.tasks.wait(handle.id, timeout=LIMIT)).status is TaskStatus.SUCCEEDED
    told = [one.retry_in for one in failures if one.loop == "heartbeat"]
    assert all(wait <= 1 for wait in told), "it says when it tries again, which is not a heartbeat later"
