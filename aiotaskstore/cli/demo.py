"""`demo`: real work, done durably, to be killed and started again."""

from __future__ import annotations

import asyncio
import logging
import os
import sysconfig
from pathlib import Path
from typing import Any

import click

from aiotaskstore import (
    TaskStore,
)
from aiotaskstore.cli import demo_tasks
from aiotaskstore.cli.command import Command
from aiotaskstore.cli.console import Console
from aiotaskstore.cli.demo_run import DemoRun, FileSet
from aiotaskstore.cli.demo_session import Session, Workers, how_far
from aiotaskstore.cli.demo_tasks import Report
from aiotaskstore.cli.exit_code import ExitCode, Failure
from aiotaskstore.cli.formatting import counted, number, size
from aiotaskstore.cli.target import URL, Target, on_a_database, shown, sqlite_file
from aiotaskstore.mechanics.duration import written

_DEFAULT_URL = "sqlite:///aiotaskstore-demo.db"
_SHORT = 12


@click.command(cls=Command, short_help="Watch real work being done durably, in this folder.")
@click.argument("directory", required=False, type=click.Path(exists=True, file_okay=False))
@click.option("--processes", default=1, show_default=True, type=click.IntRange(min=1),
              help="This one, and further workers.")  # fmt: skip
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
    os.environ[URL] = url  # what further workers read
    os.environ[demo_tasks.SLOW] = str(slow / 1000)
    file_set = _file_set(directory, url)
    code = asyncio.run(_play(target.console, file_set, Workers(processes, concurrency), fresh=fresh))
    if code:
        raise SystemExit(code)


def _file_set(directory: str | None, url: str) -> FileSet:
    file = sqlite_file(TaskStore(url))
    ours = str(file.resolve()) if file is not None else ""
    if directory is not None:
        return FileSet(directory=str(Path(directory).resolve()), pattern="*", leave_out=ours)
    return FileSet(directory=str(Path(sysconfig.get_path("stdlib")).resolve()), pattern="*.py", leave_out=ours)


async def _play(console: Console, file_set: FileSet, workers: Workers, *, fresh: bool) -> ExitCode:
    for name in ("aiotaskstore", "asyncpg"):  # the demo prints messages of its own
        logging.getLogger(name).setLevel(logging.CRITICAL)
    store = demo_tasks.store()
    async with store:
        run = await DemoRun.find_or_begin(store, file_set, fresh=fresh)
        session = Session(console, store, run, workers)
        await session.say_start(file_set, shown(store))
        view = await session.play()
    if view.failure:
        raise Failure(view.failure)
    if view.report is None:
        console.say(f"Stopped at {how_far(view)}, all stored. The same command goes on from there.")
        return ExitCode.FAILED
    return _close(console, session, view.report, file_set)


def _close(console: Console, session: Session, report: Report, file_set: FileSet) -> ExitCode:
    complete = report["counted"] == report["files"] and not report["twice"]
    if console.prints_json:
        console.json(_as_object(session, report, file_set))
    else:
        _print_report(console, session, report, file_set)
        _say_next(console, session.url, file_set)
    return ExitCode.DONE if complete else ExitCode.FAILED


def _print_report(console: Console, session: Session, report: Report, file_set: FileSet) -> None:
    files, timing = report["files"], session.timing
    console.print(_verdict(report))
    for one in report["failed"]:
        console.print(f"  {one}")
    if not files:
        return
    before = f"; {number(timing.before)} were done before" if timing.before else ""
    facts = [
        ("size", size(report["bytes"])),
        ("lines", number(report["lines"])),
        ("words", number(report["words"])),
        ("contents", f"{number(report['contents'])} different; SHA-256 of all {report['fingerprint'][:_SHORT]}"),
        ("this start", f"{counted(timing.files, 'file')} in {written(timing.seconds)}{before}"),
        ("waited", f"{written(timing.waited)} for {timing.waited_for}" if timing.waited else ""),
        ("throughput", f"{number(timing.rate)} files/s with {session.workers}"),
    ]
    console.print()
    for name, value in ((name, value) for name, value in facts if value):
        console.print_fact(f"  {name}", value, 13)
    console.print()
    rows = [
        [str(Path(one["path"]).relative_to(file_set.directory)), size(one["bytes"]), written(one["seconds"])]
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


def _as_object(session: Session, report: Report, file_set: FileSet) -> dict[str, Any]:
    timing = session.timing
    return {
        "directory": file_set.directory,
        "url": session.url,
        "run": session.run.owner[1],
        "resumed": session.run.resumed,
        "report": report,
        "this_start": {
            "files": timing.files, "before": timing.before, "seconds": round(timing.seconds, 3),
            "waited": round(timing.waited, 3), "files_per_second": round(timing.rate, 1),
            "processes": session.workers.processes, "concurrency": session.workers.concurrency,
        },
    }  # fmt: skip


def _say_next(console: Console, url: str, file_set: FileSet) -> None:
    where = "" if url == _DEFAULT_URL else f" --url {url}"
    what = "" if file_set.pattern != "*" else f" {file_set.directory}"
    console.say()
    console.say(f"Look at the tasks:  aiotaskstore ls --url {url}")
    console.say(f"Kill it half-way:   aiotaskstore demo{what}{where} --slow 20    and start it again")
