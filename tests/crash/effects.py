"""A handler that writes into a table of the application's, and the points where its process is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from aiotaskstore import TaskContext, TaskRouter
from tests.helpers import Mine

POINTS = ("claimed", "begun", "written", "left", "returned", "recorded", "committed", "told")
"""The steps of one run, in order; a process is killed right after one of them."""


def effects(url: str, reached: Callable[[str], None] = lambda _: None) -> TaskRouter:
    """Declare a task that writes one row, and says which step it has reached."""
    router = TaskRouter()

    @router.task(max_attempts=20, backoff=0.05)
    async def effect(context: TaskContext, number: int) -> str:
        reached("claimed")
        async with context.transaction() as connection:
            reached("begun")
            await Mine(url, connection).execute(f"INSERT INTO effects (number) VALUES ({number})")
            reached("written")
        reached("left")
        return f"wrote {number}"

    return router


def killed_at(point: str) -> Callable[[str], None]:
    """Return what kills this process at a point."""

    def reached(step: str) -> None:
        if step == point:
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


def instrument(reached: Callable[[str], None]) -> None:
    """Have the library say which of its own steps a run has reached."""
    from aiotaskstore.dispatch.outcome_events import OutcomeEvents
    from aiotaskstore.dispatch.success_commit import SuccessCommit
    from aiotaskstore.manage.transaction_keeper import TransactionKeeper
    from aiotaskstore.storage.database import Database

    carry_out, run_on, keep, written = (
        SuccessCommit.carry_out, Database.run_on, TransactionKeeper._carry_out, OutcomeEvents.written,
    )  # fmt: skip

    async def returned(self: Any, transaction: Any) -> Any:
        reached("returned")
        return await carry_out(self, transaction)

    async def recorded(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = await run_on(self, *args, **kwargs)
        reached("recorded")
        return result

    async def committed(self: Any) -> Any:
        reply = await keep(self)
        reached("committed")
        return reply

    def told(self: Any, *args: Any) -> None:
        written(self, *args)
        reached("told")

    SuccessCommit.carry_out = returned  # type: ignore[method-assign]
    Database.run_on = recorded  # type: ignore[method-assign]
    TransactionKeeper._carry_out = committed  # type: ignore[method-assign]
    OutcomeEvents.written = told  # type: ignore[assignment,method-assign]
