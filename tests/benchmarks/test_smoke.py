"""Each benchmark in miniature, on SQLite: it runs to its end, checks its own work, and prints ratios."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TASKS = {"drain": 500, "enqueue": 500, "latency": 20, "memory": 500, "backlog": 500, "keys": 500}


@pytest.mark.parametrize("benchmark", TASKS)
def test_a_benchmark_prints_ratios_and_leaves_nothing_behind(benchmark: str, tmp_path: Path) -> None:
    file = tmp_path / "harness.db"
    done = run(benchmark, "--url", f"sqlite:///{file}", "--tasks", str(TASKS[benchmark]), "--rounds", "1",
               "--gap", "0.005", "--json")  # fmt: skip

    assert done.returncode == 0, done.stderr
    *shown, last = done.stdout.splitlines()
    assert any("÷ raw" in line for line in shown)
    report = json.loads(last)
    ours = [
        measurements for name, rounds in report["rounds"].items() if "aiotaskstore" in name for measurements in rounds
    ]
    assert ours
    assert all(one["seconds"] > 0 and one["peak"] > 0 for one in ours)
    assert not list(tmp_path.iterdir())


def test_it_says_what_is_missing() -> None:
    done = run("latency", "--url", "sqlite:////tmp/never.db", "--peer", "pgqueuer")

    assert done.returncode != 0
    assert "PostgreSQL" in done.stderr


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], capture_output=True, text=True, env=environment, check=False
    )
