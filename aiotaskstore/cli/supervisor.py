"""Further worker processes: started, started again when they crash, ended together."""

from __future__ import annotations

import asyncio
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence

from aiotaskstore.cli.exit_code import ExitCode
from aiotaskstore.cli.watched_workers import WatchedWorkers
from aiotaskstore.cli.worker_process import ending, send, start_worker
from aiotaskstore.mechanics.timed_event import TimedEvent

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
"""Seconds before a crashed process is started again: after its first crash in a row, and at most."""
_STEADY = 60.0
"""Seconds of life after which a crash counts as the first again."""
_LEVELS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
"""Drain, cancel, exit. Two signals of one kind would count as one if the second came before the first was received."""
_OUR_SIGNALS = {-number for number in _LEVELS}


class Supervisor:
    """Keeps `count` workers running. Each reads a pipe of ours as its stdin and ends when we are gone."""

    def __init__(
        self,
        arguments: Sequence[str],
        count: int,
        say: Callable[[str], None],
        *,
        drains: bool = False,
        watched: WatchedWorkers | None = None,
    ) -> None:
        self._arguments = arguments
        self._count, self._say, self._drains, self._watched = count, say, drains, watched
        self._running: dict[int, Process] = {}
        self._stopping = TimedEvent()
        self._signals = 0

    async def run(self) -> ExitCode:
        """Run until stopped, or until every worker has drained; return the worst exit code."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._keep(number)) for number in range(1, self._count + 1)]
        codes = [task.result() for task in tasks]
        if ExitCode.HANDED_BACK in codes:
            return ExitCode.HANDED_BACK
        return ExitCode.DONE if not any(codes) else ExitCode.FAILED

    def stop(self) -> None:
        """Stop the workers: the first call drains them, the second cancels what they run, the third kills them."""
        self._signals += 1
        self._stopping.set()
        if self._watched:
            self._watched.stopping()
        number = _LEVELS[min(self._signals, len(_LEVELS)) - 1]
        for process in self._running.values():
            send(process, number)

    async def _keep(self, number: int) -> int:
        """Keep one worker running; return the exit code of its last process."""
        crashes = 0
        while True:
            started = time.monotonic()
            code = await self._run_one(number)
            if self._stopping.is_set():
                return 0 if code in _OUR_SIGNALS else code
            if self._drains and code in {ExitCode.DONE, ExitCode.USAGE}:
                if self._watched:
                    self._watched.finished(number)
                return code
            crashes = 0 if time.monotonic() - started > _STEADY else crashes
            wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2**crashes)
            crashes += 1
            self._say(f"Worker {number} ended ({ending(code)}); starting it again in {wait:g} s.")
            if await self._stopping.wait(wait):
                return 0

    async def _run_one(self, number: int) -> int:
        watched = self._watched
        where = watched.arguments(number) if watched else []
        process = await start_worker([*self._arguments, *where], watched.environment if watched else None)
        self._running[number] = process
        if watched:
            watched.started(number, process.pid)
        if self._stopping.is_set():  # stopped while it was being started
            send(process, signal.SIGTERM)
        try:
            return await process.wait()
        finally:
            del self._running[number]
            if watched:
                watched.ended(number, process.pid)
