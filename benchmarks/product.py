"""aiotaskstore as a user runs it: a typed payload, a timeout, retries, history, default durability."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import time

from aiotaskstore import TaskStore
from aiotaskstore.definition import TaskDefinition
from benchmarks.apart import at_once, send
from benchmarks.meter import Meter

CHUNK = 1_000
ALIAS = "work"
_WARM_UP = 5


async def drain(meter: Meter, url: str, prefix: str, concurrency: int, hold: float = 0) -> None:
    """Run everything there is, in a process like that of `aiotaskstore worker`; each handler takes `hold` seconds."""
    store = TaskStore(url, prefix=prefix)

    @store.task(alias=ALIAS, timeout=60, max_attempts=3)
    async def work(n: int) -> None:  # noqa: ARG001 - the payload
        if hold:
            await asyncio.sleep(hold)
        meter.count()

    async with store:
        gc.collect()
        gc.freeze()  # as the command does
        with meter:
            async with store.dispatcher(queues={"default": concurrency}):
                await meter.all_done.wait()


async def enqueue(meter: Meter, url: str, prefix: str, callers: int) -> None:
    """Enqueue from so many places at once, each waiting until its task is stored; 0 is `enqueue_many`."""
    store = TaskStore(url, prefix=prefix)
    work = declare(store)

    async def caller(number: int) -> None:
        for n in range(number, meter.tasks, callers):
            await work.enqueue(n)
            meter.count()

    async def in_bulk() -> None:
        for start in range(0, meter.tasks, CHUNK):
            drafts = [work.draft(n) for n in range(start, min(start + CHUNK, meter.tasks))]
            await store.enqueue_many(drafts)
            meter.count(len(drafts))

    async with store:
        await work.enqueue(0)  # connects, and builds the payload's type
        with meter:
            await at_once(caller, callers) if callers else await in_bulk()


async def answer(meter: Meter, url: str, prefix: str) -> None:
    """Wait for tasks and note how long each was on its way, until the parent says that it is over."""
    store = TaskStore(url, prefix=prefix)

    @store.task(alias=ALIAS, timeout=60, max_attempts=3)
    async def work(n: int, sent: float) -> None:
        if n >= 0:
            meter.samples.append((time.monotonic() - sent) * 1e3)

    async with store:
        with meter:
            async with store.dispatcher():
                send("ready")
                await asyncio.to_thread(sys.stdin.read)


async def ask(meter: Meter, url: str, prefix: str, gap: float) -> None:
    """Enqueue one task now and then."""
    store = TaskStore(url, prefix=prefix)

    @store.task(alias=ALIAS, timeout=60, max_attempts=3)
    async def work(n: int, sent: float) -> None: ...

    async with store:
        with meter:
            for n in range(-_WARM_UP, meter.tasks):
                await asyncio.sleep(gap * random.uniform(0.5, 1.5))
                await work.enqueue(n, time.monotonic())  # one clock for all processes of a machine
                meter.count()


def declare(store: TaskStore) -> TaskDefinition[[int], None]:
    """Declare the task that is enqueued, where another process runs it."""

    @store.task(alias=ALIAS, timeout=60, max_attempts=3)
    async def work(n: int) -> None: ...

    return work
