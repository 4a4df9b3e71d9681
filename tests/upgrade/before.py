"""Runs with the version before: stores tasks in every status that it can reach, and goes on as an old dispatcher.

    PYTHONPATH=the-unpacked-wheel python before.py doomed|veteran URL

`doomed` runs one task until it is killed. `veteran` rescues that task, leaves one of every kind, prints them as JSON
on one line, and stays: with a task that runs, and enqueuing one after the other for others to run.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from datetime import datetime
from typing import Any

import aiotaskstore
from aiotaskstore import TaskContext, TaskStarted, TaskStore


def mend_mysql_9() -> None:
    """Let this version lock rows on MySQL 9, which it did not know: a document of ids must stand in a subquery there.

    Everything else of what it runs is its own.
    """
    from aiotaskstore.storage.statements import read

    lists = read("mysql")[1]
    bare = "JSON_TABLE(:rows, '$[*]' COLUMNS (id CHAR(32) PATH '$[0]')) d"
    assert lists["ids"] == bare, lists["ids"]
    lists["ids"] = f"(SELECT id FROM {bare[:-2]} j LIMIT 1000000) d"


def made(url: str) -> TaskStore:
    """Return a store with its tasks."""
    store = TaskStore(url)

    @store.task(queue="before")
    async def double(number: int) -> int:
        return 2 * number

    @store.task(queue="before", max_attempts=2, backoff=0)
    async def fail(context: TaskContext, why: str) -> None:
        context.info(f"trying {why}")
        await context.progress("halfway", fraction=0.5)
        raise ValueError(why)

    @store.task(queue="before", on_stuck="retry", max_attempts=2)
    async def linger(context: TaskContext) -> str:
        await asyncio.Event().wait()
        return "never"

    @store.task(queue="before", on_stuck="interrupt")
    async def interrupted() -> None:
        await asyncio.Event().wait()

    return store


async def doomed(url: str) -> None:
    """Run a task, and say its id once it runs."""
    store = made(url)
    started = asyncio.Event()
    store.on(TaskStarted, lambda _event: started.set())
    async with store, store.dispatcher(name="doomed", heartbeat=0.2, lease=0.6, healer=False):
        handle = await store.enqueue("interrupted", {})
        await started.wait()
        say(str(handle.id))
        await asyncio.Event().wait()


async def veteran(url: str) -> None:
    """Leave a task of every kind, print them, and stay alive."""
    store = made(url)
    running = asyncio.Event()
    store.on(TaskStarted, lambda event: running.set() if event.alias == "linger" else None)
    async with store:
        ids: dict[str, Any] = {}
        async with store.dispatcher(name="helper", heartbeat=0.2, healer=0.1, lease=100):
            ids["interrupted"] = (await store.tasks.list(alias="interrupted"))[0].id
            await store.tasks.wait(ids["interrupted"], timeout=100)
            succeeded = await store.enqueue("double", {"number": 21}, external_id="order-1", metadata={"trace": "t"})
            failed = await store.enqueue("fail", {"why": "no luck"}, owner=("user", "42"), source="shop")
            ids["succeeded"] = (await succeeded.wait(timeout=100)).id
            ids["failed"] = (await failed.wait(timeout=100)).id
        later: Any = {"delay": 3600, "external_id": "order-2", "priority": -5}
        ids["scheduled"] = (await store.enqueue("double", {"number": 1}, **later)).id
        ids["cancelled"] = (await store.enqueue("double", {"number": 2}, delay=3600)).id
        await store.tasks.cancel(ids["cancelled"], "no need")
        ids["running"] = (await store.enqueue("linger", {})).id
        async with store.dispatcher(name="veteran", queues={"before": 1}, heartbeat=0.2, lease=100, healer=False):
            await running.wait()
            for kind in ("pending", "waiting", "paused"):
                ids[kind] = (await store.enqueue("double", {"number": 3}, external_id=kind)).id
            tasks = {kind: asdict(await store.tasks.require(task_id)) for kind, task_id in ids.items()}
            say(json.dumps(tasks, default=plain))
            while True:
                await store.enqueue("double", {"number": 4}, queue="new")
                await asyncio.sleep(0.2)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


if __name__ == "__main__":
    mode, url = sys.argv[1:]
    assert not hasattr(aiotaskstore, "DispatcherOutdated"), f"this is not the version before: {aiotaskstore.__file__}"
    if url.startswith("mysql"):
        mend_mysql_9()
    asyncio.run({"doomed": doomed, "veteran": veteran}[mode](url))
