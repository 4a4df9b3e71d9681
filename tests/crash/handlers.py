"""The handlers that workers run: every one writes its start and its end into the journal."""

from __future__ import annotations

import asyncio
import time

from aiotaskstore import Retry, TaskContext, TaskRouter
from tests.crash.journal import Journal


def handlers(journal: Journal) -> TaskRouter:
    """Declare the tasks that write into this journal."""
    router = TaskRouter()

    @router.task(max_attempts=50)
    async def quick(number: int) -> int:
        with journal.run():
            await asyncio.sleep(0)
            return number

    @router.task(max_attempts=50)
    async def slow(seconds: float) -> None:
        with journal.run():
            await asyncio.sleep(seconds)

    @router.task(max_attempts=50)
    async def uneven(context: TaskContext, first: float, later: float) -> int:
        """Take one time in the first run, and another in those that follow; tell which run it was."""
        run = len(journal.starts(context.task_id)) + 1
        with journal.run():
            await asyncio.sleep(first if run == 1 else later)
            return run

    @router.task(max_attempts=50)
    async def rude(context: TaskContext) -> int:
        """Until `Journal.let_go`, hold up the worker's event loop in the first run, as a handler should not."""
        run = len(journal.starts(context.task_id)) + 1
        with journal.run():
            while not journal.is_let_go:
                if run == 1:
                    time.sleep(0.01)  # noqa: ASYNC251 - the fault that is tested
                else:
                    await asyncio.sleep(0.01)
            return run

    @router.task(max_attempts=50)
    async def flaky(context: TaskContext, failures: int) -> int:
        """Fail often enough to be retried, then succeed."""
        with journal.run():
            await asyncio.sleep(0.005)
            if context.attempt <= failures:
                raise Retry("once more", delay=0.02)
            return context.attempt

    @router.task(max_attempts=50)
    async def talkative(context: TaskContext, steps: int) -> str:
        """Tell progress and details on the way."""
        with journal.run():
            for step in range(1, steps + 1):
                context.info(f"step {step}")
                await context.progress(f"step {step}", fraction=step / steps)
                await asyncio.sleep(0.01)
            return "told"

    @router.task(max_attempts=50)
    def threaded(seconds: float) -> None:
        with journal.run():
            time.sleep(seconds)

    return router
