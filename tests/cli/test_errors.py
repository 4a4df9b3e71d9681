"""What bad input gets: a sentence on stderr, nothing on stdout, the right exit code."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner

from aiotaskstore.cli.app import commands
from tests.cli.command import APP, Commands

NOBODY = "01909b6e-7c6e-7d05-bcd5-7c2a3c9f0d3a"

USAGE = {
    "no app": (["worker"], "--app module:attribute"),
    "no app to list": (["list"], "AIOTASKSTORE_APP"),
    "no database": (["ls"], "--url sqlite:///tasks.db"),
    "an app without attribute": (["list", "--app", "tests.cli.app"], "takes module:attribute"),
    "a module that is not there": (["list", "--app", "tests.cli.nothing:store"], 'no module "tests.cli.nothing"'),
    "an attribute that is not there": (["list", "--app", "tests.cli.app:shop"], "--app tests.cli.app:empty"),
    "no store": (["list", "--app", "tests.cli.app:not_a_store"], "is an int, and --app takes a TaskStore"),
    "a foreign scheme": (["ls", "--url", "oracle://x"], '"oracle://"'),
    "no scheme": (["ls", "--url", "tasks.db"], "Write postgresql://"),
    "another database than the app's": (
        ["enqueue", "add", "--app", "tests.cli.app:empty", "--url", "sqlite:///other.db"],
        "TaskStore.from_env()",
    ),
    "an unknown alias": (["enqueue", "ad", '{"a": 1}', APP, "--url", "{url}"], 'Did you mean "add"?'),
    "a payload that does not fit": (["enqueue", "add", '{"a": "x"}', APP, "--url", "{url}"], 'payload of "add"'),
    "a payload that is no JSON": (["enqueue", "add", "{a: 1}", APP], "It is no JSON"),
    "a payload without names": (["enqueue", "add", "[1]", APP], "arguments by name"),
    "a delay without a unit we know": (["enqueue", "add", "--delay", "5y", APP], "Write 90, 250ms, 5m"),
    "an id that is none": (["show", "42", "--url", "{url}"], '"42" is no task id'),
    "no processes": (["worker", "--processes", "0", APP], "--processes"),
    "a lease of nothing": (["worker", "--lease", "0", APP], "above zero"),
    "no tasks": (["worker", "--app", "tests.cli.app:empty"], "No task is registered"),
    "no tasks for several": (["worker", "--processes", "2", "--lease", "0", APP], "above zero"),
    "an unknown status": (["ls", "--status", "done", "--url", "{url}"], "succeeded"),
    "two kinds of migrate": (["migrate", "--sql", "--check", "--url", "{url}"], "give one of them"),
    "a directory that is not there": (["demo", "nowhere"], "nowhere"),
    "an unknown command": (["purge"], "purge"),
}

MISUSE = {
    "a beginning too short for an id": (["retry", "01a", "--url", "sqlite://"], '"01a" is no task id'),
    "no id": (["cancel", "--url", "sqlite://"], "ID"),
    "no slots": (["worker", "-q", "emails:0", APP], "-q emails:0"),
    "slots that are no number": (["worker", "-q", "emails:x", APP], "-q emails:x"),
    "slots below nothing": (["worker", "-q", "emails:-1", APP], "-q emails:-1"),
    "a queue without a name": (["worker", "-q", ":5", APP], "names no queue"),
    "no queue": (["worker", "-q", "", APP], "names no queue"),
    "only commas": (["worker", "-q", ",", APP], "names no queue"),
    "a queue twice": (["worker", "-q", "a:1,b", "-q", "a:2", APP], "names the queue a twice"),
    "quiet and verbose": (["worker", "-v", "--quiet", APP], "-v and --quiet"),
    "a prefix that is none": (["ls", "--prefix", "no-dash", "--url", "sqlite://"], "prefix"),
    "a prefix that is not the app's": (["ls", "--prefix", "shop_", APP], "--prefix"),
    "a schema that is not the app's": (["ls", "--schema", "shop", APP], "--schema"),
    "a wait without a unit we know": (["enqueue", "add", "--wait=5y", APP], "Write 90, 250ms, 5m"),
    "a wait for the database without a unit": (["worker", "--wait-for-database", "soon", APP], "Write 90, 250ms, 5m"),
}
"""What is refused before anything is opened; so these need no process of their own."""


@pytest.mark.parametrize(("arguments", "words"), MISUSE.values(), ids=MISUSE)
def test_misuse_says_what_to_write(arguments: list[str], words: str):
    answer = CliRunner().invoke(commands, arguments)
    assert (answer.exit_code, answer.stdout) == (2, ""), answer.output
    assert words in " ".join(answer.stderr.split())


async def test_bad_usage_says_what_to_write(cli: Commands, sqlite_url: str):
    await cli.done("migrate", "--url", sqlite_url)

    async def check(name: str, arguments: list[str], words: str) -> None:
        answer = await cli.run(*(one.replace("{url}", sqlite_url) for one in arguments))
        assert (name, answer.code, answer.out) == (name, 2, ""), answer
        assert words in " ".join(answer.err.split()), (name, answer.err)
        assert "Traceback" not in answer.err, (name, answer.err)

    cases = list(USAGE.items())
    for start in range(0, len(cases), 6):  # as many at once as a small machine likes
        async with asyncio.TaskGroup() as group:
            for name, (arguments, words) in cases[start : start + 6]:
                group.create_task(check(name, arguments, words))
    assert (await cli.done("ls", "--json", "--url", sqlite_url)).json == []


@pytest.mark.parametrize("name", ["show", "cancel", "retry", "delete"])
async def test_a_task_that_is_not_there_is_not_found(cli: Commands, sqlite_url: str, name: str):
    await cli.done("migrate", "--url", sqlite_url)
    answer = await cli.run(name, NOBODY, "--url", sqlite_url)
    assert (answer.code, answer.out) == (4, "")
    assert f"No task {NOBODY} is stored." in answer.err


async def test_a_move_that_is_not_allowed_fails(cli: Commands, sqlite_url: str):
    task_id = (await cli.done("enqueue", "add", '{"a": 1}', APP, "--url", sqlite_url)).out.strip()
    await cli.done("worker", "--drain", APP, "--url", sqlite_url)
    cancel = await cli.run("cancel", task_id, "--url", sqlite_url)
    retry = await cli.run("retry", task_id, "--url", sqlite_url)
    assert (cancel.code, retry.code) == (1, 1)
    assert "only an unfinished task can be cancelled" in cancel.err
    assert "--force" in retry.err
    await cli.done("retry", task_id, "--force", "--url", sqlite_url)


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
async def test_an_unreachable_database_is_worth_another_try(cli: Commands, dialect: str):
    url = f"{dialect}://nobody:secret@127.0.0.1:1/nowhere"
    commands = ["ls"], ["migrate"], ["worker", APP], ["worker", APP, "--processes", "2"], ["demo"]
    for command in [cli.start(*arguments, "--url", url) for arguments in commands]:
        answer = await command.ends()
        assert (answer.code, answer.out) == (75, ""), answer
        assert "Error: " in answer.err
        assert "secret" not in answer.err


async def test_a_folder_that_is_missing_is_named_by_every_command(cli: Commands, tmp_path: Path):
    url, task_id = f"sqlite:///{tmp_path}/no/such/folder/tasks.db", NOBODY
    commands = ["migrate"], ["ls"], ["stats"], ["show", task_id], ["retry", task_id], ["enqueue", "add"], ["demo"]
    for command in [cli.start(*arguments, "--url", url) for arguments in commands]:
        answer = await command.ends()
        assert (answer.code, answer.out) == (75, ""), answer
        assert f"{tmp_path}/no/such/folder does not exist" in answer.err, answer


async def test_missing_tables_are_named_by_their_prefix(cli: Commands, url: str):
    await cli.done("migrate", "--url", url)
    answer = await cli.run("ls", "--url", url, "--prefix", "shop_")
    assert (answer.code, answer.out) == (1, "")
    assert 'Looked for: prefix "shop_".' in answer.err
    assert "--prefix" in answer.err
    await cli.done("migrate", "--url", url, "--prefix", "shop_")
    await cli.done("ls", "--url", url, "--prefix", "shop_")


async def test_missing_tables_are_named_by_their_schema(cli: Commands, postgresql_url: str):
    await cli.done("migrate", "--url", postgresql_url)
    answer = await cli.run("stats", "--url", postgresql_url, "--schema", "shop")
    assert (answer.code, answer.out) == (1, "")
    assert 'Looked for: prefix "aiotaskstore_", schema "shop".' in answer.err
    await cli.done("migrate", "--url", postgresql_url, "--schema", "shop")
    assert (await cli.done("stats", "--json", "--url", postgresql_url, "--schema", "shop")).json["queues"] == {}


async def test_a_database_without_tables_says_how_to_make_them(cli: Commands, url: str):
    answer = await cli.run("ls", "--url", url)
    assert (answer.code, answer.out) == (1, "")
    assert "aiotaskstore migrate" in answer.err
    file = Path(url.removeprefix("sqlite:///"))
    assert not url.startswith("sqlite") or not file.exists()
