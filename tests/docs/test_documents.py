"""README, guide and reference: every Python block runs, and every name stands."""

from __future__ import annotations

import importlib.util
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

import aiotaskstore
from aiotaskstore.cli.app import commands
from aiotaskstore.cli.exit_code import ExitCode
from tests.docs.programs import Block, Runner, blocks, runner

ROOT = Path(__file__).parents[2]
FOLDERS = ("guide", "recipes")
"""The folders of docs/ whose Python blocks are programs, as those of the README and of the first page are."""
MIGRATING = ROOT / "docs" / "migrating"
TUTORIAL = [ROOT / "docs" / "tutorial" / f"{name}.md" for name in (
    "first-task", "web-application", "when-things-go-wrong", "schedules-and-tests", "production",
)]  # fmt: skip
"""Its pages, in order."""
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "index.md",
    *sorted(page for folder in FOLDERS for page in (ROOT / "docs" / folder).glob("*.md")),
    MIGRATING / "index.md",
]
"""Those whose every Python block is a program; `test_migrating.py` runs the programs of the other migrating pages."""
READERS_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_asyncio.plugin"}
"""For the reader's pytest, whose tests need this one alone."""
SHOWN = [*PAGES, *TUTORIAL, *sorted({*MIGRATING.glob("*.md")} - {*PAGES})]
"""Every page that shows commands and programs."""


def programs() -> Iterator[tuple[str, list[Block]]]:
    """Give every Python block of the pages, after those blocks of its page that show a file before it."""
    for page in PAGES:
        files: list[Block] = []
        for block in blocks(page):
            if block.language == "python":
                yield block.where, [*files, block]
            if block.title is not None:
                files.append(block)


@pytest.fixture(scope="module", name="runner")
def running() -> Iterator[Runner]:
    with runner() as one:
        yield one


def run(runner: Runner, files: list[Block], folder: Path, **environment: str) -> str:
    """Write the blocks into a folder, each under its title, run the last one, and return what it prints."""
    for block in files:
        program = folder / (block.title or "program.py")
        program.write_text(block.text, "utf-8")
    ended = runner.run([str(program)], folder, {"DATABASE_URL": "sqlite:///app.db", **environment})
    assert ended.status == 0, f"{files[-1].where}: {ended.printed}"
    for line in re.findall(r"print\(.*\)  # prints: (.*)$", files[-1].text, re.MULTILINE):
        assert line in ended.printed.splitlines(), f"{files[-1].where} prints {ended.printed}"
    return ended.printed


@pytest.mark.parametrize("files", [pytest.param(files, id=where) for where, files in programs()])
def test_a_python_block_runs_as_it_stands(runner: Runner, files: list[Block], tmp_path: Path):
    run(runner, files, tmp_path)


def on_servers() -> list[Any]:
    """Give the programs that take their database from the environment, such as recipes."""
    return [
        pytest.param(files, id=where)
        for where, files in programs()
        if any("from_env(" in one.text for one in files) and "asyncio.run(" in files[-1].text
    ]


@pytest.mark.parametrize("files", on_servers())
def test_a_program_that_takes_its_database_from_the_environment_runs_on_each_server(
    runner: Runner, files: list[Block], tmp_path: Path, server_url: str
):
    run(runner, files, tmp_path, DATABASE_URL=server_url)


def test_the_tutorial_can_be_followed_from_its_first_page_to_its_last(
    runner: Runner, tmp_path: Path, postgresql_url: str
):
    """Its programs and its commands, one after the other in one folder; the last page is on a server."""
    for page in TUTORIAL:
        environment = {"DATABASE_URL": postgresql_url} if page.stem == "production" else {}
        for block in blocks(page):
            if block.language == "python":
                run(runner, [block], tmp_path, **environment)
            elif block.title is not None:
                (tmp_path / block.title).write_text(block.text, "utf-8")
            elif block.language == "sh":
                for line in block.text.splitlines():
                    ended = runner.run(shlex.split(line, comments=True), tmp_path, {**READERS_PLUGINS, **environment})
                    assert ended.status == 0, f"{block.where}: {line}: {ended.printed}"


def test_the_readme_says_what_its_program_prints(runner: Runner, tmp_path: Path):
    _, files = next(programs())
    told = run(runner, files, tmp_path).strip()
    assert told == "sent to 42 in bg"
    assert f'"{told}"' in files[-1].text


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 250


def test_every_command_a_page_names_exists():
    pages = "\n".join(page.read_text("utf-8") for page in SHOWN)
    lines = re.findall(r"(?m)^aiotaskstore (.*)$|`aiotaskstore ([^`]*)`|bin/aiotaskstore (.*)$", pages)
    named = {re.sub(r"--\S+ \S+ ", "", "".join(line)).split()[0] for line in lines}
    assert {"worker", "ls", "stats", "migrate"} <= named
    for command in sorted(named):
        answer = CliRunner().invoke(commands, [command, "--help"])
        assert answer.exit_code == 0, f"{command}: {answer.output}"


def test_every_link_between_pages_leads_somewhere():
    for page in [*SHOWN, *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "adr").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_every_file_that_the_architecture_names_exists():
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    paths = set(re.findall(r"[\w./]*\w(?:\.py|\.sql|\.md|\.toml|/)(?![\w/.])", page))
    assert {"storage/transitions.py", "dispatch/claimer.py", "manage/", "pyproject.toml"} <= paths
    folders = [
        ROOT,
        ROOT / "docs",
        *(ROOT / "aiotaskstore" / folder for folder in ("", "storage", "storage/tasks", "storage/sql")),
    ]
    assert [path for path in sorted(paths) if not any((folder / path).exists() for folder in folders)] == []
    rooms = {f"{one.name}/" for one in (ROOT / "aiotaskstore").iterdir() if (one / "__init__.py").exists()}
    assert rooms <= paths, "a room is missing in the drawing"


def test_the_reference_is_what_the_docstrings_say():
    folder = ROOT / "docs" / "reference"
    pages = load(folder / "generate.py").pages()
    assert {page.name for page in folder.glob("*.md")} == pages.keys()
    for name, text in pages.items():
        assert (folder / name).read_text("utf-8") == text, "run: python docs/reference/generate.py"


def test_the_reference_leads_to_every_name_by_its_topic():
    page = (ROOT / "docs" / "reference" / "index.md").read_text("utf-8")
    rows = re.findall(r"^\| (.+?) \| (.*) \|$", page, re.MULTILINE)
    listed = re.findall(r"\[`([\w.]+)`\]", " ".join(names for _, names in rows))
    assert sorted(name for name in listed if "." not in name) == list(aiotaskstore.__all__)
    assert {"Events", "Errors", "In a handler"} <= {topic for topic, _ in rows}


def test_the_reference_has_every_command_exit_code_and_environment_variable():
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text("utf-8")
    for name in commands.commands:
        assert f"## `aiotaskstore {name}" in page
    for code in ExitCode:
        assert f"- `{code.value}`: " in page
    sources = "\n".join(file.read_text("utf-8") for file in (ROOT / "aiotaskstore").rglob("*.py"))
    read = set(re.findall(r"[\"\'](AIOTASKSTORE_[A-Z]+|DATABASE_URL|NO_COLOR|TERM)[\"\']", sources))
    assert {name for name in read if f"- `{name}`: " not in page} - {"AIOTASKSTORE_DEMO"} == set()


def test_the_reference_has_every_option_with_a_default_and_a_sentence():
    page = (ROOT / "docs" / "reference" / "index.md").read_text("utf-8")
    generator = load(ROOT / "docs" / "reference" / "generate.py")
    for options, function in generator.TAKES.items():
        section = page.partition(f"## `{options.__name__}`")[2].partition("\n## ")[0]
        taken = {name for name, one in inspect.signature(function).parameters.items() if one.kind is one.KEYWORD_ONLY}
        assert set(generator.option_types(options)) == taken
        for name in taken:
            assert re.search(rf"^- `{name}: .* = .*`.*: \S", section, re.MULTILINE), name


def test_the_reference_has_every_method_of_a_store():
    page = (ROOT / "docs" / "reference" / "index.md").read_text("utf-8")
    kinds = {"TaskStore": aiotaskstore.TaskStore}
    kinds |= {f"store.{name}": kind for name, kind in load(ROOT / "docs" / "reference" / "generate.py").managers()}
    assert {"store.tasks", "store.queues", "store.dispatchers"} <= set(kinds)
    for heading, kind in kinds.items():
        section = page.partition(f"## `{heading}`")[2].partition("\n## ")[0]
        for name in (name for name in vars(kind) if not name.startswith("_")):
            assert re.search(rf"^- `(async )?{name}\b", section, re.MULTILINE), f"{heading}.{name}"


def test_every_public_name_is_documented_and_in_order():
    names = aiotaskstore.__all__
    assert sorted(names) == list(names)
    reference = (ROOT / "docs" / "reference" / "index.md").read_text("utf-8")
    for name in names:
        assert f"## `{name}`" in reference
        thing = getattr(aiotaskstore, name)
        assert not (inspect.isclass(thing) or inspect.isfunction(thing)) or inspect.getdoc(thing), name


def test_the_changelog_is_headed_by_this_version():
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    heading = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert version is not None
    assert heading is not None
    assert version[1] == heading[1]


def test_the_lifecycle_page_knows_every_status_and_finish_reason():
    page = (ROOT / "docs" / "lifecycle.md").read_text("utf-8")
    for status in aiotaskstore.TaskStatus:
        assert status in page
    assert set(re.findall(r"^\| `([a-z]+)` \|", page, re.MULTILINE)) == set(aiotaskstore.FinishReason)


def load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
