"""A producer process: enqueues until its input ends, or as often as told, and writes down what was acknowledged.

`python -m tests.crash.producer '{"url": …, "ledger": …, "acknowledged": …, "count": …, "callers": …}'`.
Tells on its output: ready, unavailable (each time the database was away), leak (an exception that is not
`DatabaseUnavailableError`), done.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

from aiotaskstore import DatabaseUnavailableError, TaskStore
from tests.crash.handlers import handlers
from tests.crash.ledger import Ledger


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def produce(given: dict[str, Any]) -> None:
    store = TaskStore(given["url"], **given.get("store", {}))
    store.include(handlers(Ledger(Path(given["ledger"]))))
    acknowledged = os.open(given["acknowledged"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    numbers = itertools.count() if given.get("count") is None else iter(range(given["count"]))
    told = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), told.set)

    async def call() -> None:
        for number in numbers:
            if told.is_set():
                return
            try:
                handle = await store.enqueue("quick", {"number": number})
            except DatabaseUnavailableError:
                say("unavailable", number)
                await asyncio.sleep(0.05)
            except Exception as error:  # noqa: BLE001 - what must not happen is told, whatever it is
                say("leak", type(error).__module__, type(error).__name__, error)
            else:
                os.write(acknowledged, f"{handle.id}\n".encode())

    async with store:
        say("ready")
        async with asyncio.TaskGroup() as callers:
            for _ in range(given.get("callers", 4)):
                callers.create_task(call())
    say("done")


if __name__ == "__main__":
    asyncio.run(produce(json.loads(sys.argv[1])))
