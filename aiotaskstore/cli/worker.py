"""`worker`: runs the app's tasks, in one process or several."""

from __future__ import annotations

import asyncio
import difflib
import gc
import logging
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import click

from aiotaskstore import ConfigurationError, Queue, TaskRetried, TaskStore
from aiotaskstore.cli.command import Command
from aiotaskstore.cli.exit_code import ExitCode
from aiotaskstore.cli.formatting import counted
from aiotaskstore.cli.metrics_server import MetricsServer
from aiotaskstore.cli.opening import open_in_time
from aiotaskstore.cli.option import duration_of
from aiotaskstore.cli.reloader import GRACE, Reloader
from aiotaskstore.cli.stderr_log import LEVELS, LOG_FORMATS, StderrLog
from aiotaskstore.cli.supervisor import Supervisor
from aiotaskstore.cli.target import Target, check_pool, shown, targeted
from aiotaskstore.cli.watched_worker import WatchedWorker
from aiotaskstore.cli.watched_workers import WatchedWorkers
from aiotaskstore.mechanics.signals import escalating_signals
from aiotaskstore.queue import DEFAULT_QUEUE

_HEARTBEATS = 3
"""How many fit into a lease."""
_LAST_CHANCE = 1.0
"""Seconds that runs which outlast their dispatcher have to end before the process does."""

_log = logging.getLogger("aiotaskstore.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The options of a worker; durations in seconds."""

    queues: list[Queue] | None
    concurrency: int
    grace: float
    lease: float
    drains: bool
    loop: str
    verbosity: str
    """Which log records it shows: one of `LEVELS`."""
    log_format: str = "text"
    """How it writes them: one of `LOG_FORMATS`."""
    wait_limit: float = 0
    """How long it waits at its start for a database that is away."""

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
        flags = ["--drain"] * self.drains
        return [
            *queues, *flags, f"--verbosity={self.verbosity}", f"--wait-for-database={self.wait_limit}",
            f"--concurrency={self.concurrency}", f"--grace={self.grace}", f"--lease={self.lease}",
            f"--loop={self.loop}", f"--log-format={self.log_format}",
        ]  # fmt: skip


class MetricsPlace(NamedTuple):
    """Where metrics and health are served, if anywhere: on a port, or for a supervisor on a Unix socket."""

    host: str
    port: int | None
    socket: Path | None

    @property
    def wanted(self) -> bool:
        """Whether they are served."""
        return self.port is not None or self.socket is not None

    @property
    def arguments(self) -> list[str]:
        """The port as options of the command, for a process that serves in our place."""
        return [] if self.port is None else [f"--metrics-port={self.port}", f"--metrics-host={self.host}"]


@click.command(cls=Command)
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
              help="How long a worker without heartbeats counts as alive; then others take its tasks.")  # fmt: skip
@click.option("--loop", default="auto", show_default=True, type=click.Choice(["auto", "asyncio", "uvloop"]),
              help="The event loop; auto takes uvloop where it is installed.")  # fmt: skip
@click.option("--wait-for-database", "wait_limit", default="0", callback=duration_of, metavar="TIME",
              help="Wait so long at the start for a database that is away. Else it exits with 75 at once.")  # fmt: skip
@click.option("-v", "--verbose", is_flag=True, help="Log also at DEBUG, and what handlers report to their context.")
@click.option("--quiet", is_flag=True, help="Log only warnings and errors, not each start and end of a task.")
@click.option("--log-format", default="text", show_default=True, type=click.Choice(LOG_FORMATS),
              help="Write the log for people, or one JSON object a line.")  # fmt: skip
@click.option("--reload", "reloads", is_flag=True,
              help="For development: start again whenever a Python file in this folder changes.")  # fmt: skip
@click.option("--metrics-port", type=click.IntRange(0, 65_535), metavar="PORT",
              help="Serve /metrics and /health there, for all processes together; 0 takes any free port.")  # fmt: skip
@click.option("--metrics-host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
              help="The address of that port; in a container 0.0.0.0, so that others can reach it.")  # fmt: skip
@click.option("--metrics-socket", type=click.Path(path_type=Path), hidden=True, help="The same for a worker's worker.")
@click.option("--verbosity", type=click.Choice([*LEVELS]), hidden=True, help="For workers that a worker starts.")
@click.option("--with-parent", is_flag=True, hidden=True, help="Stop when standard input is closed.")
@targeted
def worker(
    target: Target, *, queues: Sequence[str], processes: int, with_parent: bool, reloads: bool, verbose: bool,
    quiet: bool, **how: Any,
) -> None:  # fmt: skip
    """Run the app's tasks until stopped.

    The first SIGTERM or Ctrl-C takes nothing new and waits for what runs, the second cancels that and hands it back,
    the third exits at once. Exits with 3 if tasks were handed back; they keep their place and their attempt.

    The log on stderr has each start and end of a task, and the traceback of each attempt that fails. An app that has
    configured logging itself keeps its handlers; -v and --quiet then only choose the level, and --log-format json is
    refused.

    \b
    aiotaskstore worker --app myproject.tasks:store
    aiotaskstore worker -q emails:20,default --processes 4
    aiotaskstore worker --drain                      for cron jobs and tests
    aiotaskstore worker --wait-for-database 30       where both are started together
    aiotaskstore worker --reload                     while you write its tasks
    aiotaskstore worker --metrics-port 9100          Prometheus, and probes of Kubernetes
    """  # noqa: D301
    if verbose and quiet:
        raise click.UsageError("-v and --quiet are opposites: give one of them.")
    how["verbosity"] = how["verbosity"] or ("debug" if verbose else "warnings" if quiet else "runs")
    place = MetricsPlace(how.pop("metrics_host"), how.pop("metrics_port"), how.pop("metrics_socket"))
    plan = Plan(queues=_parse_queues(queues), **how)
    if reloads:
        if processes > 1 or plan.drains:
            raise click.UsageError("--reload keeps one worker running: leave out --processes and --drain.")
        StderrLog(plan.verbosity, plan.log_format).begin(target.console)
        _run_reloading(target, plan, place)
        return
    store = target.app_store()
    check_pool(store)
    store.dispatcher(**plan.options)  # what is wrong with the options is said before anything opens
    log = StderrLog(plan.verbosity, plan.log_format)
    log.begin(target.console)
    if plan.verbosity in {"runs", "debug"} and not with_parent:
        _say_plan(target, store, plan, processes)
    with log.ending(), ExitStack() as stack:
        if processes > 1:
            workers = stack.enter_context(WatchedWorkers(processes)) if place.port is not None else None
            _serve(stack, target, place, workers)
            code = _run_many(target, store, plan, processes, workers)
        else:
            _serve(stack, target, place, WatchedWorker(store) if place.wanted else None)
            code = _in_loop(plan.loop, _run_one(target, store, plan, with_parent=with_parent))
    if code:
        raise SystemExit(code)


def _serve(
    stack: ExitStack, target: Target, place: MetricsPlace, watched: WatchedWorker | WatchedWorkers | None
) -> None:
    """Serve metrics and health until the stack is left, if somebody wants that."""
    if watched is None:
        return
    if place.port is None:
        assert place.socket is not None  # noqa: S101 - else nothing were watched
        stack.enter_context(MetricsServer.on_socket(place.socket, watched))
        return
    server = stack.enter_context(MetricsServer.on_port(place.host, place.port, watched))
    target.console.say(f"  metrics {server.address}/metrics · health {server.address}/health")
    if watched.missing:
        _log.warning("there is health and no metrics: %s", watched.missing)


# ── one process ───────────────────────────────────────────────────────────────────────────────────────────────


async def _run_one(target: Target, store: TaskStore, plan: Plan, *, with_parent: bool) -> ExitCode:
    returned = 0

    def count_return(event: TaskRetried) -> None:
        nonlocal returned
        returned += event.reason == "shutdown"

    store.on(TaskRetried, count_return)
    gc.collect()
    gc.freeze()  # what is loaded by now stays: not to walk it again and again saves a busy worker an eighth of its time
    if with_parent:
        _end_with_parent()
    if not await open_in_time(store, plan.wait_limit, target.console.say):
        return ExitCode.DONE
    async with store:
        drained = await (_drain(store, plan) if plan.drains else store.run(**plan.options))
    if returned or not drained:
        _log.warning("the grace was over: handed back %s", counted(returned, "task"))
        await _exit_without_hanging_runs(ExitCode.HANDED_BACK)
        return ExitCode.HANDED_BACK
    return ExitCode.DONE


async def _exit_without_hanging_runs(code: ExitCode) -> None:
    """Exit at once if runs ignore their cancellation, or hang in threads: asyncio and Python would wait for them."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if not left:
        return
    for task in left:
        task.cancel()
    _, hanging = await asyncio.wait(left, timeout=_LAST_CHANCE)
    threads = [one for one in threading.enumerate() if not one.daemon and one is not threading.main_thread()]
    if hanging or threads:
        _log.warning(
            "what still runs does not end (%s, %s): the process exits all the same, and others take those tasks when "
            "the lease is over",
            counted(len(hanging), "asyncio task"),
            counted(len(threads), "thread"),
        )
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


async def _drain(store: TaskStore, plan: Plan) -> bool:
    """Run until nothing is due, or until a signal; true if nothing was cancelled for it."""
    async with store:
        dispatcher = store.dispatcher(**plan.options)

        def cancel() -> None:
            dispatcher.begin_stop()
            dispatcher.cancel_runs()

        with escalating_signals(dispatcher.begin_stop, cancel) as received:
            ran = await dispatcher.run_once()
        if not received:
            _log.info("ran %s; nothing is due any more", counted(ran, "task"))
    return dispatcher.drained


def _end_with_parent() -> None:
    """Treat the end of standard input as a SIGTERM: the process that started this one has ended."""
    loop, stdin = asyncio.get_running_loop(), sys.stdin.fileno()

    def read() -> None:
        if not os.read(stdin, 4096):
            loop.remove_reader(stdin)
            os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(stdin, read)


# ── several ───────────────────────────────────────────────────────────────────────────────────────────────────


def _run_many(target: Target, store: TaskStore, plan: Plan, processes: int, watched: WatchedWorkers | None) -> ExitCode:
    async def look() -> bool:
        """Open once here, so that errors are reported once and one process creates the tables."""
        opened = await open_in_time(store, plan.wait_limit, target.console.say)
        await store.close()
        return opened

    if not asyncio.run(look()):
        return ExitCode.DONE
    arguments = [*_whose(target), *plan.arguments]

    async def supervise() -> ExitCode:
        supervisor = Supervisor(arguments, processes, target.console.say, drains=plan.drains, watched=watched)

        def kill() -> None:
            supervisor.stop()
            if watched is not None:
                watched.close()  # the process exits at once, and nothing else would

        with escalating_signals(supervisor.stop, supervisor.stop, kill):
            return await supervisor.run()

    return asyncio.run(supervise())


def _run_reloading(target: Target, plan: Plan, place: MetricsPlace) -> None:
    """Run a worker that starts again after each change. We never import the app, which may not even parse."""
    target.check_app_named()
    plan = replace(plan, grace=min(plan.grace, GRACE))
    arguments = [*_whose(target), *plan.arguments, *place.arguments]

    async def reload() -> ExitCode:
        reloader = Reloader(arguments, plan.grace, target.console.say)
        with escalating_signals(reloader.stop, reloader.cancel, reloader.kill):
            return await reloader.run()

    asyncio.run(reload())


def _whose(target: Target) -> list[str]:
    url = [f"--url={target.given_url}"] if target.given_url else []
    return [f"--app={target.app}", *url]


# ── before ────────────────────────────────────────────────────────────────────────────────────────────────────


def _parse_queues(texts: Sequence[str]) -> list[Queue] | None:
    """Read `emails:20,default`."""
    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    if texts and not names:
        raise click.UsageError("-q names no queue. Write -q emails:20,default.")
    queues = [_parse_queue(name) for name in names]
    for name, count in Counter(queue.name for queue in queues).items():
        if count > 1:
            raise click.UsageError(f"-q names the queue {name} twice. Name each once, with its slots.")
    return queues or None


def _parse_queue(text: str) -> Queue:
    """Read a name, or a name and its slots after the last colon."""
    name, colon, slots = text.rpartition(":")
    if not colon:
        return Queue(text)
    if not name:
        raise click.UsageError(f"-q {text} names no queue. Write -q emails:20,default.")
    if not (slots.isdecimal() and int(slots) > 0):
        raise click.UsageError(
            f'-q {text} must end with the slots of the queue, a whole number of at least 1, and "{slots}" is none. '
            f"Write -q {name}:20; a name that holds a colon needs its slots too."
        )
    return Queue(name, int(slots))


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


def _say_plan(target: Target, store: TaskStore, plan: Plan, processes: int) -> None:
    queues = ", ".join(map(_written, plan.queues)) if plan.queues else "every one that has work"
    aliases = ", ".join(one.alias for one in store.handlers)
    say = target.console.say
    say(f"worker of {target.app} on {shown(store)}" + (f" · {processes} processes" if processes > 1 else ""))
    say(f"  queues  {queues}")
    say(f"  tasks   {aliases or 'none'}")
    for queue in plan.queues or ():
        note = _note_of(queue.name, {one.defaults.queue or DEFAULT_QUEUE for one in store.handlers})
        if note:
            say(f"  note    {note}")


def _note_of(queue: str, known: Collection[str]) -> str:
    """Return a sentence for a queue that no task has; empty for one that a task has."""
    if queue in known:
        return ""
    name, equals, slots = queue.partition("=")
    near = [name] if name in known else difflib.get_close_matches(name, sorted(known), n=1)
    meant = f"{near[0] if near else name}:{slots}" if equals and slots.isdecimal() else ""
    hint = f'; write "{meant}"' if meant else f'; did you mean "{near[0]}"?' if near else ""
    return f'no task of this app has the queue "{queue}"{hint}'
