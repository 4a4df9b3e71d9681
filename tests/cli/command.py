"""`aiotaskstore` as a process: what it is given, prints, says, and ends with."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.helpers import LIMIT, eventually

ROOT = Path(__file__).resolve().parents[2]
APP = "--app=tests.cli.app:store"


def _has_terminals() -> bool:
    try:
        ends = pty.openpty()
    except OSError:
        return False
    for end in ends:
        os.close(end)
    return True


needs_terminal = pytest.mark.skipif(
    not _has_terminals(), reason="no pseudo-terminal can be opened here: mount devpts on /dev/pts to run this test"
)


def screen_of(*arguments: object, folder: Path, typed: str = "", **env: str) -> tuple[int, str]:
    """Run a command on a terminal, on which somebody has typed, to its end; gives its exit code and all it wrote."""
    terminal, theirs = pty.openpty()
    os.write(terminal, typed.encode())
    inherited = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "TERM"}}
    process = subprocess.Popen(
        [sys.executable, "-m", "aiotaskstore", *map(str, arguments)], stdin=theirs, stdout=theirs, stderr=theirs,
        cwd=folder, env={**inherited, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **env},
    )  # fmt: skip
    os.close(theirs)
    written = b""
    try:
        while more := os.read(terminal, 65_536):
            written += more
    except OSError:  # how Linux tells that nobody is left on the other side
        os.close(terminal)
    return process.wait(LIMIT), written.decode()


class Answer(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Command:
    """A command under way, its two streams in files that can be read at any time."""

    def __init__(self, folder: Path, name: str, arguments: tuple[str, ...], env: dict[str, str]) -> None:
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aiotaskstore", *arguments],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=folder, env=env, start_new_session=True,
            )  # fmt: skip

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def says(self, text: str) -> None:
        """Wait until it has said this on stderr."""

        def look() -> bool:
            received = text in self.err
            assert received or self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.err}"
            return received

        await eventually(look, LIMIT)

    async def ends(self) -> Answer:
        """Wait for its end."""
        await eventually(lambda: self.process.poll() is not None, LIMIT)
        return Answer(self.process.returncode, self.out, self.err)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Commands:
    """Starts commands in a folder of their own; those left at the end of a test are killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[Command] = []

    def start(self, *arguments: object, **env: str) -> Command:
        """Start a command; in its environment nothing names an app or a database, unless given."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("AIOTASKSTORE_")}
        ours |= {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "COLUMNS": "100"} | env
        command = Command(self.folder, f"command-{len(self._started)}", tuple(map(str, arguments)), ours)
        self._started.append(command)
        return command

    async def run(self, *arguments: object, **env: str) -> Answer:
        """Run a command to its end."""
        return await self.start(*arguments, **env).ends()

    async def done(self, *arguments: object, **env: str) -> Answer:
        """Run a command that must end well."""
        answer = await self.run(*arguments, **env)
        assert answer.code == 0, answer
        return answer

    def close(self) -> None:
        for command in self._started:
            command.kill()
            sys.stdout.write(f"\n── {command.process.args!r}: {command.process.returncode} ──\n{command.err[-2000:]}")
