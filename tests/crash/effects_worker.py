"""A worker process that is killed at a point of its first run:

`python -m tests.crash.effects_worker '{"url": …, "point": …, "dispatcher": {…}}'`.
"""

from __future__ import annotations

import asyncio
import json
import sys

from aiotaskstore import TaskStore
from tests.crash.effects import effects, instrument, killed_at


def main() -> None:
    given = json.loads(sys.argv[1])
    reached = killed_at(given["point"])
    instrument(reached)
    store = TaskStore(given["url"], transaction_timeout=30)
    store.include(effects(given["url"], reached))
    asyncio.run(store.run(**given["dispatcher"]))


if __name__ == "__main__":
    main()
