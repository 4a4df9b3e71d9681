"""One run of the demo over one directory: found again or begun, and watched."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import UUID

from aiotaskstore import Task, TaskStatus, TaskStore
from aiotaskstore.cli.demo_tasks import FILE, REPORT, SCAN, UNFINISHED, Owner, Report, owner_of, scan_draft


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSet:
    """The files that a run counts."""

    directory: str
    pattern: str
    leave_out: str

    @property
    def queue(self) -> str:
        """A queue of its own, so that two demos on one database do each their own files."""
        name = f"{self.directory}\0{self.pattern}".encode(errors="surrogateescape")
        return f"demo-{hashlib.blake2s(name, digest_size=4).hexdigest()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How far a run is."""

    found: int
    done: int
    sealed: bool
    """Whether every file has been found."""
    report: Report | None
    failure: str | None
    """Why it cannot finish without help."""


class DemoRun:
    """A run, as the database knows it: its scan, its files, its report, all with one owner."""

    def __init__(self, store: TaskStore, scan: Task, *, resumed: bool, earlier: int) -> None:
        self._store, self._scan_id = store, scan.id
        self.owner: Owner = owner_of(scan)
        self.queue: str = scan.queue
        self.resumed = resumed
        """Whether an earlier demo began it."""
        self.earlier = earlier
        """How many runs before it were finished."""
        self._sealed: tuple[UUID, int] | None = None

    @staticmethod
    async def find_or_begin(store: TaskStore, file_set: FileSet, *, fresh: bool) -> DemoRun:
        """Take up the run that is not finished yet, else begin the next one and delete those before the last.

        With `fresh`, whatever there is of this directory is deleted first. Safe to race: both get the same run.
        """
        scans = await store.tasks.list(alias=SCAN, queue=file_set.queue, limit=10)
        latest = scans[0] if scans else None
        if latest is not None and not fresh and not await _over(store, latest):
            return DemoRun(store, latest, resumed=True, earlier=_number(latest) - 1)
        number = _number(latest) if latest else 0
        if fresh:
            await store.tasks.delete(where={"queue": file_set.queue}, force=True)
        elif latest is not None:
            await store.tasks.delete(where={"owner": owner_of(latest), "status": UNFINISHED}, force=True)
            for old in scans[1:]:
                await store.tasks.delete(where={"owner": owner_of(old)}, force=True)
        owner = ("demo", f"{file_set.queue}.{number + 1}")
        draft = scan_draft(owner, file_set.queue, file_set.directory, file_set.pattern, file_set.leave_out)
        (scan_id,) = await store.enqueue_many([draft])
        return DemoRun(store, await store.tasks.require(scan_id), resumed=False, earlier=0 if fresh else number)

    async def look(self) -> View:
        """Read how far the run is; once every file is known, count only the unfinished ones."""
        tasks = self._store.tasks
        if self._sealed is None:
            reports = await tasks.list(alias=REPORT, owner=self.owner, limit=1)
            if not reports:
                return await self._look_at_scan()
            self._sealed = (reports[0].id, reports[0].payload["files"])
        report_id, files = self._sealed
        left = await tasks.count(alias=FILE, owner=self.owner, status=UNFINISHED)
        report = await tasks.get(report_id)
        return View(
            found=files, done=files - left, sealed=True,
            report=report.result if report and report.status is TaskStatus.SUCCEEDED else None,
            failure=_failure_of(report),
        )  # fmt: skip

    async def running_by_dispatcher(self) -> dict[UUID, int]:
        """Return how many of its tasks each dispatcher is running, as the database knows it."""
        running = await self._store.tasks.list(owner=self.owner, status="running")
        running_by: dict[UUID, int] = {}
        for task in running:
            if task.dispatcher_id is not None:
                running_by[task.dispatcher_id] = running_by.get(task.dispatcher_id, 0) + 1
        return running_by

    async def _look_at_scan(self) -> View:
        tasks = self._store.tasks
        scan = await tasks.get(self._scan_id)
        found = await tasks.count(alias=FILE, owner=self.owner)
        left = await tasks.count(alias=FILE, owner=self.owner, status=UNFINISHED)
        return View(found=found, done=max(0, found - left), sealed=False, report=None, failure=_failure_of(scan))


async def _over(store: TaskStore, scan: Task) -> bool:
    """Return whether nothing of a run is left to do: it has its report, or never will."""
    reports = await store.tasks.list(alias=REPORT, owner=owner_of(scan), limit=1)
    return reports[0].status.finished if reports else scan.status.finished


def _number(scan: Task) -> int:
    return int(owner_of(scan)[1].rpartition(".")[2])


def _failure_of(task: Task | None) -> str | None:
    if task is None:
        return "Its tasks have been deleted, perhaps by another demo with --fresh."
    if task.status.finished and task.status is not TaskStatus.SUCCEEDED:
        return f"{task.alias} {task.status}: {task.error or task.cancel_reason or task.finish_reason}"
    return None
