"""Processes and ports of this machine."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path


def free_port() -> int:
    """Find a free port below those that systems give to outgoing connections.

    From among those, a client that tries again and again to reach a killed server could be
    given the server's own port, connect to itself, and so keep the server from coming back.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _processes() -> dict[int, tuple[int, str]]:
    """Return the parent and the state of every process, by its id."""
    if sys.platform != "linux":
        command = ["ps", "-A", "-o", "pid=,ppid=,state="]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows = (line.split() for line in lines.splitlines())
        return {int(pid): (int(parent), state) for pid, parent, state in rows}
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
            found[int(path.parent.name)] = (int(parent), state)
    return found


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it, whatever session they are in."""
    processes = _processes()
    family = [pid]
    for member in family:
        family += [child for child, (parent, _) in processes.items() if parent == member]
    return family


def alive(pids: Iterable[int], *, dead: str = "ZX") -> bool:
    """Whether any of the processes is there in another state than these."""
    processes = _processes()
    return any(pid in processes and processes[pid][1][0] not in dead for pid in pids)


def wait_until(condition: Callable[[], bool], limit: float) -> bool:
    """Wait for a condition; return whether it came true within the limit, in seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
