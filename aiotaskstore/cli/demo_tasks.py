"""The tasks of the demo: find the files, count each one, add it all up.

They are ordinary tasks, as an application would write them, and show how work survives being killed: what runs
twice is stored once, because every file's task has an external id, and the report adds up stored results only.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from fnmatch import fnmatch
from pathlib import Path

from typing_extensions import TypedDict

from aiotaskstore import Draft, Retention, Snooze, Task, TaskContext, TaskRouter, TaskStatus, TaskStore
from aiotaskstore.mechanics.text import storable

SCAN, FILE, REPORT = "demo_scan", "demo_file", "demo_report"
SLOW = "AIOTASKSTORE_DEMO_SLOW"
"""Seconds that this process adds to each file, so that a person can kill it half-way."""
UNFINISHED = [status for status in TaskStatus if not status.finished]

_BATCH = 500
_PAGE = 1_000
_LOOK_AGAIN = 0.2
_CHUNK = 1 << 20
_SLOWEST = 5
_FAILED_SHOWN = 5
_SKIPPED = frozenset({"__pycache__", "site-packages", "dist-packages", "node_modules", ".git", ".hg", ".svn", ".venv"})
_FOR_EVER = Retention(period=None)
"""A run that is taken up after a month still finds all its files; the next run deletes the ones before it."""
_TRIES = 1_000
"""However often the demo is killed, what it ran then runs again; an error of its own is final at once."""

Owner = tuple[str, str]
"""("demo", the run's name): every task of a run has it, and everything is counted by it."""


class FileCount(TypedDict):
    """What one file's task found."""

    bytes: int
    lines: int
    words: int
    sha256: str
    seconds: float


class SlowFile(TypedDict):
    """A file that took long."""

    path: str
    bytes: int
    seconds: float


class Report(TypedDict):
    """What a run found. `files` were enqueued; `counted` of them have a stored result, `twice` more than one."""

    files: int
    counted: int
    twice: int
    failed: list[str]
    left_out: int
    bytes: int
    lines: int
    words: int
    contents: int
    fingerprint: str
    slowest: list[SlowFile]


demo: TaskRouter = TaskRouter()


# Smaller priorities run first: the scan, the files that it has found so far, the report after the last of them.
@demo.task(alias=SCAN, priority=-1, max_attempts=_TRIES, retry_on="retryable", retention=_FOR_EVER)
async def scan(context: TaskContext, directory: str, pattern: str, leave_out: str) -> int:
    """Enqueue a task for every file, and then the report; return the number of files."""
    store, run = context.store, owner_of(context.task)
    if not await store.tasks.count(alias=REPORT, owner=run):  # else an earlier attempt got that far, and died
        paths, left_out = await asyncio.to_thread(find_files, directory, pattern, leave_out)
        for start in range(0, len(paths), _BATCH):
            await context.progress(f"{start} of {len(paths)} files enqueued", fraction=start / len(paths))
            await store.enqueue_many([_file_draft(context.task, path) for path in paths[start : start + _BATCH]])
            await asyncio.sleep(_slow())
        # Counted where they are stored: an attempt that died may have enqueued a file that is gone by now.
        files = await store.tasks.count(alias=FILE, owner=run)
        await store.enqueue_many([_report_draft(context.task, files, left_out)])
    found: int = await store.tasks.count(alias=FILE, owner=run)
    return found


@demo.task(alias=FILE, timeout=300, max_attempts=_TRIES, retry_on="retryable", retention=_FOR_EVER)
async def count_file(path: str) -> FileCount:
    """Count one file's bytes, lines and words, and hash it."""
    await asyncio.sleep(_slow())
    return await asyncio.to_thread(read_file, path)


@demo.task(alias=REPORT, priority=1, max_attempts=_TRIES, retry_on="retryable", retention=_FOR_EVER)
async def report(context: TaskContext, files: int, left_out: int) -> Report:
    """Add up the stored results, once there is one for every file."""
    store, run = context.store, owner_of(context.task)
    if await store.tasks.count(alias=FILE, owner=run, status=UNFINISHED):
        raise Snooze(_LOOK_AGAIN)
    sums = Sums()
    async for task in _finished_files(store, run):
        sums.add(task)
    return sums.report(files, left_out)


def store() -> TaskStore:
    """Make the store of the demo, for `aiotaskstore worker --app aiotaskstore.cli.demo_tasks:store`."""
    made = TaskStore.from_env()
    made.include(demo)
    return made


def owner_of(task: Task) -> Owner:
    """Return the run that a task belongs to."""
    assert task.owner is not None  # noqa: S101 - the demo enqueues none without
    return task.owner


# ── enqueuing ─────────────────────────────────────────────────────────────────────────────────────────────────


def scan_draft(run: Owner, queue: str, directory: str, pattern: str, leave_out: str) -> Draft[int]:
    """Draft the task that begins a run; two demos that begin the same one share it."""
    once = scan.options(queue=queue, owner=run, external_id=run[1], on_conflict="return")
    return once.draft(directory, pattern, leave_out)


def _file_draft(parent: Task, path: str) -> Draft[FileCount]:
    run = owner_of(parent)
    name = hashlib.blake2s(path.encode()).hexdigest()  # a path may be longer than an external id
    once = count_file.options(queue=parent.queue, owner=run, external_id=f"{run[1]}:{name}", on_conflict="return")
    return once.draft(path)


def _report_draft(parent: Task, files: int, left_out: int) -> Draft[Report]:
    run = owner_of(parent)
    once = report.options(queue=parent.queue, owner=run, external_id=run[1], on_conflict="return")
    return once.draft(files, left_out)


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────


def find_files(directory: str, pattern: str, leave_out: str) -> tuple[list[str], int]:
    """List the regular files beneath a directory, and count what had to be left out.

    `leave_out` is our own database: to open and close a SQLite file beside SQLite drops its locks.
    """
    left_out: list[object] = []
    found = []
    for folder, folders, names in os.walk(directory, onerror=left_out.append):
        folders[:] = sorted(set(folders) - _SKIPPED)
        for name in sorted(names):
            path = Path(folder, name)
            ours = leave_out and str(path).startswith(leave_out)
            if not fnmatch(name, pattern) or ours or path.is_symlink() or not path.is_file():
                continue
            if storable(str(path)):
                found.append(str(path))
            else:
                left_out.append(path)
    return found, len(left_out)


def read_file(path: str) -> FileCount:
    """Count and hash a file, however large, in pieces."""
    started = time.perf_counter()
    digest = hashlib.sha256()
    size = lines = words = 0
    within_word = False
    with Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            lines += chunk.count(b"\n")
            words += len(chunk.split()) - (within_word and not chunk[:1].isspace())
            within_word = not chunk[-1:].isspace()
    seconds = round(time.perf_counter() - started, 6)
    return FileCount(bytes=size, lines=lines, words=words, sha256=digest.hexdigest(), seconds=seconds)


def _slow() -> float:
    return float(os.environ.get(SLOW) or 0)


# ── adding up ─────────────────────────────────────────────────────────────────────────────────────────────────


async def _finished_files(store: TaskStore, run: Owner) -> AsyncIterator[Task]:
    last: Task | None = None
    while True:
        after = {"after": last.id} if last else {}
        page = await store.tasks.list(alias=FILE, owner=run, limit=_PAGE, descending=False, **after)  # type: ignore[arg-type]
        for task in page:
            yield task
        if len(page) < _PAGE:
            return
        last = page[-1]


class Sums:
    """The results seen so far."""

    def __init__(self) -> None:
        self._sha256_of: dict[str, str] = {}
        self._failed: list[str] = []
        self._totals = {"bytes": 0, "lines": 0, "words": 0}
        self._slowest: list[SlowFile] = []
        self._twice = 0

    def add(self, task: Task) -> None:
        """Take one file's task in."""
        path = task.payload["path"]
        if task.status is not TaskStatus.SUCCEEDED:
            self._failed.append(f"{path}: {task.error or task.status}")
            return
        result: FileCount = task.result
        self._twice += path in self._sha256_of
        self._sha256_of[path] = result["sha256"]
        for name in self._totals:
            self._totals[name] += result[name]  # type: ignore[literal-required] # three of its names
        self._slowest.append(SlowFile(path=path, bytes=result["bytes"], seconds=result["seconds"]))
        self._slowest = sorted(self._slowest, key=lambda one: -one["seconds"])[:_SLOWEST]

    def report(self, files: int, left_out: int) -> Report:
        """Return the sums."""
        lines = "".join(f"{sha256}  {path}\n" for path, sha256 in sorted(self._sha256_of.items()))
        return Report(
            files=files,
            counted=len(self._sha256_of),
            twice=self._twice,
            failed=self._failed[:_FAILED_SHOWN],
            left_out=left_out,
            bytes=self._totals["bytes"],
            lines=self._totals["lines"],
            words=self._totals["words"],
            contents=len(set(self._sha256_of.values())),
            fingerprint=hashlib.sha256(lines.encode()).hexdigest(),
            slowest=self._slowest,
        )
