"""What one contender did in one round, measured inside the process that did it."""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Measurements:
    """The measurements of one process."""

    tasks: int = 0
    seconds: float = 0
    """From the start to the last write."""
    steady_tasks: int = 0
    steady: float = 0
    """Seconds from the first task to the last one: without the start and the end."""
    cpu: float = 0
    """Seconds of processor time, all threads; the database server's is not in it."""
    peak: float = 0
    """The most memory held (RSS), in MB."""
    samples: list[float] = field(default_factory=list)
    """Milliseconds from enqueue to start, or MB held as the work went on."""

    def __add__(self, other: Measurements) -> Measurements:
        return Measurements(
            self.tasks + other.tasks,
            self.seconds + other.seconds,
            self.steady_tasks + other.steady_tasks,
            self.steady + other.steady,
            self.cpu + other.cpu,
            max(self.peak, other.peak),
            self.samples + other.samples,
        )

    @property
    def rate(self) -> float:
        """Tasks a second, all included."""
        return self.tasks / self.seconds

    @property
    def steady_rate(self) -> float:
        """Tasks a second between the first and the last task."""
        return self.steady_tasks / self.steady if self.steady else self.rate

    @property
    def cpu_each(self) -> float:
        """Microseconds of processor time a task."""
        return self.cpu / self.tasks * 1e6


class Meter:
    """Counts tasks and measures the block it is entered for."""

    def __init__(self, tasks: int, *, sample_every: int = 0) -> None:
        self.tasks = tasks
        self.done = 0
        self.samples: list[float] = []
        self.all_done = asyncio.Event()
        self._sample_every = sample_every
        self._mark = 1  # so that counting a task costs one comparison
        self._first = self._last = 0.0
        self._done_first = 0

    def count(self, tasks: int = 1) -> None:
        """Hear that so many more tasks ran."""
        self.done += tasks
        if self.done >= self._mark:
            self._pass_mark()

    def __enter__(self) -> Self:
        self._cpu, self._started = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._seconds, self._cpu = time.perf_counter() - self._started, time.process_time() - self._cpu

    def measurements(self) -> Measurements:
        """Give what was measured."""
        steady_tasks, steady = self.tasks - self._done_first, self._last - self._first
        return Measurements(self.tasks, self._seconds, steady_tasks, steady, self._cpu, peak_memory(), self.samples)

    def _pass_mark(self) -> None:
        now = time.perf_counter()
        if not self._first:
            self._first, self._done_first = now, self.done
        every = self._sample_every
        if every and self.done >= every * (len(self.samples) + 1):
            self.samples.append(memory())
        if self.done >= self.tasks and not self._last:
            self._last = now
            self.all_done.set()
        self._mark = self.tasks if self.done < self.tasks else sys.maxsize
        if every:
            self._mark = min(self._mark, every * (len(self.samples) + 1))


def memory() -> float:
    """Give the memory this process holds now, in MB."""
    return _status("VmRSS") or peak_memory()


def peak_memory() -> float:
    """Give the most memory this process ever held, in MB."""
    # Not ru_maxrss first: Linux hands the parent's down to a new program.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _status(name: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), 0.0)
