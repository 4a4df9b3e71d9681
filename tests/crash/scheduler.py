"""A process that dies while it fires a schedule: `python -m tests.crash.scheduler '{"url": …, "dies_at": 3}'`.

It kills itself before the step of that number is run, counted from 0 over all that firing does: the operation's steps,
its COMMIT, and what follows. Where there are not so many steps, it tells "survived".
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from aiotaskstore import TaskStore
from aiotaskstore.storage.operation import Steps
from aiotaskstore.storage.schedules import Firing
from tests.crash.worker import say


class Death:
    """Kills this process at one step."""

    def __init__(self, at: int) -> None:
        self._at, self._step = at, 0

    def step(self) -> None:
        if self._step == self._at:
            os.kill(os.getpid(), signal.SIGKILL)
        self._step += 1


async def main() -> None:
    given = json.loads(sys.argv[1])
    death = Death(given["dies_at"])
    store = TaskStore(given["url"])

    @store.task
    async def work() -> None: ...

    async with store:
        storage = store._require_open().storage
        fire = storage.schedules.fire

        def dying(firings: Sequence[Firing]) -> Steps[dict[UUID, list[UUID]]]:
            steps, rows = fire(firings), None
            try:
                while True:
                    step = next(steps) if rows is None else steps.send(rows)
                    death.step()
                    rows = yield step
            except StopIteration as stop:
                death.step()  # the COMMIT comes next
                return stop.value  # type: ignore[no-any-return]

        write = storage.database.write

        async def written(operation: Any, **options: Any) -> Any:
            result = await write(operation, **options)
            if getattr(operation, "func", None) is dying:
                death.step()  # what is stored, nobody has been told yet
            return result

        storage.schedules.fire = dying  # type: ignore[method-assign]
        storage.database.write = written  # type: ignore[method-assign]
        await store.dispatcher(cleaner=False).run_once()
    say("survived")


if __name__ == "__main__":
    asyncio.run(main())
