"""A process that dies between a commit and the grant that follows it.

`python -m tests.crash.ungranted '{"url": …, "journal": …, "enqueue": …}'`

With `"enqueue": N` it dies after it has stored that many tasks of one serialization key, else after it has recorded the
first task that it ran.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aiotaskstore import TaskStore
from aiotaskstore.dispatch.freed_keys import FreedKeys
from aiotaskstore.manage.granting import KeyGranter
from aiotaskstore.task import Claim
from tests.crash.handlers import handlers
from tests.crash.journal import Journal


async def die(_granter: KeyGranter) -> None:
    """Grant nothing, and do nothing any more."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_too(_freed_keys: FreedKeys, _claims: Iterable[Claim]) -> None:
    """Pass nothing on to the next claim, and do nothing any more."""
    os.kill(os.getpid(), signal.SIGKILL)


async def work(given: dict[str, Any]) -> None:
    store = TaskStore(given["url"])
    store.include(handlers(Journal(Path(given["journal"]))))
    async with store:
        KeyGranter.grant_once = die  # type: ignore[method-assign,assignment]
        FreedKeys.free = die_too  # type: ignore[method-assign,assignment]
        if given.get("enqueue"):
            draft = store.draft("quick", {"number": 1}, serialization_key="k")
            await store.enqueue_many([draft] * given["enqueue"])
        else:
            async with store.dispatcher():
                await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(work(json.loads(sys.argv[1])))
