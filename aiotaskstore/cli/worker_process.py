"""A worker in a process of its own, which ends when ours is gone."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence


async def start_worker(arguments: Sequence[str], env: Mapping[str, str] | None = None) -> Process:
    """Start `aiotaskstore worker` with these arguments. It reads a pipe of ours, and ends when that is closed.

    It has a session of its own: the terminal's Ctrl-C reaches only us, and we pass it on once.
    """
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "aiotaskstore", "worker", *arguments, "--with-parent",
        stdin=asyncio.subprocess.PIPE, start_new_session=True, env=env,
    )  # fmt: skip


def send(process: Process, number: signal.Signals) -> None:
    """Send a signal, unless the process has ended."""
    if process.returncode is None:
        process.send_signal(number)


def ending(code: int) -> str:
    """Say how a process ended: its exit code, or the name of the signal that ended it."""
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
