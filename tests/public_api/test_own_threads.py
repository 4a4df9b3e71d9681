"""Our own waits need no thread of those that the application's handlers share."""

from __future__ import annotations

import asyncio
import threading

from aiotaskstore import TaskStore
from tests.helpers import LIMIT, eventually


async def test_stopping_takes_none_of_the_threads_that_handlers_have_taken(url: str):
    """Handlers in `asyncio.to_thread` share the loop's own threads; ours must not wait for one of those."""
    release = threading.Event()
    store = TaskStore(url, pool_size=3)
    begun = 0

    @store.task
    async def work() -> None:
        nonlocal begun
        begun += 1
        await asyncio.to_thread(release.wait, 2 * LIMIT)

    try:
        async with asyncio.timeout(LIMIT), store:
            dispatcher = store.dispatcher(concurrency=60, heartbeat=0.5, lease=LIMIT)
            await dispatcher.start()
            handles = [await work.enqueue() for _ in range(40)]
            await eventually(lambda: begun == 40)
            assert not await dispatcher.stop(grace=0.1)
            assert not dispatcher.running
            async with store.transaction():  # also where that takes a connection of its own
                await asyncio.gather(*(store.tasks.count() for _ in range(10)))  # noqa: TID251 - short
            assert {str(await handle.status()) for handle in handles} == {"pending"}
    finally:
        release.set()
