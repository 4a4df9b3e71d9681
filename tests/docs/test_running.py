"""Units and manifests that the documentation offers are valid, and say what the command line understands."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from aiotaskstore.cli.app import commands
from aiotaskstore.cli.exit_code import ExitCode
from tests.docs.programs import blocks
from tests.docs.test_documents import ROOT, SHOWN

RUNNING = ROOT / "docs" / "recipes" / "running.md"
FILES = {block.title: block.text for block in blocks(RUNNING) if block.title}
STUCK = 10
"""Seconds for which a handler that ignores its cancellation keeps a worker, after its grace."""


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(FILES["worker.yaml"]))


def unit() -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", FILES["aiotaskstore-worker.service"], re.MULTILINE))


def words() -> Iterator[list[str]]:
    """Give the words of every command that a page shows, after the program's name."""
    for page in SHOWN:
        for block in blocks(page):
            if block.language in {"sh", "ini", "console"}:
                text = block.text.replace("\\\n", " ")
                for line in re.findall(
                    r"(?m)^(?:ExecStart(?:Pre)?=|\$ )?(?:\S*/)?aiotaskstore (.+?)(?: #.*| \|.*)?$", text
                ):
                    yield shlex.split(line)
            for listed in re.findall(r'\["aiotaskstore", (.+?)\]', block.text, re.DOTALL):
                yield re.findall(r'"([^"]+)"', listed)
        for line in re.findall(r"`aiotaskstore ([^`]+)`", page.read_text("utf-8")):
            yield line.split()


def test_every_option_of_every_command_that_a_page_shows_is_one():
    runner = CliRunner()
    helps: dict[str, str] = {}
    shown = 0
    for line in words():
        command = next((word for word in line if word in commands.commands), None)
        for option in (re.match(r"--?[\w-]+", word) for word in line if word.startswith("-")):
            if option is None or line[0] == "exec" or command is None:
                continue  # what stands behind `exec` is the handler's
            if command not in helps:
                helps[command] = runner.invoke(commands, [command, "--help"]).output
            assert re.search(rf"{option[0]}(?![\w-])", helps[command]), f"aiotaskstore {' '.join(line)}"
            shown += 1
    assert shown > 15


def test_whoever_stops_a_worker_waits_for_longer_than_its_grace():
    migrate, worker = manifests()
    pod = worker["spec"]["template"]["spec"]
    compose = yaml.safe_load(FILES["compose.yaml"])["services"]["worker"]
    for waits, command in [
        (unit()["TimeoutStopSec"], unit()["ExecStart"]),
        (f"{pod['terminationGracePeriodSeconds']}s", " ".join(pod["containers"][0]["args"])),
        (compose["stop_grace_period"], " ".join(compose["command"])),
    ]:
        grace = re.search(r"--grace (\d+)s", command)
        assert grace is not None
        assert int(waits.removesuffix("s")) > int(grace[1]) + STUCK
    assert migrate["kind"] == "Job"


def test_a_worker_that_hands_tasks_back_is_no_failed_unit():
    assert int(unit()["SuccessExitStatus"]) == ExitCode.HANDED_BACK


def test_the_manifests_select_the_pods_that_they_make():
    _, worker = manifests()
    assert worker["spec"]["selector"]["matchLabels"] == worker["spec"]["template"]["metadata"]["labels"]


def test_the_container_starts_the_worker_and_no_shell():
    (command,) = re.findall(r"^CMD (.*)$", FILES["Dockerfile"], re.MULTILINE)
    assert command.startswith('["aiotaskstore", "worker"')
    (installed,) = re.findall(r"aiotaskstore\[([\w,]+)\]", FILES["Dockerfile"])
    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert set(installed.split(",")) <= set(extras)


def test_systemd_accepts_the_unit(tmp_path: Path):
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not installed")
    program = tmp_path / "aiotaskstore"
    program.write_text("#!/bin/sh\n", "utf-8")
    program.chmod(0o755)
    file = tmp_path / "aiotaskstore-worker.service"
    text = FILES[file.name].replace("/srv/shop/.venv/bin/aiotaskstore", str(program))
    file.write_text(text.replace("User=shop", "User=root"), "utf-8")
    done = subprocess.run([verify, "verify", file], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if file.name in line] == []
    assert done.returncode == 0, done.stderr
