"""Migrating: both programs of each page do the same, and the page shows them as they are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aiotaskstore import TaskStore
from tests.docs.programs import blocks
from tests.helpers import LIMIT

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "migrating"
PROGRAMS = ROOT / "docs" / "examples" / "migrating"
PEERS = ["apscheduler", "arq", "celery", "dramatiq", "huey", "pgqueuer", "procrastinate", "taskiq"]
KEEP_NO_RESULTS = {"apscheduler", "pgqueuer", "procrastinate"}
RESULT = "ada@example.org is welcome"
DONE = [
    RESULT,
    "digest sent to staff@example.org",
    "reminder sent to ada@example.org",
    "the mail server is busy",
    "welcome sent to ada@example.org",
]
LATER = datetime(2040, 1, 1, tzinfo=UTC)
SECTIONS = [
    "Names side by side",
    "What is different",
    "What you lose",
    "Before",
    "After",
    "Both at once, then one",
    "Tests",
]
ROW = re.compile(r"^\| (\w+) \| (.*?) \| (.*?) \| (.*?) ?\| (.*?) \| (.*?) \|$", re.MULTILINE)
EFFORTS = {"direct swap", "small rewrite", "redesign"}


def start(program: Path, folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start a program in a folder of its own."""
    folder.mkdir(parents=True)
    without_redis = [ROOT / "tests" / "docs" / "arq_on_fakeredis.py"] * (program == PROGRAMS / "arq" / "before.py")
    strict = ["-W", "error"] * (program.stem in {"after", "move"})
    return subprocess.Popen(
        [sys.executable, *strict, *without_redis, program, *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def lines_of(process: subprocess.Popen[str]) -> list[str]:
    """Return what a program printed, in the order of the alphabet, once it has ended well."""
    try:
        said, complaints = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
    assert process.returncode == 0, complaints
    return sorted(said.splitlines())


def text_of(peer: str) -> str:
    return (PAGES / f"{peer}.md").read_text("utf-8")


@pytest.mark.parametrize("peer", PEERS)
def test_after_migrating_a_program_does_what_it_did_before(peer: str, tmp_path: Path):
    programs = [start(PROGRAMS / peer / f"{when}.py", tmp_path / when) for when in ("before", "after")]
    before, after = [lines_of(program) for program in programs]
    assert after == DONE
    assert before == [line for line in DONE if line != RESULT or peer not in KEEP_NO_RESULTS]


@pytest.mark.parametrize("peer", ["pgqueuer", "procrastinate"])
async def test_what_waits_in_the_tables_of_a_peer_is_moved_whole_and_once(
    peer: str, postgresql_url: str, tmp_path: Path
):
    lines_of(start(ROOT / "tests" / "docs" / "waiting_in_peers.py", tmp_path / "peer", peer, postgresql_url))
    for place, moved in {"1st": ["2"], "2nd": ["0"]}.items():
        assert lines_of(start(PROGRAMS / peer / "move.py", tmp_path / place, DATABASE_URL=postgresql_url)) == moved
    async with TaskStore(postgresql_url) as store:
        bob, ada = await store.tasks.list()
    assert (ada.alias, ada.payload, ada.status, ada.priority) == (
        "remind",
        {"address": "ada@example.org"},
        "pending",
        0,
    )
    assert (bob.payload, bob.status, bob.priority) == ({"address": "bob@example.org"}, "scheduled", -5)
    assert abs(bob.run_at - LATER) < timedelta(minutes=10)  # PgQueuer is told the seconds that are left
    assert bob.external_id == "bob"
    assert (bob.queue, bob.serialization_key) == {
        "pgqueuer": ("default", None), "procrastinate": ("mail", "mail server")
    }[peer]  # fmt: skip


def test_every_peer_has_a_page_and_every_page_its_programs():
    assert sorted(page.stem for page in PAGES.glob("*.md") if page.stem != "index") == PEERS
    assert sorted(folder.name for folder in PROGRAMS.iterdir() if (folder / "after.py").exists()) == PEERS
    index = (PAGES / "index.md").read_text("utf-8")
    assert [peer for peer in PEERS if f"({peer}.md)" not in index] == []


def test_the_same_numbers_mean_what_the_index_says(tmp_path: Path):
    meant = json.loads(lines_of(start(ROOT / "tests" / "docs" / "what_peers_mean.py", tmp_path / "peers"))[0])
    table = (PAGES / "index.md").read_text("utf-8").partition("| from | option |")[2].partition("\n\n")[0]
    told = {name.lower(): told for name, *told in re.findall(ROW, table)}
    runs, here, first, day = ({peer: row[column] for peer, row in told.items()} for column in range(1, 5))
    assert {peer: int(runs[peer]) for peer in meant["runs"]} == meant["runs"]
    assert {peer: here[peer] for peer in meant["runs"]} == {
        peer: f"`max_attempts={runs[peer]}`" for peer in meant["runs"]
    }
    assert {peer: int(first[peer]) for peer in meant["first"]} == meant["first"]
    assert {peer: day[peer] for peer in meant["days"]} == meant["days"]
    assert sorted(told) == sorted(["aiotaskstore", *PEERS])


@pytest.mark.parametrize("peer", PEERS)
def test_a_page_shows_its_programs_as_they_are(peer: str):
    programs = [PROGRAMS / peer / f"{when}.py" for when in ("before", "after", "move")]
    programs = [program for program in programs if program.exists()]
    shown = [(block.title, block.text) for block in blocks(PAGES / f"{peer}.md") if block.language == "python"]
    assert shown == [(program.name, program.read_text("utf-8")) for program in programs]


@pytest.mark.parametrize("peer", PEERS)
def test_a_page_tells_names_differences_losses_the_way_over_and_tests(peer: str):
    page = text_of(peer)
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == SECTIONS
    names = page.partition("## Names side by side")[2].partition("\n## ")[0]
    rows = re.findall(r"^\|.*\| (\w.*) \|$", names.partition("|---|")[2], re.MULTILINE)
    assert len(rows) > 12
    assert set(rows) <= EFFORTS
