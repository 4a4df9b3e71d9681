"""Runs a coroutine of this package in a process of its own, so that its memory and processor time are its own.

The child sends its parent, a JSON line each: that it is ready, how far it is, and at the end its measurements.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.meter import Measurements, Meter

_ROOT = Path(__file__).resolve().parent.parent
_EVERY = 2.0
"""Seconds between two lines of progress."""


class Child:
    """A process that runs `target`, such as "product:drain", with keyword arguments that JSON can carry."""

    def __init__(self, target: str, *, loop: str = "asyncio", **given: Any) -> None:
        self._target = target
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.apart", target, loop, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )

    def ready(self) -> None:
        """Wait until it is at work."""
        self._receive("ready")

    def measurements(self) -> Measurements:
        """Let it come to its end, and return what it measured."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        measurements = Measurements(**self._receive("measurements"))
        self._process.wait()
        return measurements

    def _receive(self, wanted: str) -> Any:
        assert self._process.stdout is not None
        started = time.monotonic()
        for line in self._process.stdout:
            kind, value = json.loads(line)
            if kind == wanted:
                return value
            if kind == "done":
                done, tasks = value
                print(f"      {done:>9,} of {tasks:,} after {time.monotonic() - started:.0f} s", file=sys.stderr)
        raise SystemExit(f"{self._target} ended early, with exit code {self._process.wait()}; see its error above.")


def apart(target: str, **given: Any) -> Measurements:
    """Run `target` in a process of its own to its end."""
    return Child(target, **given).measurements()


async def at_once(caller: Callable[[int], Coroutine[Any, Any, None]], callers: int) -> None:
    """Run so many callers side by side to their end."""
    async with asyncio.TaskGroup() as group:
        for number in range(callers):
            group.create_task(caller(number))


def send(kind: str, value: Any = None) -> None:
    """Tell the parent."""
    print(json.dumps([kind, value]), flush=True)


def runner(loop: str) -> Callable[[Any], Any]:
    """Give what runs a coroutine on this kind of loop."""
    if loop == "uvloop":
        import uvloop

        run: Callable[[Any], Any] = uvloop.run
        return run
    return asyncio.run


async def _main(target: str, given: dict[str, Any]) -> None:
    module, _, name = target.partition(":")
    work = getattr(importlib.import_module(f"benchmarks.{module}"), name)
    meter = Meter(given.pop("tasks"), sample_every=given.pop("sample_every", 0))
    loop = asyncio.get_running_loop()

    def progress() -> None:
        if meter.done:
            send("done", (meter.done, meter.tasks))
        loop.call_later(_EVERY, progress)

    loop.call_later(_EVERY, progress)
    await work(meter, **given)
    send("measurements", asdict(meter.measurements()))


if __name__ == "__main__":
    runner(sys.argv[2])(_main(sys.argv[1], json.loads(sys.argv[3])))
