"""A producer process: enqueues until its input ends, or as often as told, and writes down what was acknowledged.

`python -m tests.crash.producer '{"url": …, "journal": …, "acknowledged": …, "count": …, "callers": …, "mix": …}'`.
With `mix`, tasks of every kind, now and then with a delay or an external id, and a pause after each.
Tells on its output: ready, unavailable (each time the database was away), leak (an exception that is not
`DatabaseUnavailableError`), done.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

from aiotaskstore import DatabaseUnavailableError, TaskStore
from tests.crash.handlers import handlers
from tests.crash.journal import Journal
from tests.helpers import answered_within


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def call_for(number: int) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Choose what to enqueue: alias, arguments, options."""
    calls: list[tuple[str, dict[str, Any]]] = [
        ("quick", {"number": number}),
        ("quick", {"number": number}),
        ("flaky", {"failures": random.randint(0, 2)}),
        ("slow", {"seconds": random.uniform(0, 0.3)}),
        ("talkative", {"steps": 3}),
        ("threaded", {"seconds": random.uniform(0, 0.05)}),
    ]
    alias, arguments = random.choice(calls)
    options: dict[str, Any] = {"max_attempts": 50, "queue": random.choice(["default", "other"])}
    if random.random() < 0.2:
        options["external_id"] = f"{os.getpid()}-{number}"
    if random.random() < 0.2:
        options["delay"] = random.uniform(0, 1)
    return alias, arguments, options


async def produce(given: dict[str, Any]) -> None:
    answered_within(given.get("deadline"))
    store = TaskStore(given["url"], **given.get("store", {}))
    store.include(handlers(Journal(Path(given["journal"]))))
    acknowledged = os.open(given["acknowledged"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    numbers = itertools.count() if given.get("count") is None else iter(range(given["count"]))
    told = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), told.set)

    async def call() -> None:
        for number in numbers:
            if told.is_set():
                return
            mixed = given.get("mix", False)
            alias, arguments, options = call_for(number) if mixed else ("quick", {"number": number}, {})
            try:
                handle = await store.enqueue(alias, arguments, **options)
            except DatabaseUnavailableError:
                say("unavailable", number)
                await asyncio.sleep(0.05)
            except Exception as error:  # noqa: BLE001 - what must not happen is told, whatever it is
                say("leak", type(error).__module__, type(error).__name__, error)
            else:
                os.write(acknowledged, f"{handle.id}\n".encode())
            if mixed:
                await asyncio.sleep(random.uniform(0, 0.1))

    async with store:
        say("ready")
        async with asyncio.TaskGroup() as callers:
            for _ in range(given.get("callers", 4)):
                callers.create_task(call())
    say("done")


if __name__ == "__main__":
    asyncio.run(produce(json.loads(sys.argv[1])))
