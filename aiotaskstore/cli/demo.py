"""`demo`: real work, done durably, to be killed and started again."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from aiotaskstore.cli import demo_tasks
from aiotaskstore.cli.console import Console, Display
from aiotaskstore.cli.demo_run import Ground, Run, View
from aiotaskstore.cli.demo_tasks import Report
from aiotaskstore.cli.exit_code import ExitCode, Failure
from aiotaskstore.cli.figures import counted, number, size, span
from aiotaskstore.cli.supervisor import Supervisor
from aiotaskstore.cli.target import URL, Target, on_a_database
from aiotaskstore.cli.worker import Plan
from aiotaskstore.dispatch.dispatcher import Dispatcher
from aiotaskstore.errors import DatabaseUnavailableError, TaskStoreError
from aiotaskstore.events import LoopTroubled, TaskRescued
from aiotaskstore.queue import Queue
from aiotaskstore.storage.url import parse_url
from aiotaskstore.taskstore import TaskStore

_DEFAULT_URL = "sqlite:///aiotaskstore-demo.db"
_APP = "aiotaskstore.cli.demo_tasks:store"
_LEASE = 4.0
"""Short, since a person waits for the lease of the demo that they have killed."""
_HEAL_EVERY = 0.5
_GRACE = 2.0
_LOOK_EVERY = 0.1
_LOOKING_SHARE = 4
"""A look may take a fifth of the time, however slow the database is."""
_SHORT = 12
_CANCELS, _EXITS = 2, 3


@click.command()
@click.argument("directory", required=False, type=click.Path(exists=True, file_okay=False))
@click.option("--processes", default=1, show_default=True, type=click.IntRange(min=1),
              help="This one, and workers beside it.")  # fmt: skip
@click.option("--concurrency", default=10, show_default=True, type=click.IntRange(min=1),
              help="How many files each process has in hand at once.")  # fmt: skip
@click.option("--slow", default=0.0, type=click.FloatRange(min=0), metavar="MS",
              help="Add so many milliseconds to each file, to have time to kill it.")  # fmt: skip
@click.option("--fresh", is_flag=True, help="Forget what earlier runs over this directory have done.")
@on_a_database
def demo(target: Target, directory: str | None, *, processes: int, concurrency: int, slow: float, fresh: bool) -> None:
    """Watch real work being done durably: one task for every file of DIRECTORY, then a report.

    Each file's size, lines, words and SHA-256 are counted; without DIRECTORY those of Python's own source. The tasks
    are in a SQLite file in this folder, or wherever --url says. Kill it half-way (Ctrl-C, kill -9) and start it again:
    it goes on where it was, and no file is missed or counted twice.

    \b
    aiotaskstore demo
    aiotaskstore demo ~/src --processes 2
    aiotaskstore demo --slow 20                      then kill it, and start it again
    aiotaskstore demo --url postgresql://app@localhost/app
    """  # noqa: D301
    # Not AIOTASKSTORE_URL: a demo must not find its way into somebody's production database by itself.
    url = target.given_url or _DEFAULT_URL
    os.environ[URL] = url  # what workers beside us read
    os.environ[demo_tasks.SLOW] = str(slow / 1000)
    ground = _ground(directory, url)
    code = asyncio.run(_play(target.console, ground, url, Cast(processes, concurrency), fresh=fresh))
    if code:
        raise SystemExit(code)


@dataclass(frozen=True, slots=True)
class Cast:
    """Who does the work."""

    processes: int
    concurrency: int

    def plan(self, queue: str) -> Plan:
        """What each worker is asked for."""
        return Plan(
            queues=[Queue(queue, self.concurrency)], concurrency=self.concurrency, grace=_GRACE, lease=_LEASE,
            drains=False, loop="auto", quiet=True,
        )  # fmt: skip

    def __str__(self) -> str:
        processes = "1 process" if self.processes == 1 else f"{self.processes} processes"
        return f"{processes} × {counted(self.concurrency, 'slot')}"


def _ground(directory: str | None, url: str) -> Ground:
    parsed = parse_url(url)
    ours = str(Path(parsed.path).resolve()) if parsed.dialect == "sqlite" and parsed.path != ":memory:" else ""
    if directory is not None:
        return Ground(directory=str(Path(directory).resolve()), pattern="*", leave_out=ours)
    return Ground(directory=str(Path(sysconfig.get_path("stdlib")).resolve()), pattern="*.py", leave_out=ours)


async def _play(console: Console, ground: Ground, url: str, cast: Cast, *, fresh: bool) -> ExitCode:
    for name in ("aiotaskstore", "asyncpg"):  # what matters here is said in the demo's own words
        logging.getLogger(name).setLevel(logging.CRITICAL)
    store = demo_tasks.store()
    async with store:
        run = await Run.find_or_begin(store, ground, fresh=fresh)
        show = Show(console, store, run, cast)
        await show.tell_start(ground, str(parse_url(url)))
        view = await show.play()
    if view.trouble:
        raise Failure(view.trouble)
    if view.report is None:
        console.say(f"Stopped at {_done(view)}, all stored. The same command goes on from there.")
        return ExitCode.FAILED
    return _close(console, show, view.report, ground, url)


@dataclass
class Progress:
    """How this start of the demo goes; seconds by our own clock."""

    began: float = field(default_factory=time.monotonic)
    before: int = 0
    """Files that were done when it began."""
    done: int = 0
    ended: float = 0.0
    """When the last file was done."""
    waited: float = 0.0
    """Of that time, how long there was nothing to do but to wait."""
    waited_for: str = ""

    @property
    def files(self) -> int:
        """Files done since."""
        return max(0, self.done - self.before)

    @property
    def seconds(self) -> float:
        """How long that took."""
        return (self.ended or time.monotonic()) - self.began

    @property
    def rate(self) -> float:
        """Files a second, waiting apart."""
        return self.files / max(0.001, self.seconds - self.waited)


class Show:
    """One start of the demo: workers, the display, what is said."""

    progress: Progress
    cast: Cast
    run: Run

    def __init__(self, console: Console, store: TaskStore, run: Run, cast: Cast) -> None:
        self.run, self.cast, self.progress = run, cast, Progress()
        self._console, self._store = console, store
        self._stop = asyncio.Event()
        self._signals = 0
        self._strangers: set[UUID] = set()
        """Dispatchers that held tasks of this run before ours began: dead, or another demo's."""
        self._rescued = 0
        self._lease_over = 0.0
        self._alive_from = 0.0
        """When to take them for alive: a lease that is over has yet to be noticed."""
        self._last: View | None = None
        self._trouble = ""
        store.on(TaskRescued, self._hear_rescue)
        store.on(LoopTroubled, self._hear_trouble)

    async def tell_start(self, ground: Ground, where: str) -> None:
        """Say what will be done, and what was found to be done already."""
        say, run = self._console.say, self.run
        what = "every file" if ground.pattern == "*" else f"every {ground.pattern} file"
        say(f"Counting {what} in {ground.directory}")
        say(f"Tasks are kept in {where} ({self.cast})")
        view = await run.look()
        held = await run.held()
        self.progress.before = self.progress.done = view.done
        self._strangers, self._lease_over = set(held), time.monotonic() + _LEASE
        self._alive_from = self._lease_over + _LEASE
        if run.resumed:
            say(f"An earlier run stopped at {_done(view)}. Going on from there.")
        elif run.earlier:
            say(f"The run before this one is complete. This is run {run.earlier + 1}, from the start.")
        if held:
            tasks = counted(sum(held.values()), "task")
            say(f"{tasks} are held by another demo; if it was killed, its lease ends in {_LEASE:.0f} s.")

    async def play(self) -> View:
        """Work until the report is there, or until told to stop."""
        plan = self.cast.plan(self.run.queue)
        dispatcher = self._store.dispatcher(**plan.options, healer=_HEAL_EVERY, name=f"demo:{os.getpid()}")
        beside = Supervisor([f"--app={_APP}", *plan.arguments], self.cast.processes - 1, self._console.say)
        failure: TaskStoreError | None = None
        async with asyncio.TaskGroup() as group:
            with self._hearing_signals(dispatcher, beside):
                group.create_task(beside.run())
                self.progress.began = time.monotonic()
                try:
                    await dispatcher.start()
                    with self._console.display("files") as display:
                        view = await self._watch(display)
                except TaskStoreError as error:  # out of a group it would come as a group
                    failure = error
                finally:
                    beside.stop()
                    await dispatcher.stop(_GRACE)
        if failure is not None:
            raise failure
        return view if view.report else await self.run.look()

    async def _watch(self, display: Display) -> View:
        while True:
            started = time.monotonic()
            view, doing, rest = await self._look()
            display.show(doing, view.done, view.found if view.sealed else None, rest)
            if view.report is not None or view.trouble or self._stop.is_set():
                return view
            took = time.monotonic() - started
            await self._rest(max(_LOOK_EVERY, took * _LOOKING_SHARE))
            if doing == "waiting":
                self.progress.waited += time.monotonic() - started

    async def _look(self) -> tuple[View, str, str]:
        """See how far it is; gives also what to call that, and what to add."""
        try:
            view = self._last = await self.run.look()
            held = await self._held_by_strangers()
        except DatabaseUnavailableError:
            if self._last is None:
                raise
            self.progress.waited_for = "the database"
            return self._last, "waiting", "the database is away"
        self.progress.done = view.done
        if view.sealed and view.done == view.found:
            self.progress.ended = self.progress.ended or time.monotonic()
            return view, "adding up", ""
        rate = f"{number(self.progress.rate)} a second" if self.progress.files else ""
        if not held:
            return view, "counting" if view.sealed else "finding", rate
        only = view.done + held >= view.found
        self.progress.waited_for = (
            "the lease of a killed demo" if self._lease_over > time.monotonic() else "another demo"
        )
        return view, "waiting" if only else "counting", self._about(held)

    def _about(self, held: int) -> str:
        left, tasks = self._lease_over - time.monotonic(), counted(held, "task")
        if time.monotonic() < self._alive_from:
            return f"{tasks} of another demo, its lease ends in {max(0.0, left):.0f} s"
        return f"{tasks} of another demo, which is alive"

    async def _held_by_strangers(self) -> int:
        if not self._strangers:
            return 0
        holders = await self.run.held()
        self._strangers &= holders.keys()
        if not self._strangers and self._rescued:
            self._console.say(f"Its lease is over: {counted(self._rescued, 'task')} of the killed demo run again.")
        return sum(holders[one] for one in self._strangers)

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return

    @contextmanager
    def _hearing_signals(self, dispatcher: Dispatcher, beside: Supervisor) -> Iterator[None]:
        """Hear Ctrl-C and SIGTERM: the first finishes what runs, the second hands it back, the third exits."""
        loop = asyncio.get_running_loop()

        def hear() -> None:
            self._signals += 1
            self._stop.set()
            if self._signals == _CANCELS:
                dispatcher.cancel_runs()
                beside.stop()
            elif self._signals >= _EXITS:
                os._exit(ExitCode.FAILED)

        numbers = (signal.SIGINT, signal.SIGTERM)
        for one in numbers:
            loop.add_signal_handler(one, hear)
        try:
            yield
        finally:
            for one in numbers:
                loop.remove_signal_handler(one)

    def _hear_rescue(self, event: TaskRescued) -> None:
        self._rescued += event.queue == self.run.queue

    def _hear_trouble(self, event: LoopTroubled) -> None:
        if str(event.error) != self._trouble:
            self._trouble = str(event.error)
            self._console.say(f"{event.loop}: {event.error}")


# ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────


def _close(console: Console, show: Show, report: Report, ground: Ground, url: str) -> ExitCode:
    complete = report["counted"] == report["files"] and not report["twice"]
    if console.prints_json:
        console.json(_as_object(show, report, ground, url))
    else:
        _print_report(console, show, report, ground)
        _tell_next(console, url, ground)
    return ExitCode.DONE if complete else ExitCode.FAILED


def _print_report(console: Console, show: Show, report: Report, ground: Ground) -> None:
    files, progress = report["files"], show.progress
    console.print(_verdict(report))
    for one in report["failed"]:
        console.print(f"  {one}")
    if not files:
        return
    before = f"; {number(progress.before)} were done before" if progress.before else ""
    facts = [
        ("size", size(report["bytes"])),
        ("lines", number(report["lines"])),
        ("words", number(report["words"])),
        ("contents", f"{number(report['contents'])} different; SHA-256 of all {report['fingerprint'][:_SHORT]}"),
        ("this start", f"{counted(progress.files, 'file')} in {span(progress.seconds)}{before}"),
        ("waited", f"{span(progress.waited)} for {progress.waited_for}" if progress.waited else ""),
        ("throughput", f"{number(progress.rate)} files/s with {show.cast}"),
    ]
    console.print()
    for name, value in ((name, value) for name, value in facts if value):
        console.print(f"  {click.style(f'{name:<11}', dim=True)} {value}")
    console.print()
    rows = [
        [str(Path(one["path"]).relative_to(ground.directory)), size(one["bytes"]), span(one["seconds"])]
        for one in report["slowest"]
    ]
    console.table(["slowest files", "size", "took"], rows, right=["size", "took"], paths=["slowest files"])


def _verdict(report: Report) -> str:
    files, done = report["files"], report["counted"]
    left_out = f" {number(report['left_out'])} could not be opened or named, and were left out." * bool(
        report["left_out"]
    )
    if not files:
        return f"There are no files to count here.{left_out}"
    if done == files and not report["twice"]:
        return f"{counted(files, 'file')}, each counted exactly once.{left_out}"
    return (
        f"{number(done)} of {counted(files, 'file')} counted, {number(report['twice'])} of them twice, "
        f"{number(files - done)} failed:{left_out}"
    )


def _as_object(show: Show, report: Report, ground: Ground, url: str) -> dict[str, Any]:
    progress = show.progress
    return {
        "directory": ground.directory,
        "url": str(parse_url(url)),
        "run": show.run.owner[1],
        "resumed": show.run.resumed,
        "report": report,
        "this_start": {
            "files": progress.files, "before": progress.before, "seconds": round(progress.seconds, 3),
            "waited": round(progress.waited, 3), "files_per_second": round(progress.rate, 1),
            "processes": show.cast.processes, "concurrency": show.cast.concurrency,
        },
    }  # fmt: skip


def _tell_next(console: Console, url: str, ground: Ground) -> None:
    where = "" if url == _DEFAULT_URL else f" --url {parse_url(url)}"
    what = "" if ground.pattern != "*" else f" {ground.directory}"
    console.say()
    console.say(f"Look at the tasks:  aiotaskstore ls --url {parse_url(url)}")
    console.say(f"Kill it half-way:   aiotaskstore demo{what}{where} --slow 20    and start it again")


def _done(view: View) -> str:
    total = f"{number(view.done)} of {counted(view.found, 'file')}"
    return total if view.sealed else f"{total} found so far"
