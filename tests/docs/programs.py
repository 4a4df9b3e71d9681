"""The Python blocks of the pages, and what runs them: each is a program, in a process and a folder of its own.

Run as a script, it imports the library once, and then runs each program whose file and folder are on a line of its
standard input in a fork of itself. So a program does not pay for the imports, and finds nothing of another one's.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"^```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
IMPORTED = ("aiotaskstore.storage.sqlite.database", "sqlalchemy.ext.asyncio")
"""What most programs import, and a fork of this process has already."""
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

    def run(self, program: Path, folder: Path, environment: Mapping[str, str] | None = None) -> Ended:
        """Run a file in a folder, warnings being errors; return its exit status, and all that it printed."""
        output = folder / f"{program.stem}.output"
        self._requests.write(json.dumps([str(program), str(folder), str(output), dict(environment or {})]) + "\n")
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


def become(program: str, folder: str, output: str, environment: dict[str, str]) -> None:
    """Be the program from now on, in its folder."""
    signal.alarm(LIMIT)
    with Path(output).open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ |= environment
    os.chdir(folder)
    sys.path[0] = folder
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    serve()
