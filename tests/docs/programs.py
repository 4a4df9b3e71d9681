"""The Python blocks of the pages, and what runs them: each is a program, in a process and a folder of its own.

Run as a script, it imports the library once, and then becomes, in a fork of itself, each program that a line of its
standard input names. So a program does not pay for the imports, and finds nothing of another one's.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"^```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
IMPORTED = (
    *("aiotaskstore.storage.sqlite.database", "sqlalchemy.ext.asyncio"),
    *("aiotaskstore.cli.app", "aiotaskstore.cli.worker", "rich.table", "uvloop"),
)
"""What most programs and commands import, and a fork of this process has already."""
LIMIT = 120
"""Seconds after which a program counts as one that does not end."""


class Block(NamedTuple):
    """A fenced block of a page."""

    where: str
    language: str
    title: str | None
    """The name of the file that it shows."""
    text: str


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page that name a language, in order."""
    place = page.relative_to(ROOT).as_posix()
    return [
        Block(f"{place} #{number}", found["language"], found["title"], found["text"])
        for number, found in enumerate(FENCE.finditer(page.read_text("utf-8")), 1)
    ]


class Ended(NamedTuple):
    """What became of a program."""

    status: int
    printed: str


class Runner:
    """A process that runs programs, one after the other."""

    def __init__(self, process: subprocess.Popen[str], requests: IO[str], replies: IO[str]) -> None:
        self._process = process
        self._requests = requests
        self._replies = replies

    def run(self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Ended:
        """Run a file, or a program that is installed, in a folder, warnings being errors; return what it printed."""
        output = folder / ".printed"
        self._requests.write(json.dumps([[*command], str(folder), str(output), dict(environment or {})]) + "\n")
        self._requests.flush()
        status = int(self._replies.readline())
        return Ended(status, output.read_text("utf-8", errors="replace"))


@contextlib.contextmanager
def runner() -> Iterator[Runner]:
    """Start a process that runs programs, and end it."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", str(Path(__file__))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Runner(process, process.stdin, process.stdout)
        process.stdin.close()


def serve() -> None:
    """Run what is asked for, until nobody asks any more."""
    for module in IMPORTED:
        importlib.import_module(module)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            return become(*json.loads(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
    return None


def become(command: list[str], folder: str, output: str, environment: dict[str, str]) -> None:
    """Be the program from now on, in its folder."""
    signal.alarm(LIMIT)
    with Path(output).open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ |= environment
    os.chdir(folder)
    sys.argv = command
    sys.path[0] = folder
    ended = threading.Event()
    atexit.register(leave, ended)  # the first one registered is the last one called
    try:
        if command[0].endswith(".py"):
            runpy.run_path(command[0], run_name="__main__")
        else:
            (script,) = entry_points(group="console_scripts", name=command[0])
            sys.exit(script.load()())
    except SystemExit as leaving:
        if leaving.code:
            raise
    ended.set()


def leave(ended: threading.Event) -> None:
    """End a process that has ended well, without taking apart all that was imported before the fork."""
    if ended.is_set():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    serve()
