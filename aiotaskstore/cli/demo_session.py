"""One start of the demo: its workers, what it shows meanwhile, how long it took."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from uuid import UUID

from aiotaskstore import (
    BackgroundFailed,
    DatabaseUnavailableError,
    Queue,
    TaskRescued,
    TaskStore,
    TaskStoreError,
)
from aiotaskstore.cli.console import Console, Display
from aiotaskstore.cli.demo_run import DemoRun, FileSet, View
from aiotaskstore.cli.formatting import counted, number
from aiotaskstore.cli.supervisor import Supervisor
from aiotaskstore.cli.target import shown
from aiotaskstore.cli.worker import Plan
from aiotaskstore.mechanics.signals import escalating_signals
from aiotaskstore.mechanics.timed_event import TimedEvent

_APP = "aiotaskstore.cli.demo_tasks:store"
_LEASE = 4.0
"""Short, since a person waits for the lease of the demo that they have killed."""
_HEAL_EVERY = 0.5
_GRACE = 2.0
_LOOK_EVERY = 0.1
_LOOKING_SHARE = 4
"""A look may take a fifth of the time, however slow the database is."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Who does the work."""

    processes: int
    concurrency: int

    def plan(self, queue: str) -> Plan:
        """The plan of each worker."""
        return Plan(
            queues=[Queue(queue, self.concurrency)], concurrency=self.concurrency, grace=_GRACE, lease=_LEASE,
            drains=False, loop="auto", verbosity="errors",
        )  # fmt: skip

    def __str__(self) -> str:
        processes = "1 process" if self.processes == 1 else f"{self.processes} processes"
        return f"{processes} × {counted(self.concurrency, 'slot')}"


@dataclass
class Timing:
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


class Session:
    """One start of the demo: workers, the display, what is said."""

    timing: Timing
    workers: Workers
    run: DemoRun

    def __init__(self, console: Console, store: TaskStore, run: DemoRun, workers: Workers) -> None:
        self.run, self.workers, self.timing = run, workers, Timing()
        self._console, self._store = console, store
        self.url: str = shown(store)
        self._stop = TimedEvent()
        self._other_dispatchers: set[UUID] = set()
        """Dispatchers that were running tasks of this run before ours began: dead, or another demo's."""
        self._rescued = 0
        self._lease_over = 0.0
        self._alive_from = 0.0
        """When to take them for alive: a lease that is over has yet to be noticed."""
        self._last: View | None = None
        self._last_failure = ""
        store.on(TaskRescued, self._count_rescue)
        store.on(BackgroundFailed, self._report_failure)

    async def say_start(self, file_set: FileSet, where: str) -> None:
        """Say what will be done, and what was found to be done already."""
        say, run = self._console.say, self.run
        what = "every file" if file_set.pattern == "*" else f"every {file_set.pattern} file"
        say(f"Counting {what} in {file_set.directory}")
        say(f"Tasks are kept in {where} ({self.workers})")
        view = await run.look()
        held = await run.running_by_dispatcher()
        self.timing.before = self.timing.done = view.done
        self._other_dispatchers, self._lease_over = set(held), time.monotonic() + _LEASE
        self._alive_from = self._lease_over + _LEASE
        if run.resumed:
            say(f"An earlier run stopped at {how_far(view)}. Going on from there.")
        elif run.earlier:
            say(f"The run before this one is complete. This is run {run.earlier + 1}, from the start.")
        if held:
            tasks = counted(sum(held.values()), "task")
            say(f"{tasks} are held by another demo; if it was killed, its lease ends in {_LEASE:.0f} s.")

    async def play(self) -> View:
        """Work until the report is there, or until stopped."""
        plan = self.workers.plan(self.run.queue)
        dispatcher = self._store.dispatcher(**plan.options, healer=_HEAL_EVERY, name=f"demo:{os.getpid()}")
        supervisor = Supervisor([f"--app={_APP}", *plan.arguments], self.workers.processes - 1, self._console.say)
        failure: TaskStoreError | None = None

        def cancel() -> None:
            dispatcher.cancel_runs()
            supervisor.stop()

        async with asyncio.TaskGroup() as group:
            with escalating_signals(self._stop.set, cancel):
                group.create_task(supervisor.run())
                self.timing.began = time.monotonic()
                try:
                    await dispatcher.start()
                    with self._console.display("files") as display:
                        view = await self._watch(display)
                except TaskStoreError as error:  # out of a group it would come as a group
                    failure = error
                finally:
                    supervisor.stop()
                    await dispatcher.stop(_GRACE)
        if failure is not None:
            raise failure
        return view if view.report else await self.run.look()

    async def _watch(self, display: Display) -> View:
        while True:
            started = time.monotonic()
            view, doing, rest = await self._look()
            display.show(doing, view.done, view.found if view.sealed else None, rest)
            if view.report is not None or view.failure or self._stop.is_set():
                self._report_rescue()
                return view
            took = time.monotonic() - started
            await self._stop.wait(max(_LOOK_EVERY, took * _LOOKING_SHARE))
            if doing == "waiting":
                self.timing.waited += time.monotonic() - started

    async def _look(self) -> tuple[View, str, str]:
        """Read how far the run is; return it with a name for the present phase and a remark."""
        try:
            view = self._last = await self.run.look()
            held = await self._running_elsewhere()
        except DatabaseUnavailableError:
            if self._last is None:
                raise
            self.timing.waited_for = "the database"
            return self._last, "waiting", "the database is away"
        self.timing.done = view.done
        if view.sealed and view.done == view.found:
            self.timing.ended = self.timing.ended or time.monotonic()
            return view, "adding up", ""
        rate = f"{number(self.timing.rate)} a second" if self.timing.files else ""
        if not held:
            return view, "counting" if view.sealed else "finding", rate
        only = view.done + held >= view.found
        self.timing.waited_for = "the lease of a killed demo" if self._lease_over > time.monotonic() else "another demo"
        return view, "waiting" if only else "counting", self._about(held)

    def _about(self, held: int) -> str:
        left, tasks = self._lease_over - time.monotonic(), counted(held, "task")
        if time.monotonic() < self._alive_from:
            return f"{tasks} of another demo, its lease ends in {max(0.0, left):.0f} s"
        return f"{tasks} of another demo, which is alive"

    async def _running_elsewhere(self) -> int:
        if self._other_dispatchers:
            holders = await self.run.running_by_dispatcher()
            self._other_dispatchers &= holders.keys()
            if self._other_dispatchers:
                return sum(holders[one] for one in self._other_dispatchers)
        self._report_rescue()
        return 0

    def _report_rescue(self) -> None:
        """Say once that the killed demo's tasks run again; the event may come after a look that saw the rows change."""
        if self._rescued:
            self._console.say(f"Its lease is over: {counted(self._rescued, 'task')} of the killed demo run again.")
            self._rescued = 0

    def _count_rescue(self, event: TaskRescued) -> None:
        self._rescued += event.queue == self.run.queue

    def _report_failure(self, event: BackgroundFailed) -> None:
        if str(event.error) != self._last_failure:
            self._last_failure = str(event.error)
            self._console.say(f"{event.loop}: {event.error}")


def how_far(view: View) -> str:
    """Write how many files are counted."""
    total = f"{number(view.done)} of {counted(view.found, 'file')}"
    return total if view.sealed else f"{total} found so far"
