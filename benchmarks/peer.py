"""pgqueuer, the fastest Python peer on PostgreSQL, in its best configuration."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.apart import at_once
from benchmarks.meter import Meter

ADVICE = "pgqueuer is not installed. Run: pip install pgqueuer uvloop"
_BATCH = 1_000
_POOL = 10


def installed() -> bool:
    """Tell whether it can be measured."""
    return importlib.util.find_spec("pgqueuer") is not None


def loop() -> str:
    """Give the kind of event loop that its own command line would take."""
    return "uvloop" if importlib.util.find_spec("uvloop") else "asyncio"


async def drain(meter: Meter, url: str, prefix: str) -> None:
    """Run everything there is."""
    async with _queries(url, prefix) as queries:
        from pgqueuer.core.qm import QueueManager
        from pgqueuer.domain.types import QueueExecutionMode

        manager = QueueManager(queries)

        @manager.entrypoint("work")
        async def work(_job: Any) -> None:
            meter.count()

        with meter:
            await manager.run(batch_size=_BATCH, mode=QueueExecutionMode.drain)


async def enqueue(meter: Meter, url: str, prefix: str, callers: int) -> None:
    """Enqueue from so many places at once; 0 is in bulk."""
    async with _queries(url, prefix) as queries:

        async def caller(number: int) -> None:
            for n in range(number, meter.tasks, callers):
                await queries.enqueue("work", _payload(n))
                meter.count()

        with meter:
            await at_once(caller, callers) if callers else await _enqueue_many(queries, meter.tasks)


async def fill(url: str, prefix: str, tasks: int) -> None:
    """Make its tables anew, with so many jobs in them."""
    async with _queries(url, prefix) as queries:
        await queries.uninstall()
        await queries.install()
        await queries.optimize_autovacuum()
        await _enqueue_many(queries, tasks)


async def verify_empty(url: str, prefix: str) -> None:
    """Void the benchmark unless every job has ended."""
    async with _queries(url, prefix) as queries:
        left = sum(one.count for one in await queries.queue_size())
    if left:
        raise SystemExit(f"pgqueuer left {left:,} jobs: void.")


async def drop(url: str, prefix: str) -> None:
    """Drop its tables."""
    async with _queries(url, prefix) as queries:
        await queries.uninstall()


async def _enqueue_many(queries: Any, tasks: int) -> None:
    for start in range(0, tasks, _BATCH):
        payloads = [_payload(n) for n in range(start, min(start + _BATCH, tasks))]
        await queries.enqueue(["work"] * len(payloads), payloads, [0] * len(payloads))


def _payload(n: int) -> bytes:
    return f'{{"n":{n}}}'.encode()


@asynccontextmanager
async def _queries(url: str, prefix: str) -> AsyncIterator[Any]:
    os.environ["PGQUEUER_PREFIX"] = prefix  # read once, when its settings are first asked for
    import asyncpg
    from pgqueuer.queries import Queries

    async with asyncpg.create_pool(url, min_size=2, max_size=_POOL) as pool:
        yield Queries.from_asyncpg_pool(pool)
