"""Where the output goes nowhere: a reader who has left, a full disk, a stream that is closed, a plain terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aiotaskstore import TaskStore
from aiotaskstore.noop_task import noop
from tests.cli.command import ROOT, needs_terminal, screen_of
from tests.helpers import LIMIT

COLOUR = "\x1b["
ENQUEUE = "enqueue --app=tests.cli.app:store add '{\"a\": 1}'"
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")


@pytest.fixture
async def tasks(sqlite_url: str) -> str:
    """Give the URL of a database with some tasks in it."""
    store = TaskStore(sqlite_url)
    store.include(noop)
    async with store:
        await store.enqueue_many([noop.draft() for _ in range(3_000)])
    return sqlite_url


def shell(line: str, url: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `aiotaskstore` is ours."""
    command = f'aiotaskstore() {{ {sys.executable} -m aiotaskstore "$@"; }}; set -o pipefail; {line}'
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=LIMIT, check=False,
        env={**os.environ, "PYTHONUNBUFFERED": "", "PYTHONPATH": str(ROOT), "AIOTASKSTORE_URL": url, **env},
    )  # fmt: skip


@pytest.mark.parametrize("command", ["ls --limit 3000", "ls --json --limit 3000"])
def test_a_reader_who_has_had_enough_is_no_failure(tasks: str, command: str):
    done = shell(f"aiotaskstore {command} | head -n 1; echo ${{PIPESTATUS[@]}}", tasks)
    assert (done.stdout.splitlines()[-1], done.stderr) == ("0 0", "")


@needs_full
@pytest.mark.parametrize("command", ["ls", "ls --json", "stats", "--help", "worker --help", "migrate --sql"])
def test_a_full_disk_is_told_in_a_sentence(tasks: str, command: str):
    done = shell(f"aiotaskstore {command} > /dev/full", tasks)
    assert done.returncode == 1
    assert done.stderr == "Error: The output could not be written: No space left on device.\n"


@pytest.mark.parametrize("command", ["ls", "stats --json", "--help", ENQUEUE, "migrate --check"])
def test_a_closed_stdout_changes_nothing(tasks: str, command: str):
    done = shell(f"aiotaskstore {command} >&-", tasks)
    assert (done.returncode, done.stdout) == (0, "")
    assert "Error" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_stderr_keeps_the_exit_code(tasks: str):
    assert shell("aiotaskstore show 0123456789 2>&-", tasks).returncode == 4
    assert shell("aiotaskstore migrate 2>&-", tasks).returncode == 0


@needs_full
def test_messages_that_nobody_can_read_fail_nothing(tasks: str):
    done = shell("aiotaskstore ls --limit 1 2> /dev/full", tasks)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)
    assert shell("aiotaskstore show 0123456789 2> /dev/full", tasks).returncode == 4


@needs_terminal
@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"TERM": "xterm", "NO_COLOR": "1"}, False)],
)
def test_colours_are_for_terminals_that_have_them(
    tasks: str, tmp_path: Path, environment: dict[str, str], coloured: bool
):
    for code, line in ((0, "ls --limit 2"), (4, "show 0123456789")):
        ended, screen = screen_of(*line.split(), "--url", tasks, folder=tmp_path, **environment)
        assert (ended, COLOUR in screen) == (code, coloured), screen


@needs_terminal
def test_a_dumb_terminal_gets_no_bar(tmp_path: Path, sqlite_url: str):
    (tmp_path / "one.txt").write_text("word")
    code, screen = screen_of("demo", tmp_path, "--url", sqlite_url, folder=tmp_path, TERM="dumb")
    assert (code, "\x1b" in screen) == (0, False)
    assert "1 file, each counted exactly once." in screen
