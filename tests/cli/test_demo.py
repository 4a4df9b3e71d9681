"""`demo`: killed in every way and started again, it counts each file exactly once."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from aiotaskstore import TaskStore, TaskStoreError
from aiotaskstore.cli import demo_tasks
from aiotaskstore.cli.demo_run import DemoRun, FileSet
from tests.cli.command import ROOT, Answer, Command, Commands, needs_terminal, screen_of
from tests.helpers import eventually

FILES = 60
FOR_EVER = 3_600_000
"""Milliseconds that a demo adds to each file and does not live to see the end of."""
GATE = """
import time
from pathlib import Path

from aiotaskstore.cli import demo_tasks

read_file = demo_tasks.read_file


def gated(path):
    while not Path("go").exists():
        time.sleep(0.01)
    return read_file(path)


demo_tasks.read_file = gated
"""
"""What a demo runs at its start that shall read no file before somebody writes `go` into its folder."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Files of all sorts; what is in `skipped` is not for counting."""
    found = tmp_path / "files"
    for number in range(FILES - 3):
        file = found / f"folder {number % 7}" / f"файл-{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("word " * number + "\n")
    (found / "A.txt").write_bytes(b"\x00\xff")
    (found / "a.txt").write_bytes(b"")
    (found / ("long-" * 40)).write_bytes(b"x" * 3_000_000)
    (found / "__pycache__").mkdir()
    (found / "__pycache__" / "skipped.pyc").write_bytes(b"no")
    (found / "skipped-link").symlink_to(found / "A.txt")
    return found


def fingerprint_of(directory: Path) -> str:
    """Reckon it without the demo."""
    files = [one for one in directory.rglob("*") if one.is_file() and "skipped" not in str(one)]
    lines = sorted(f"{one}\n{hashlib.sha256(one.read_bytes()).hexdigest()}" for one in files)
    pairs = (line.split("\n") for line in lines)
    return hashlib.sha256("".join(f"{sha256}  {path}\n" for path, sha256 in pairs).encode()).hexdigest()


async def counted(url: str, **status: Any) -> int:
    try:
        async with TaskStore(url, migrate=False) as store:
            return await store.tasks.count(alias="demo_file", **status)
    except TaskStoreError:
        return 0  # there are no tables yet


async def count_some(url: str, directory: Path, files: int) -> None:
    """Begin a run as a demo does, and count some of its files."""
    store = TaskStore(url)
    store.include(demo_tasks.scan)
    store.include(demo_tasks.count_file)
    async with store:
        await DemoRun.find_or_begin(store, FileSet(directory=str(directory), pattern="*", leave_out=""), fresh=False)
        await store.dispatcher().run_once(limit=1 + files)
    assert await counted(url, status="succeeded") == files


async def ten_are_being_counted(url: str, demo: Command) -> None:
    """Wait until a demo counts ten files."""

    async def look() -> bool:
        assert demo.process.poll() is None, demo.err
        return await counted(url, status="running") == 10

    await eventually(look)


async def two_count(url: str) -> None:
    """Wait until two processes count files."""

    async def look() -> bool:
        async with TaskStore(url) as store:
            running = await store.tasks.list(alias="demo_file", status="running")
        return len({one.dispatcher_id for one in running}) == 2

    await eventually(look)


def gated(cli: Commands) -> dict[str, str]:
    """Give the environment of demos that read no file before `open_gate`."""
    (cli.folder / "gate").mkdir()
    (cli.folder / "gate" / "sitecustomize.py").write_text(GATE)
    return {"PYTHONPATH": f"{cli.folder / 'gate'}{os.pathsep}{ROOT}"}


def open_gate(cli: Commands) -> None:
    (cli.folder / "go").touch()


async def check_rows(url: str, files: int, answer: Answer, directory: Path) -> None:
    """Hold the report against the rows and against the files themselves."""
    assert answer.code == 0, answer
    report = answer.json["report"]
    assert (report["files"], report["counted"], report["twice"], report["failed"]) == (files, files, 0, [])
    assert report["fingerprint"] == fingerprint_of(directory)
    async with TaskStore(url) as store:
        owner = ("demo", answer.json["run"])
        rows = await store.tasks.list(alias="demo_file", owner=owner)
        assert Counter(row.status.value for row in rows) == {"succeeded": files}
        assert len({row.payload["path"] for row in rows}) == files
        assert await store.tasks.count(alias="demo_report", owner=owner) == 1
        assert await store.tasks.count(status=["pending", "scheduled", "running"]) == 0


async def test_killed_half_way_it_goes_on_where_it_was(cli: Commands, url: str, directory: Path):
    before = 10
    await count_some(url, directory, before)
    demo = cli.start("demo", directory, "--url", url, "--slow", FOR_EVER)
    await ten_are_being_counted(url, demo)
    demo.kill()

    answer = await cli.run("demo", directory, "--url", url, "--json")
    await check_rows(url, FILES, answer, directory)
    assert answer.json["resumed"]
    assert answer.json["this_start"]["before"] == before
    assert answer.json["this_start"]["files"] == FILES - before
    assert f"An earlier run stopped at {before} of {FILES} files. Going on from there." in answer.err
    assert "10 tasks are held by another demo; if it was killed, its lease ends in 4 s." in answer.err
    assert "Its lease is over: 10 tasks of the killed demo run again." in answer.err


async def test_ctrl_c_stops_it_in_good_order(cli: Commands, sqlite_url: str, directory: Path):
    before = 10
    await count_some(sqlite_url, directory, before)
    demo = cli.start("demo", directory, "--url", sqlite_url, "--slow", FOR_EVER)
    await ten_are_being_counted(sqlite_url, demo)
    demo.signal(signal.SIGINT)
    stopped = await demo.ends()
    assert (stopped.code, stopped.out) == (1, "")
    assert f"Stopped at {before} of {FILES} files, all stored. The same command goes on from there." in stopped.err
    assert await counted(sqlite_url, status="running") == 0

    answer = await cli.run("demo", directory, "--url", sqlite_url, "--json")
    await check_rows(sqlite_url, FILES, answer, directory)
    assert (answer.json["this_start"]["before"], answer.json["this_start"]["waited"]) == (before, 0)
    assert "lease" not in answer.err


async def test_killed_while_it_enqueues_it_finds_every_file(cli: Commands, sqlite_url: str, tmp_path: Path):
    directory = tmp_path / "many"
    directory.mkdir()
    for number in range(1_100):
        (directory / f"{number}.txt").write_text(str(number))
    demo = cli.start("demo", directory, "--url", sqlite_url, "--slow", FOR_EVER)

    async def look() -> bool:
        return await counted(sqlite_url) > 0

    await eventually(look)
    demo.kill()
    assert await counted(sqlite_url) == 500  # the first batch

    answer = await cli.run("demo", directory, "--url", sqlite_url, "--json")
    await check_rows(sqlite_url, 1_100, answer, directory)
    assert "files found so far" in answer.err


async def test_killed_before_the_report_it_only_adds_up(cli: Commands, sqlite_url: str, directory: Path):
    file_set = FileSet(directory=str(directory), pattern="*", leave_out="")
    store = TaskStore(sqlite_url)
    store.include(demo_tasks.scan)
    store.include(demo_tasks.count_file)
    async with store:
        run = await DemoRun.find_or_begin(store, file_set, fresh=False)
        await store.dispatcher().run_once()
        view = await run.look()
    assert (view.done, view.sealed, view.report) == (FILES, True, None)

    answer = await cli.run("demo", directory, "--url", sqlite_url, "--json")
    await check_rows(sqlite_url, FILES, answer, directory)
    assert answer.json["this_start"]["files"] == 0


async def test_a_complete_run_is_followed_by_a_fresh_one(cli: Commands, sqlite_url: str, directory: Path):
    first = await cli.run("demo", directory, "--url", sqlite_url, "--json")
    (directory / "one more.txt").write_text("here")
    second = await cli.run("demo", directory, "--url", sqlite_url, "--json")
    await check_rows(sqlite_url, FILES + 1, second, directory)
    assert "The run before this one is complete. This is run 2, from the start." in second.err
    assert first.json["run"] != second.json["run"]
    third = await cli.run("demo", directory, "--url", sqlite_url, "--json", "--fresh")
    await check_rows(sqlite_url, FILES + 1, third, directory)
    assert await counted(sqlite_url) == FILES + 1  # nothing is left of the others


async def test_two_demos_at_once_share_one_run(cli: Commands, sqlite_url: str, directory: Path):
    env = gated(cli)
    both = [cli.start("demo", directory, "--url", sqlite_url, "--json", **env) for _ in range(2)]
    await two_count(sqlite_url)
    open_gate(cli)
    answers = [await one.ends() for one in both]
    for answer in answers:
        await check_rows(sqlite_url, FILES, answer, directory)
    assert answers[0].json["run"] == answers[1].json["run"]


async def test_a_second_process_does_its_share(cli: Commands, sqlite_url: str, directory: Path):
    demo = cli.start(
        "demo", directory, "--url", sqlite_url, "--processes", "2", "--concurrency", "5", "--json", **gated(cli)
    )
    await two_count(sqlite_url)
    open_gate(cli)
    answer = await demo.ends()
    await check_rows(sqlite_url, FILES, answer, directory)
    assert answer.json["this_start"]["processes"] == 2


async def test_what_cannot_be_read_is_named(cli: Commands, sqlite_url: str, directory: Path):
    demo = cli.start("demo", directory, "--url", sqlite_url, **gated(cli))

    async def look() -> bool:
        return await counted(sqlite_url) == FILES

    await eventually(look)
    gone = directory / ("long-" * 40)
    gone.unlink()
    open_gate(cli)
    answer = await demo.ends()
    assert answer.code == 1
    assert f"{FILES - 1} of {FILES} files counted" in answer.out
    assert f"{gone}: FileNotFoundError" in answer.out


async def test_its_own_database_is_not_counted(cli: Commands, directory: Path):
    file = directory / "tasks.db"
    answer = await cli.done("demo", directory, "--url", f"sqlite:///{file}", "--json")
    assert answer.json["report"]["files"] == FILES


async def test_by_default_it_counts_pythons_own_source(cli: Commands):
    answer = await cli.done("demo", AIOTASKSTORE_URL="postgresql://nobody@127.0.0.1:1/production")
    assert "each counted exactly once." in answer.out
    assert "SLOWEST FILES" in answer.out
    assert str(Path(os.__file__).resolve().parent) in answer.err
    assert "sqlite:///aiotaskstore-demo.db" in answer.err
    assert (cli.folder / "aiotaskstore-demo.db").exists()
    assert "files/s with 1 process × 10 slots" in answer.out


async def test_an_empty_directory_is_no_error(cli: Commands, sqlite_url: str, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    answer = await cli.done("demo", tmp_path / "empty", "--url", sqlite_url)
    assert answer.out == "There are no files to count here.\n"


@needs_terminal
@pytest.mark.parametrize("rich", [True, False])
async def test_a_person_at_a_terminal_sees_how_far_it_is(cli: Commands, sqlite_url: str, directory: Path, rich: bool):
    hidden = cli.folder / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("" if rich else HIDE_RICH)
    path = f"{hidden}{os.pathsep}{ROOT}"
    code, screen = await asyncio.to_thread(
        screen_of, "demo", directory, "--url", sqlite_url, "--slow", "100", folder=cli.folder, PYTHONPATH=path,
        TERM="xterm",
    )  # fmt: skip
    assert code == 0
    assert "━" in screen if rich else "█" in screen
    assert f" of {FILES} files" in screen
    assert f"{FILES} files, each counted exactly once." in screen


HIDE_RICH = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "rich" else find(name, *rest)
"""
