"""The application that the tests name with `--app tests.cli.app:store`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from aiotaskstore import TaskStore

store = TaskStore(os.environ.get("AIOTASKSTORE_URL", "sqlite://"))
empty = TaskStore("sqlite://")
not_a_store = 42


def make() -> TaskStore:
    return store


@store.task(queue="sums")
async def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@store.task
async def explode(why: str) -> None:
    raise RuntimeError(why)


@store.task
async def note(folder: str, name: str) -> None:
    """Leave a file."""
    Path(folder, name).write_text(str(os.getpid()))


@store.task
async def linger(folder: str) -> str:
    """Say who runs it, and run until somebody writes `go`."""
    Path(folder, f"lingers-{os.getpid()}").touch()
    while not Path(folder, "go").exists():  # noqa: ASYNC110 - somebody else's process tells
        await asyncio.sleep(0.01)
    return "went"


@store.task(max_attempts=3, backoff=3600)
async def stumble() -> None:
    """Fail, and be due again in an hour."""
    raise ValueError("no luck")
