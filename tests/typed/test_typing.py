"""mypy and pyright know `.enqueue()`'s arguments and `.result()`'s type in a user's program."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.typed.programs.faked import faked

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
SOUND = {"sound", "faked"}
MARK = "# wrong"


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_mypy_strict_accepts_the_sound_and_refuses_each_unsound_line(tmp_path: Path):
    answer = run(
        "mypy", "--strict", "--no-error-summary", "--cache-dir", str(tmp_path), "--config-file", "",
        str(PROGRAMS / "sound.py"), str(PROGRAMS / "faked.py"), str(PROGRAMS / "unsound.py"),
    )  # fmt: skip
    errors = re.findall(r"(\w+)\.py:(\d+): error", answer)
    assert {line for name, line in errors if name in SOUND} == set(), answer
    assert {int(line) for name, line in errors if name == "unsound"} == marked("unsound.py"), answer
    assert {name for name, _ in errors} == {"unsound"}, answer


@pytest.mark.timeout(300)
def test_pyright_accepts_the_sound_and_refuses_each_unsound_line():
    answer = run("pyright", str(PROGRAMS / "sound.py"), str(PROGRAMS / "faked.py"), str(PROGRAMS / "unsound.py"))
    errors = re.findall(r"(\w+)\.py:(\d+):\d+ - error", answer)
    assert {line for name, line in errors if name in SOUND} == set(), answer
    assert {int(line) for name, line in errors if name == "unsound"} == marked("unsound.py"), answer


def test_every_public_name_has_a_type_that_pyright_knows():
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--verifytypes", "aiotaskstore", "--ignoreexternal", "--outputjson"],
        cwd=ROOT, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    report = json.loads(done.stdout)["typeCompleteness"]
    assert report["completenessScore"] == 1, [one["name"] for one in report["symbols"] if not one["isTypeKnown"]]
    assert report["exportedSymbolCounts"]["withKnownType"] > 300


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "aiotaskstore" / "py.typed").exists()


async def test_the_fakes_stand_in_for_what_they_fake():
    enqueued, sent = await faked()
    assert enqueued == [("send_welcome", {"user_id": 42})]
    assert sent == "sent to 7"


def test_enough_is_marked_to_prove_something():
    assert len(marked("unsound.py")) > 30


def marked(program: str) -> set[int]:
    lines = (PROGRAMS / program).read_text("utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith(MARK)}
