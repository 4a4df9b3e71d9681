"""A process that forks while its store is open; parent and child both go on, each with a store of its own.

`python -m tests.crash.forker '{"url": …, "journal": …}'` tells on its output: child N, parent N (tasks it saw), done.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from aiotaskstore import TaskStore
from tests.crash.handlers import handlers
from tests.crash.journal import Journal


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def make_store(given: dict[str, str]) -> TaskStore:
    store = TaskStore(given["url"])
    store.include(handlers(Journal(Path(given["journal"]))))
    return store


async def child(given: dict[str, str]) -> None:
    async with make_store(given) as store:
        await store.enqueue("quick", {"number": 2})
        say("child", await store.tasks.count())


async def parent(given: dict[str, str]) -> None:
    async with make_store(given) as store:
        await store.enqueue("quick", {"number": 1})
        pid = os.fork()
        if pid == 0:
            # The child makes a loop of its own; the running one is its parent's.
            asyncio.events._set_running_loop(None)
            try:
                asyncio.run(child(given))
            finally:
                os._exit(0)
        await asyncio.to_thread(os.waitpid, pid, 0)
        await store.enqueue("quick", {"number": 3})
        async with store.transaction():
            await store.enqueue("quick", {"number": 4})
        ran = await store.dispatcher().run_once()
        say("parent", ran, await store.tasks.count(status="succeeded"))
    say("done")


if __name__ == "__main__":
    asyncio.run(parent(json.loads(sys.argv[1])))
