"""`worker`: runs the app's tasks, in one process or several."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import click

from aiotaskstore.cli.exit_code import ExitCode
from aiotaskstore.cli.figures import counted
from aiotaskstore.cli.option import duration_of
from aiotaskstore.cli.supervisor import Supervisor
from aiotaskstore.cli.target import Target, run_with, shown, targeted
from aiotaskstore.dispatch.dispatcher import Dispatcher
from aiotaskstore.errors import ConfigurationError
from aiotaskstore.events import TaskRetried
from aiotaskstore.queue import Queue
from aiotaskstore.taskstore import TaskStore

_HEARTBEATS = 3
"""How many fit into a lease."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_AGAIN = 0.05

_log = logging.getLogger("aiotaskstore.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the command line asked of a worker; durations in seconds."""

    queues: list[Queue] | None
    concurrency: int
    grace: float
    lease: float
    drains: bool
    loop: str
    quiet: bool

    @property
    def options(self) -> dict[str, Any]:
        """What the dispatcher is made with."""
        return {
            "queues": self.queues, "concurrency": self.concurrency, "grace": self.grace, "lease": self.lease,
            "heartbeat": self.lease / _HEARTBEATS,
        }  # fmt: skip

    @property
    def arguments(self) -> list[str]:
        """The same as options of the command, for a process that we start."""
        queues = [f"--queue={_written(one)}" for one in self.queues or ()]
        flags = [flag for flag, given in (("--drain", self.drains), ("--quiet", self.quiet)) if given]
        return [
            *queues, *flags, f"--concurrency={self.concurrency}", f"--grace={self.grace}", f"--lease={self.lease}",
            f"--loop={self.loop}",
        ]  # fmt: skip


@click.command()
@click.option("-q", "--queue", "queues", multiple=True, metavar="NAME[:SLOTS],…",
              help="Only these queues, each with its slots. Without it: every queue that has work.")  # fmt: skip
@click.option("--concurrency", default=10, show_default=True, type=click.IntRange(min=1),
              help="Slots of a queue that names none: how many of its tasks run at once here.")  # fmt: skip
@click.option("--processes", default=1, show_default=True, type=click.IntRange(min=1),
              help="Workers, each a process; one that crashes is started again.")  # fmt: skip
@click.option("--drain", "drains", is_flag=True, help="Exit when nothing is due any more.")
@click.option("--grace", default="20s", show_default=True, callback=duration_of, metavar="TIME",
              help="How long a stop waits for what runs, before it is handed back.")  # fmt: skip
@click.option("--lease", default="15s", show_default=True, callback=duration_of, metavar="TIME",
              help="How long a silent worker is believed alive; then others take its tasks.")  # fmt: skip
@click.option("--loop", default="auto", show_default=True, type=click.Choice(["auto", "asyncio", "uvloop"]),
              help="The event loop; auto takes uvloop where it is installed.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="Tell only of errors.")
@click.option("--with-parent", is_flag=True, hidden=True, help="Stop when standard input is closed.")
@targeted
def worker(target: Target, *, queues: Sequence[str], processes: int, with_parent: bool, **how: Any) -> None:
    """Run the app's tasks until told to stop.

    The first SIGTERM or Ctrl-C takes nothing new and waits for what runs, the second cancels that and hands it back,
    the third exits at once. Exits with 3 if tasks were handed back; they keep their place and their attempt.

    \b
    aiotaskstore worker --app myproject.tasks:store
    aiotaskstore worker -q emails:20,default --processes 4
    aiotaskstore worker --drain                      for cron jobs and tests
    """  # noqa: D301
    plan = Plan(queues=_parse_queues(queues), **how)
    _log_to_stderr(quiet=plan.quiet)
    store = target.app_store()
    if not plan.quiet and not with_parent:
        _tell_plan(target, store, plan, processes)
    if processes > 1:
        code = _run_many(target, store, plan, processes)
    else:
        code = _in_loop(plan.loop, _run_one(store, plan, with_parent=with_parent))
    if code:
        raise SystemExit(code)


# ── one process ───────────────────────────────────────────────────────────────────────────────────────────────


async def _run_one(store: TaskStore, plan: Plan, *, with_parent: bool) -> ExitCode:
    returned = 0

    def hear_return(event: TaskRetried) -> None:
        nonlocal returned
        returned += event.reason == "shutdown"

    store.on(TaskRetried, hear_return)
    gc.collect()
    gc.freeze()  # what is loaded by now stays: not to walk it again and again saves a busy worker an eighth of its time
    if with_parent:
        _end_with_parent()
    drained = await (_drain(store, plan) if plan.drains else store.run(**plan.options))
    if returned or not drained:
        _log.warning("the grace was over: handed back %s", counted(returned, "task"))
        return ExitCode.HANDED_BACK
    return ExitCode.DONE


async def _drain(store: TaskStore, plan: Plan) -> bool:
    """Run until nothing is due, or until a signal; tasks handed back are heard of by others."""
    async with store:
        dispatcher = store.dispatcher(**plan.options)
        stop = _Stop(asyncio.current_task(), dispatcher)
        with stop:
            ran = await dispatcher.run_once()
            _log.info("ran %s; nothing is due any more", counted(ran, "task"))
    return True


class _Stop:
    """Ends a draining dispatcher: the first signal waits for what runs, the second cancels it, the third exits."""

    def __init__(self, task: asyncio.Task[Any] | None, dispatcher: Dispatcher) -> None:
        assert task is not None  # noqa: S101 - we are in one
        self._task, self._dispatcher, self._signals = task, dispatcher, 0
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        for number in _SIGNALS:
            self._loop.add_signal_handler(number, self._hear)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        for number in _SIGNALS:
            self._loop.remove_signal_handler(number)
        if self._again is not None:
            self._again.cancel()
        if kind is asyncio.CancelledError and self._signals:
            self._task.uncancel()
            return True
        return False

    def _hear(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self._task.cancel()
        elif self._signals == 2:  # noqa: PLR2004 - see the docstring
            self._cancel_runs()
        else:
            os._exit(ExitCode.FAILED)

    def _cancel_runs(self) -> None:
        """Cancel them until it is over: the first signal may still be on its way into the dispatcher."""
        self._dispatcher.cancel_runs()
        self._again = self._loop.call_later(_AGAIN, self._cancel_runs)


def _end_with_parent() -> None:
    """Take the end of standard input for a SIGTERM: whoever started us is gone, perhaps killed."""
    loop, stdin = asyncio.get_running_loop(), sys.stdin.fileno()

    def read() -> None:
        if not os.read(stdin, 4096):
            loop.remove_reader(stdin)
            os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(stdin, read)


# ── several ───────────────────────────────────────────────────────────────────────────────────────────────────


def _run_many(target: Target, store: TaskStore, plan: Plan, processes: int) -> ExitCode:
    async def look(store: TaskStore) -> None:
        store.dispatcher(**plan.options)

    run_with(store, look)  # what cannot work says so here, once; and the tables are made by one process
    arguments = [*_whose(target), *plan.arguments]

    async def supervise() -> ExitCode:
        supervisor = Supervisor(arguments, processes, target.console.say, drains=plan.drains)
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, supervisor.stop)
        return await supervisor.run()

    return asyncio.run(supervise())


def _whose(target: Target) -> list[str]:
    url = [f"--url={target.given_url}"] if target.given_url else []
    return [f"--app={target.app}", *url]


# ── before ────────────────────────────────────────────────────────────────────────────────────────────────────


def _parse_queues(texts: Sequence[str]) -> list[Queue] | None:
    """Read `emails:20,default`; a name may hold a colon, so only a number after the last one counts as slots."""
    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    if texts and not names:
        raise click.UsageError("-q names no queue. Write -q emails:20,default.")
    return [_parse_queue(name) for name in names] or None


def _parse_queue(text: str) -> Queue:
    name, colon, slots = text.rpartition(":")
    return Queue(name, int(slots)) if colon and slots.isdecimal() else Queue(text)


def _written(queue: Queue) -> str:
    return f"{queue.name}:{queue.concurrency}" if queue.concurrency else queue.name


def _in_loop(name: str, work: Coroutine[Any, Any, ExitCode]) -> ExitCode:
    with asyncio.Runner(loop_factory=_loop_factory(name)) as runner:
        return runner.run(work)


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if name == "asyncio":
        return None
    try:
        import uvloop
    except ImportError as error:
        if name == "uvloop":
            raise ConfigurationError("--loop uvloop needs the package: pip install uvloop.") from error
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _log_to_stderr(*, quiet: bool) -> None:
    """Log as the app chose; where it chose nothing, to stderr."""
    level = logging.ERROR if quiet else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(process)d %(levelname)-7s %(message)s")
    logging.getLogger("aiotaskstore.task").setLevel(logging.WARNING)
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)  # a database that is away is told by us, in one line


def _tell_plan(target: Target, store: TaskStore, plan: Plan, processes: int) -> None:
    queues = ", ".join(map(_written, plan.queues)) if plan.queues else "every one that has work"
    aliases = ", ".join(one.alias for one in store.handlers)
    say = target.console.say
    say(f"worker of {target.app} on {shown(store)}" + (f" · {processes} processes" if processes > 1 else ""))
    say(f"  queues  {queues}")
    say(f"  tasks   {aliases or 'none'}")
