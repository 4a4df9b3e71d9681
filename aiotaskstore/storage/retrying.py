"""When an operation is run again: after a conflict, and after a lost connection where nothing can be stored yet."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from aiotaskstore.errors import DatabaseUnavailableError
from aiotaskstore.storage.faults import Conflict, LockHeld, nothing_done
from aiotaskstore.storage.operation import Operation, T
from aiotaskstore.storage.running import run_operation
from aiotaskstore.storage.session import Session

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5
"""Seconds before an operation is run again: the first pause, which doubles each time, and the longest."""


class RetryRule:
    """Which errors of an operation lead to another run, and for how long."""

    def __init__(
        self, deadline: float, limit: float | None = None, *, reads: bool = False, retry_held: bool = True
    ) -> None:
        self.limit: float = deadline if limit is None else min(limit, deadline)
        """Seconds for all runs together."""
        self.step_limit: float = deadline if limit is None else min(limit / 2, deadline)
        """Seconds for each step."""
        self._reads, self._retry_held = reads, retry_held

    def retries_conflict(self, conflict: Conflict) -> bool:
        """Return whether the operation is run again after this conflict."""
        return self._retry_held or not isinstance(conflict, LockHeld)

    def retries_unavailable(self, error: DatabaseUnavailableError) -> bool:
        """Return whether the operation is run again on another connection."""
        if self._reads:
            return error.connection_lost or error.timed_out
        return error.connection_lost and error.nothing_done


async def run_retrying(
    operation: Operation[T], session: Callable[[float], AbstractAsyncContextManager[Session]], rule: RetryRule
) -> T:
    """Run an operation on a session, and again on another one for as long as the rule allows."""
    loop = asyncio.get_running_loop()
    until, pause, tries = loop.time() + rule.limit, _FIRST_PAUSE, 0
    while True:
        tries += 1
        try:
            async with session(rule.limit) as opened:
                return await run_operation(operation(), opened, rule.step_limit)
        except Conflict as conflict:
            if not rule.retries_conflict(conflict):
                raise
            if loop.time() >= until:
                raise nothing_done(
                    f"The database refused the same transaction {tries} times in {rule.limit:g} s: {conflict}"
                ) from conflict
        except DatabaseUnavailableError as error:
            if not rule.retries_unavailable(error) or loop.time() >= until:
                raise
        await asyncio.sleep(random.uniform(0.2, 1) * pause)  # noqa: S311 - jitter
        pause = min(pause * 2, _LONGEST_PAUSE)
