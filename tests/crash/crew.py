"""Processes that tests start, listen to, and kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aiotaskstore import TaskStore
from tests.crash.journal import Journal
from tests.helpers import LIMIT, change, eventually

ROOT = Path(__file__).resolve().parents[2]
SHORT: dict[str, Any] = {"heartbeat": 0.3, "lease": LIMIT, "healer": 0.2, "cleaner": False}
"""A dispatcher that often looks for the dead, and whose own lease outlasts any pause of a busy machine.

So only those are taken for dead whose lease a test ends: `Crew.kill_and_end_lease`.
"""


class Program:
    """One process, and what it has told so far."""

    def __init__(self, name: str, given: dict[str, Any], output: Path) -> None:
        self.output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-m", f"tests.crash.{name}", json.dumps(given)],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def text(self) -> str:
        """All that it printed, errors too."""
        return self.output.read_text(errors="replace")

    def said(self, *words: object) -> list[str]:
        """The whole lines that begin with these words."""
        start = [str(word) for word in words]
        whole = self.text.rpartition("\n")[0].splitlines()
        return [line for line in whole if line.split()[: len(start)] == start]

    async def receives(self, *words: object, limit: float = LIMIT) -> str:
        """Wait for a line that begins with these words, and give it."""

        def look() -> str | None:
            found = self.said(*words)
            assert found or self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.text}"
            return found[0] if found else None

        line: str = await eventually(look, limit)
        return line

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def tell(self) -> None:
        """End its input: a producer stops."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    async def ends(self, limit: float = LIMIT) -> int:
        """Wait for its end, and give its exit code."""
        await eventually(lambda: self.process.poll() is not None, limit)
        code: int = self.process.returncode
        return code

    def kill(self) -> None:
        """End it for good, whatever state it is in."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()


class Crew:
    """The processes of one test; those left at its end are killed."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self._folder, self.journal = folder, journal
        self.programs: list[Program] = []

    def worker(
        self,
        url: str,
        *,
        store: dict[str, Any] | None = None,
        deadline: float | None = None,
        notes_pauses: bool = False,
        **dispatcher: Any,
    ) -> Program:
        """Start a worker process."""
        given = {"url": url, "journal": str(self.journal.path), "store": store or {}}
        return self._start(
            "worker", given | {"deadline": deadline, "notes_pauses": notes_pauses, "dispatcher": dispatcher}
        )

    def producer(self, url: str, acknowledged: Path, **given: Any) -> Program:
        """Start a producer process."""
        values = {"url": url, "journal": str(self.journal.path), "acknowledged": str(acknowledged), **given}
        return self._start("producer", values)

    def forker(self, url: str) -> Program:
        """Start a process that forks while its store is open."""
        return self._start("forker", {"url": url, "journal": str(self.journal.path)})

    def scheduler(self, url: str, *, dies_at: int) -> Program:
        """Start a process that kills itself at a step of firing a schedule."""
        return self._start("scheduler", {"url": url, "dies_at": dies_at})

    def kill(self, program: Program) -> None:
        """Kill a process, and write down that nothing it ran goes on."""
        program.kill()
        self.journal.write("dead", program.pid)

    def killed_amid(self, program: Program, *, runs: int = 1) -> bool:
        """Kill a worker if it has so many runs right now, which nobody but a rescuer can end then."""
        program.signal(signal.SIGSTOP)  # it starts and ends nothing between the look and the kill
        if len(self.journal.open_runs(program.pid)) < runs:
            program.signal(signal.SIGCONT)
            return False
        self.kill(program)
        return True

    async def kill_and_end_lease(self, store: TaskStore, program: Program) -> None:
        """Kill a worker unless it is dead, and have its lease be over."""
        if program.process.poll() is None:
            self.kill(program)
        await end_lease(store, program)

    async def stop(self, programs: Iterable[Program], limit: float = LIMIT) -> None:
        """End workers in good order; one that has not said a word may not have come as far as to receive a signal."""
        programs = list(programs)
        for program in programs:
            program.signal(signal.SIGTERM)
        for program in programs:
            code = await program.ends(limit)
            assert code == 0 or (code == -signal.SIGTERM and not program.text), program.text

    def close(self) -> None:
        for program in self.programs:
            program.kill()
            sys.stdout.write(f"\n── {program.output.name}, exit {program.process.returncode} ──\n")
            sys.stdout.write(program.text[-4000:])

    def _start(self, name: str, given: dict[str, Any]) -> Program:
        program = Program(name, given, self._folder / f"{name}-{len(self.programs) + 1}")
        self.programs.append(program)
        return program


async def end_lease(store: TaskStore, program: Program) -> None:
    """Have the lease of a process's dispatcher be over, as everybody sees who looks into the database."""
    database = store._require_open().storage.database
    await change(database, "UPDATE aiotaskstore_dispatchers SET lease = 0 WHERE pid = :pid", pid=program.pid)
