"""What scripts and shells rely on: exit codes, completion, `pyproject.toml`, versions for a bug report."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from aiotaskstore import TaskStore
from aiotaskstore.cli.app import commands
from aiotaskstore.cli.exit_code import ExitCode
from tests.cli.command import ROOT

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process, in a folder of its own: its exit code, its data, its messages."""
    for name in ("AIOTASKSTORE_APP", "AIOTASKSTORE_URL", "DATABASE_URL"):
        monkeypatch.setenv(name, "")  # --url sets one of them, and this has it restored
        del os.environ[name]
    monkeypatch.chdir(tmp_path)

    def run_here(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            commands(list(arguments), prog_name="aiotaskstore")
        said = capsys.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 1), said.out, said.err

    return run_here


AWAY = "postgresql://nobody@127.0.0.1:1/nowhere"
HERE = "sqlite:///tasks.db"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["migrate", "--url", HERE], 0),
        (["migrate", "--check", "--url", "sqlite:///none.db"], 1),
        (["doctor", "--url", "sqlite:///none.db"], 1),
        (["worker"], 2),
        (["enqueue"], 2),
        (["enqueue", "unheard-of", "--url", HERE], 2),
        (["show", "0123456789", "--url", HERE], 4),
        (["ls", "--url", AWAY], 75),
        (["doctor", "--url", AWAY], 75),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_exit_codes_are_those_that_the_guide_lists(run: Run, arguments: list[str], code: int):
    asyncio.run(TaskStore(HERE).migrate())
    assert run(*arguments)[0] == code


def test_the_guide_lists_every_exit_code():
    guide = (ROOT / "docs" / "guide" / "command-line.md").read_text("utf-8")
    listed = re.findall(r"^\| (\d+) \| ", guide, re.MULTILINE)
    assert [int(one) for one in listed] == sorted(ExitCode)


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("wor", {"worker", "workers"}),
        ("worker --rel", {"--reload"}),
        ("ls --status fa", {"failed"}),
        ("--app tests.cli.app:store enqueue ex", {"explode"}),
        ("--app tests.cli.app:store exec l", {"linger"}),
        ("--app there.is:none exec l", set()),
    ],
)
def test_the_shell_completes_commands_options_values_and_aliases(
    run: Run, monkeypatch: pytest.MonkeyPatch, line: str, completed: set[str]
):
    words = f"aiotaskstore {line}"
    monkeypatch.setenv("_AIOTASKSTORE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    _, out, err = run()
    assert {answer.partition(",")[2] for answer in out.split()} == completed
    assert err == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(run: Run, monkeypatch: pytest.MonkeyPatch, shell: str):
    monkeypatch.setenv("_AIOTASKSTORE_COMPLETE", f"{shell}_source")
    monkeypatch.setattr("click.shell_completion.BashComplete._check_version", lambda *_: None)  # which starts a bash
    code, out, _ = run()
    assert code == 0
    assert f"_AIOTASKSTORE_COMPLETE={shell}_complete" in out


def test_an_app_is_found_in_the_projects_file_after_option_and_environment(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\nname = "shop"\n[tool.aiotaskstore]\napp = "tests.cli.app:store"\n')
    assert [one["alias"] for one in json.loads(run("list", "--json")[1])][:2] == ["add", "explode"]
    assert json.loads(run("list", "--json", "--app", "tests.cli.app:empty")[1]) == []
    monkeypatch.setenv("AIOTASKSTORE_APP", "tests.cli.app:empty")
    assert json.loads(run("list", "--json")[1]) == []

    monkeypatch.setenv("AIOTASKSTORE_APP", "")
    project.write_text("[tool.aiotaskstore]\napp = 5\n")
    code, _, err = run("list")
    assert code == 2
    assert 'app is 5. Write app = "myproject.tasks:store".' in " ".join(err.split())
    project.write_text("this is no TOML")
    code, _, err = run("list")
    assert code == 2
    assert "is looked at for an app, and cannot be read" in err
    assert run("migrate", "--url", HERE)[0] == 0  # which needs no app
    project.write_text("[tool.other]\n")
    assert "app under [tool.aiotaskstore] in the pyproject.toml" in " ".join(run("list")[2].split())


def test_a_bug_report_gets_every_version(run: Run):
    code, out, _ = run("--version", "--json")
    versions = json.loads(out)
    assert code == 0
    assert set(versions) == {"aiotaskstore", "python", "platform", "sqlite", "packages"}
    assert versions["packages"]["asyncpg"]
    assert run("--version")[1] == f"aiotaskstore {versions['aiotaskstore']}\n"


def test_every_command_has_an_example():
    for name, command in commands.commands.items():
        assert f"aiotaskstore {name}" in (command.help or ""), name
