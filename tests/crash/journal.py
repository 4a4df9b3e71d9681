"""What handlers really did, written where no crash and no database can take it back."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from aiotaskstore import current_context

_TICK, _PAUSE = 0.05, 0.2
"""Seconds from one look to the next, and how much later than that it comes after a pause that counts."""


class Line(NamedTuple):
    """One thing that happened. The order of lines in the file is the order in which they happened."""

    what: str
    """start, end, dead (the process was killed, and whatever it ran ended with it), or paused (see `note_pauses`)."""
    pid: int
    task_id: str = ""
    attempt: int = 0
    how: str = ""
    """How a run ended: ok, or the name of what it raised."""


class Journal:
    """An append-only file that many processes write a line at a time."""

    def __init__(self, path: Path) -> None:
        self.path, self._let_go = path, path.with_suffix(".let_go")
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def close(self) -> None:
        os.close(self._file)

    def write(self, *words: object) -> None:
        """Append one line, in one call that no other process's can split."""
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())

    def read(self) -> list[Line]:
        lines = []
        for text in self.path.read_text().splitlines():
            words = text.split()
            what, pid, task_id, attempt, how = words + ["", "", "", "0", ""][len(words) :]
            lines.append(Line(what, int(pid), task_id, int(attempt), how))
        return lines

    def note_pauses(self) -> None:
        """From now on, write down whenever this process was paused so long that its runs may outlast its lease."""

        def note() -> None:
            while True:
                before = time.monotonic()
                time.sleep(_TICK)
                if time.monotonic() - before > _TICK + _PAUSE:
                    self.write("paused", os.getpid())

        threading.Thread(target=note, daemon=True).start()

    @contextmanager
    def run(self) -> Iterator[None]:
        """Write down that the running task starts and ends."""
        context = current_context()
        self.write("start", os.getpid(), context.task_id, context.attempt)
        how = "ok"
        try:
            yield
        except BaseException as error:
            how = type(error).__name__
            raise
        finally:
            self.write("end", os.getpid(), context.task_id, context.attempt, how)

    def let_go(self) -> None:
        """End the handlers that wait for it, in whatever process."""
        self._let_go.touch()

    @property
    def is_let_go(self) -> bool:
        return self._let_go.exists()

    # ── what the tests ask ────────────────────────────────────────────────────────────────────────────────

    def starts(self, task_id: UUID | None = None) -> list[Line]:
        """Every start, of one task or of all."""
        return [line for line in self.read() if line.what == "start" and task_id in {None, UUID(line.task_id)}]

    def ends(self, task_id: UUID | None = None) -> list[Line]:
        """Every end, of one task or of all."""
        return [line for line in self.read() if line.what == "end" and task_id in {None, UUID(line.task_id)}]

    def open_runs(self, pid: int) -> set[str]:
        """What a process has started and not ended."""
        runs: set[str] = set()
        for line in self.read():
            if line.pid == pid and line.what == "start":
                runs.add(line.task_id)
            elif line.pid == pid and line.what != "paused":
                runs = runs - {line.task_id} if line.what == "end" else set()
        return runs

    def overlaps(self) -> list[str]:
        """Every task that was started while an earlier run of it was still open somewhere, and where.

        Not where the earlier run's process has been paused since: it could not end the run when its lease was over.
        """
        lines = self.read()
        paused = {line.pid: at for at, line in enumerate(lines) if line.what == "paused"}
        runs: dict[str, list[tuple[int, int]]] = {}
        found = []
        for at, line in enumerate(lines):
            if line.what == "start":
                earlier = [pid for pid, since in runs.get(line.task_id, []) if paused.get(pid, -1) < since]
                if earlier:
                    found.append(f"{line.task_id} started by {line.pid} while run by {earlier}")
                runs.setdefault(line.task_id, []).append((line.pid, at))
            elif line.what == "end":
                runs[line.task_id].remove(next(run for run in runs[line.task_id] if run[0] == line.pid))
            elif line.what == "dead":
                runs = {task_id: [run for run in open_ if run[0] != line.pid] for task_id, open_ in runs.items()}
        return found

    def counts(self) -> Counter[str]:
        """How often each task was started."""
        return Counter(line.task_id for line in self.starts())
