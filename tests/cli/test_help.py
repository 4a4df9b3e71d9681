"""`--help` teaches."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from aiotaskstore.cli.app import commands
from tests.cli.command import Commands

NAMES = [
    "demo",
    "worker",
    "list",
    "exec",
    "enqueue",
    "ls",
    "show",
    "cancel",
    "retry",
    "delete",
    "clean",
    "queues",
    "schedules",
    "workers",
    "stats",
    "doctor",
    "migrate",
]


def test_the_commands_are_those_of_this_version_and_no_stubs():
    assert list(commands.commands) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_commands_help_has_an_example_of_it(name):
    result = CliRunner().invoke(commands, [name, "--help"], prog_name="aiotaskstore")
    assert result.exit_code == 0
    assert re.search(rf"^ +aiotaskstore {name}\b(?! \[OPTIONS)", result.output, re.MULTILINE), result.output
    assert max(map(len, result.output.splitlines())) <= 100


def test_the_help_names_every_exit_code():
    text = " ".join(CliRunner().invoke(commands, ["-h"]).output.split())
    for words in ("0 done", "1 failed", "2 usage", "3 a worker's grace", "4 not found", "75 the database"):
        assert words in text


async def test_python_m_is_the_same_command(cli: Commands):
    answer = await cli.done("--version")
    assert re.fullmatch(r"aiotaskstore \d+\.\d+\.\d+\n", answer.out)
