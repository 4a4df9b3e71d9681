"""The benchmarks: who takes part, what is compared, which ratios are aimed at."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from aiotaskstore import TaskStatus
from benchmarks import peer
from benchmarks.apart import Child, apart
from benchmarks.meter import Measurements
from benchmarks.report import OURS, RAW, Report, percentile
from benchmarks.tables import Tables

MOST = 1_000
"""Rows in one statement of the library; the raw limit takes as many, or as many as there are slots."""
PGQUEUER = "pgqueuer"
EACH_COMMITS = "a commit per task"
NO_GROUP = "an insert per caller"
_FLAT = 1.1
"""Growth of memory, from a fifth of the way to the end, that still counts as flat."""
_AGAIN = 3
"""A small backlog is gone in no time, so a round drains it so often."""
_LESS = 20
"""A commit per task is so slow that it gets so many times fewer tasks."""

Column = Callable[[str], str]


@dataclass(frozen=True)
class Options:
    """What the command line said."""

    url: str
    tasks: int
    rounds: int = 3
    concurrency: int = 2 * MOST
    loop: str = "asyncio"
    peer: str | None = None
    callers: int = 50
    gap: float = 0.1

    @property
    def small(self) -> int:
        """The small backlog, which the large one is compared with."""
        return max(1, self.tasks // 50)

    @property
    def batch(self) -> int:
        """The batch of the raw limit."""
        return min(MOST, self.concurrency)


def drain(options: Options, tables: Tables) -> Report:
    """From N pending tasks to N in the history, one worker process."""
    report = Report(f"drain · {_where(options, tables)} · {options.tasks:,} tasks, {options.concurrency:,} in flight")
    contenders = {
        RAW: partial(_drained, options, tables, "bare:drain", batch=options.batch),
        OURS: partial(_drained, options, tables, "product:drain", concurrency=options.concurrency),
    }
    if tables.dialect == "sqlite":
        few = max(1, options.tasks // _LESS)
        contenders[EACH_COMMITS] = partial(_drained, options, tables, "bare:one_by_one", tasks=few)
    if options.peer:
        contenders[PGQUEUER] = partial(_peer_drained, options, tables)
    _alternate(options, report, contenders)

    floor = {"postgresql": 0.40, "mysql": 0.35}.get(tables.dialect)
    if floor:
        report.at_least("drain ÷ raw limit", report.ratio(OURS, RAW).median, floor)
    else:
        report.at_least("drain ÷ a commit per task", report.ratio(OURS, EACH_COMMITS).median, 15)
    if options.peer:
        report.at_least("drain ÷ pgqueuer", report.ratio(OURS, PGQUEUER).median, 2)
    report.at_most("worker CPU, µs a task", report.median(OURS, lambda one: one.cpu_each), 30)
    report.show(_speed(report))
    return report


def enqueue(options: Options, tables: Tables) -> Report:
    """From `await task.enqueue(…)` to a committed row: 50 callers, one caller, and in bulk."""
    report = Report(f"enqueue · {_where(options, tables)} · {options.tasks:,} tasks")
    many = f"{options.callers} callers"
    pooled = partial(_enqueued, options, tables, "bare:insert_each", pool=10)
    ours = partial(_enqueued, options, tables, "product:enqueue")
    raw = partial(_enqueued, options, tables, "bare:insert")
    few = max(1, options.tasks // _LESS)
    contenders = {
        f"{RAW}, {many}": partial(raw, batch=options.callers),
        f"{OURS}, {many}": partial(ours, callers=options.callers),
        f"{NO_GROUP}, {many}": partial(pooled, callers=options.callers, tasks=few),
        f"{RAW}, 1 caller": partial(raw, batch=1, tasks=few),
        f"{OURS}, 1 caller": partial(ours, callers=1, tasks=few),
        f"{RAW}, in bulk": partial(raw, batch=MOST),
        f"{OURS}, in bulk": partial(ours, callers=0),
    }
    if options.peer:
        for name, callers, tasks in ((many, options.callers, few), ("1 caller", 1, few), ("in bulk", 0, options.tasks)):
            contenders[f"{PGQUEUER}, {name}"] = partial(_peer_enqueued, options, tables, callers=callers, tasks=tasks)
    _alternate(options, report, contenders)

    grouped = report.ratio(f"{OURS}, {many}", f"{NO_GROUP}, {many}")
    report.at_least(f"enqueue, {many} ÷ the same without group commit", grouped.median, 5)
    report.show(_speed(report))
    return report


def latency(options: Options, tables: Tables) -> Report:
    """From `enqueue` in one process to the handler's first line in another one; nothing else goes on."""
    report = Report(f"latency · {_where(options, tables)} · {options.tasks:,} tasks, one each {options.gap:g} s")
    contenders = {
        RAW: partial(_answered_bare, options, tables),
        OURS: partial(_answered, options, tables),
    }
    _alternate(options, report, contenders)

    def at(percent: float) -> Column:
        return lambda name: f"{report.median(name, lambda one: percentile(one.samples, percent)):.2f}"

    def ratio(name: str) -> str:
        return str(report.ratio(name, RAW, lambda one: percentile(one.samples, 50)))

    if tables.dialect == "postgresql":
        report.at_most("start latency p50, ms", report.median(OURS, lambda one: percentile(one.samples, 50)), 5)
    report.show({"p50 ms": at(50), "p95 ms": at(95), "p99 ms": at(99), "p50 ÷ raw": ratio, **_cost(report)})
    return report


def memory(options: Options, tables: Tables) -> Report:
    """What a worker holds, with as many tasks in flight as it may have, over a long time."""
    every = max(1, options.tasks // 10)
    report = Report(f"memory · {_where(options, tables)} · {options.tasks:,} tasks, {options.concurrency:,} in flight")
    held = partial(_drained, options, tables, sample_every=every)
    contenders = {
        RAW: partial(held, "bare:drain", batch=options.batch),
        OURS: partial(held, "product:drain", concurrency=options.concurrency, hold=0.02),
    }
    _alternate(options, report, contenders)

    report.at_most("peak memory of the worker, MB", report.median(OURS, lambda one: one.peak), 100)
    growth = report.median(OURS, lambda one: one.samples[-1] / one.samples[len(one.samples) // 5])
    report.at_most("memory at the end ÷ at a fifth of the way", growth, _FLAT)
    columns = {"tasks/s": _speed(report)["tasks/s"], **_cost(report)}
    report.show(columns | {"peak ÷ raw": lambda name: str(report.ratio(name, RAW, lambda one: one.peak))})
    for name, rounds in report.rounds.items():
        print(f"\n  {name}, MB held each {every:,} tasks: {' '.join(f'{one:.0f}' for one in rounds[-1].samples)}")
    return report


def backlog(options: Options, tables: Tables) -> Report:
    """How a long queue slows the worker down."""
    report = Report(f"backlog · {_where(options, tables)} · {options.small:,} and {options.tasks:,} pending")
    contenders = {}
    for pending, times in ((options.small, _AGAIN), (options.tasks, 1)):
        drained = partial(_drained_again, times, options, tables, tasks=pending)
        contenders[f"{RAW}, {pending:,}"] = partial(drained, "bare:drain", batch=options.batch)
        contenders[f"{OURS}, {pending:,}"] = partial(drained, "product:drain", concurrency=options.concurrency)
    _alternate(options, report, contenders)

    small, large = f"{OURS}, {options.small:,}", f"{OURS}, {options.tasks:,}"
    ratio = report.ratio(large, small, lambda one: one.steady_rate)
    report.at_least(f"drain with {options.tasks:,} pending ÷ with {options.small:,}", ratio.median, 0.85)
    report.show(_speed(report, lambda one: one.steady_rate))
    return report


def keys(options: Options, tables: Tables) -> Report:
    """How serialization keys slow the worker down: without any, with many, and beside one that many tasks wait for."""
    count, waiting = max(1, options.tasks // 100), options.tasks // 2
    report = Report(f"keys · {_where(options, tables)} · {options.tasks:,} tasks, {options.concurrency:,} in flight")
    many, beside = f"{OURS}, {count:,} keys", f"{OURS}, {count:,} keys, beside {waiting:,} that wait for another"
    drained = partial(_drained, options, tables, "product:drain", concurrency=options.concurrency)
    contenders = {
        RAW: partial(_drained, options, tables, "bare:drain", batch=options.batch),
        OURS: drained,
        many: partial(drained, keys=count),
        beside: partial(drained, keys=count, waiting=waiting),
    }
    _alternate(options, report, contenders)

    report.at_least(f"drain of {count:,} keys ÷ without keys", report.ratio(many, OURS).median, 0.5)
    report.at_least(f"drain beside {waiting:,} that wait ÷ without those", report.ratio(beside, many).median, 0.9)
    rate = {"tasks/s": _speed(report)["tasks/s"], "÷ without keys": lambda name: str(report.ratio(name, OURS))}
    report.show(rate | {"÷ raw": lambda name: str(report.ratio(name, RAW)), **_cost(report)})
    return report


ALL = {"drain": drain, "enqueue": enqueue, "latency": latency, "memory": memory, "backlog": backlog, "keys": keys}


# ── rounds ────────────────────────────────────────────────────────────────────────────────────────────────


def _alternate(options: Options, report: Report, contenders: Mapping[str, Callable[[], Measurements]]) -> None:
    """Let everyone run once, then once more …, so that a slow minute of the machine hits all of them."""
    for number in range(1, options.rounds + 1):
        for name, measure in contenders.items():
            print(f"round {number} of {options.rounds} · {name} …", file=sys.stderr, flush=True)
            measurements = measure()
            report.add(name, measurements)
            if not measurements.samples:
                print(f"      {measurements.rate:,.0f} tasks/s", file=sys.stderr)


def _drained(
    options: Options, tables: Tables, target: str, *, tasks: int = 0, keys: int = 0, waiting: int = 0, **given: float
) -> Measurements:
    tasks = tasks or options.tasks
    tables.fill(tasks, keys=keys, waiting=waiting)
    measurements = _apart(options, tables, target, tasks=tasks, **given)
    tables.verify(tasks, TaskStatus.SUCCEEDED)
    return measurements


def _drained_again(times: int, options: Options, tables: Tables, target: str, **given: int) -> Measurements:
    return sum((_drained(options, tables, target, **given) for _ in range(times)), Measurements())


def _enqueued(options: Options, tables: Tables, target: str, *, tasks: int = 0, **given: float) -> Measurements:
    tables.fill(0)
    return _apart(options, tables, target, tasks=tasks or options.tasks, **given)


def _answered(options: Options, tables: Tables) -> Measurements:
    tables.fill(0)
    child = partial(Child, url=tables.url, prefix=tables.prefix, tasks=options.tasks, loop=options.loop)
    worker = child("product:answer")
    worker.ready()
    child("product:ask", gap=options.gap).measurements()
    return worker.measurements()


def _answered_bare(options: Options, tables: Tables) -> Measurements:
    tables.fill(0)
    return _apart(options, tables, "bare:answer", tasks=options.tasks, gap=min(options.gap, 0.02))


def _peer_drained(options: Options, tables: Tables) -> Measurements:
    asyncio.run(peer.fill(tables.url, tables.prefix, options.tasks))
    measurements = apart("peer:drain", url=tables.url, prefix=tables.prefix, tasks=options.tasks, loop=peer.loop())
    asyncio.run(peer.verify_empty(tables.url, tables.prefix))
    return measurements


def _peer_enqueued(_options: Options, tables: Tables, callers: int, tasks: int) -> Measurements:
    asyncio.run(peer.fill(tables.url, tables.prefix, 0))
    return apart("peer:enqueue", url=tables.url, prefix=tables.prefix, tasks=tasks, callers=callers, loop=peer.loop())


def _apart(options: Options, tables: Tables, target: str, **given: float) -> Measurements:
    return apart(target, url=tables.url, prefix=tables.prefix, loop=options.loop, **given)


# ── columns ───────────────────────────────────────────────────────────────────────────────────────────────


def _speed(report: Report, read: Callable[[Measurements], float] = lambda one: one.rate) -> dict[str, Column]:
    """Show tasks a second, and the ratio to the raw limit of the same kind."""

    def ratio(name: str) -> str:
        raw = ", ".join([RAW, *name.split(", ", 1)[1:]])
        return str(report.ratio(name, raw, read))

    return {"tasks/s": lambda name: f"{report.median(name, read):,.0f}", "÷ raw": ratio, **_cost(report)}


def _cost(report: Report) -> dict[str, Column]:
    return {
        "CPU µs/task": lambda name: f"{report.median(name, lambda one: one.cpu_each):,.1f}",
        "peak MB": lambda name: f"{report.median(name, lambda one: one.peak):.0f}",
    }


def _where(options: Options, tables: Tables) -> str:
    return f"{tables.version} · {options.loop} · median of {options.rounds} rounds"
