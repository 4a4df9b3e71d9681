"""python -m benchmarks drain|enqueue|latency|memory|backlog|keys --url …"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from benchmarks import peer
from benchmarks.scenarios import ALL, PGQUEUER, Options
from benchmarks.tables import tables

_TASKS = {"drain": 100_000, "enqueue": 50_000, "latency": 300, "memory": 200_000, "backlog": 500_000, "keys": 100_000}
_IN_FLIGHT = {"drain": 2_000, "memory": 1_000, "backlog": 2_000, "keys": 2_000}
_SQLITE_IN_FLIGHT = 1_000  # one writer claims and finishes in turn, so a second batch would only wait
_EXAMPLES = """
Each measurement is shown next to the raw limit: the same statements, in the same batches, on the bare driver. Ratios
of one run can be trusted, tasks/s cannot: they are the machine's. Everything happens in tables of its own, which are
dropped afterwards.

  python -m benchmarks drain   --url postgresql://postgres@127.0.0.1/bench --peer pgqueuer
  python -m benchmarks drain   --url sqlite:////tmp/bench.db --loop uvloop
  python -m benchmarks latency --url mysql://root@127.0.0.1/bench
"""


def main() -> None:
    options, name, as_json = _read(sys.argv[1:])
    with tables(options.url) as ours:
        try:
            report = ALL[name](options, ours)
        finally:
            if options.peer:
                asyncio.run(peer.drop(options.url, ours.prefix))
    if as_json:
        print(json.dumps(report.plain()))


def _read(arguments: list[str]) -> tuple[Options, str, bool]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="How fast aiotaskstore is, as ratios.", epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("benchmark", choices=ALL, help="what to measure")
    add("--url", required=True, help="the database; PostgreSQL and MySQL databases must exist")
    add("--tasks", type=int, help=f"how many ({_listed(_TASKS)})")
    add("--rounds", type=int, default=3, help="how often everyone runs, in turns; medians are shown (3)")
    add("--concurrency", type=int, help=f"tasks in flight in the worker ({_listed(_IN_FLIGHT)}; SQLite 1,000)")
    add("--loop", choices=["asyncio", "uvloop"], default="asyncio", help="the event loop (asyncio)")
    add("--peer", choices=[PGQUEUER], help="measure this too: drain and enqueue on PostgreSQL")
    add("--callers", type=int, default=50, help="enqueue: how many wait for their inserts at once (50)")
    add("--gap", type=float, default=0.1, help="latency: seconds between two tasks (0.1)")
    add("--json", action="store_true", help="print every round's measurements as one line of JSON at the end")
    given = parser.parse_args(arguments)
    name, as_json = given.benchmark, given.json
    del given.benchmark, given.json
    given.tasks = given.tasks or _TASKS[name]
    usual = _SQLITE_IN_FLIGHT if given.url.startswith("sqlite") else _IN_FLIGHT.get(name, 0)
    given.concurrency = given.concurrency or usual
    if given.peer and not (name in {"drain", "enqueue"} and given.url.startswith("postgres")):
        parser.error("--peer is for drain and enqueue on PostgreSQL")
    if given.peer and not peer.installed():
        parser.error(peer.ADVICE)
    return Options(**vars(given)), name, as_json


def _listed(defaults: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in defaults.items())


if __name__ == "__main__":
    main()
