"""`worker --reload`: starts the worker again whenever a Python file changes. For development."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path

from aiotaskstore import ConfigurationError
from aiotaskstore.cli.exit_code import ExitCode, Failure
from aiotaskstore.cli.worker_process import ending, send, start_worker

GRACE = 3.0
"""Seconds that runs have to end before they are handed back, unless the worker's own grace is shorter."""
_SLACK = 2.0
"""Seconds beyond its grace after which a worker is told to cancel what it runs."""
_CANCELLING = 15.0
"""Seconds after which a worker that was told to cancel is killed; others take its tasks when its lease is over."""


class Reloader:
    """Keeps one worker running. Begun anew after each change, also where the worker could not start before it."""

    def __init__(self, arguments: Sequence[str], grace: float, say: Callable[[str], None]) -> None:
        self._arguments, self._grace, self._say = arguments, grace, say
        self._folder = Path.cwd()
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._process: Process | None = None
        self._failure: str | None = None

    async def run(self) -> ExitCode:
        """Run until `stop`. Raises `ConfigurationError` without watchfiles, `Failure` if nothing can be watched."""
        changes = _changes(self._folder, self._stopping)
        self._say(f"restarts when a Python file under {self._folder} changes; Ctrl-C ends it")
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(changes))
            while not self._stopping.is_set():
                self._changed.clear()
                await self._run_until_changed(group)
        if self._failure is not None:
            raise Failure(self._failure)
        return ExitCode.DONE

    def stop(self) -> None:
        """End the worker and this: what runs has its grace."""
        self._stopping.set()
        self._changed.set()

    def cancel(self) -> None:
        """Have the worker cancel what it runs."""
        if self._process is not None:
            send(self._process, signal.SIGINT)

    def kill(self) -> None:
        """End the worker by force."""
        if self._process is not None:
            send(self._process, signal.SIGKILL)

    async def _run_until_changed(self, group: asyncio.TaskGroup) -> None:
        # Python takes a compiled file for current if the source has the same second and length, as after a quick edit.
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        process = self._process = await start_worker(self._arguments, env)
        ended = group.create_task(process.wait())
        changed = group.create_task(self._changed.wait())
        await asyncio.wait((ended, changed), return_when=asyncio.FIRST_COMPLETED)
        if ended.done() and not self._changed.is_set():
            self._say(f"The worker has ended ({ending(ended.result())}). It starts again when a file changes.")
        await changed
        await _end(process, self._grace)

    async def _watch(self, changes: AsyncIterator[Iterable[tuple[object, str]]]) -> None:
        try:
            async for files in changes:
                names = sorted({self._shown(file) for _, file in files})
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                self._say(f"{names[0]}{more} changed: restarting the worker.")
                self._changed.set()
        except (OSError, RuntimeError) as error:
            self._failure = f"Changes under {self._folder} cannot be watched any more: {error}"
        self.stop()

    def _shown(self, file: str) -> str:
        path = Path(file)
        return str(path.relative_to(self._folder)) if path.is_relative_to(self._folder) else file


async def _end(process: Process, grace: float) -> None:
    """End a worker, the longer it takes the more urgently."""
    for number, patience in ((signal.SIGTERM, grace + _SLACK), (signal.SIGINT, _CANCELLING)):
        send(process, number)
        try:
            async with asyncio.timeout(patience):
                await process.wait()
                return
        except TimeoutError:
            continue
    send(process, signal.SIGKILL)
    await process.wait()


def _changes(folder: Path, stopping: asyncio.Event) -> AsyncIterator[Iterable[tuple[object, str]]]:
    try:
        from watchfiles import PythonFilter, awatch
    except ImportError as error:
        raise ConfigurationError("--reload needs the package watchfiles: pip install 'aiotaskstore[cli]'.") from error
    return awatch(folder, watch_filter=PythonFilter(), stop_event=stopping)
