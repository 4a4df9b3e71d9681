"""`aiotaskstore exec`: a handler here and now, and `list`, which tells which there are."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from aiotaskstore import TaskStore
from aiotaskstore.cli.app import commands
from tests.cli.command import Commands

APP = "--app=tests.cli.handlers_app:store"
SOME = "00000000-0000-0000-0000-000000000007"


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(commands, [APP, *arguments])


def result_of(*arguments: str) -> Any:
    answer = ask("exec", *arguments)
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


def options_of(*arguments: str) -> Any:
    return result_of("texts", *arguments)["options"]


# ── which handler ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.acceptance("A125")
@pytest.mark.parametrize("command", [["list"], ["exec", "list"], ["exec", "LIST"]])
def test_list_numbers_what_is_registered_in_that_order(command: list[str]):
    answer = ask(*command)
    assert answer.exit_code == 0, answer.output
    lines = answer.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["#", "1", "2", "3", "4", "5", "6", "7"]
    assert [line.split()[1] for line in lines[1:]] == [
        "my-task",
        "HelloWorld",
        "Texts",
        "Output",
        "typed",
        "visit",
        "fails",
    ]
    assert "My task" in lines[1]
    assert "Return what was given." in lines[1]
    assert "Hello World" in lines[2]
    assert "Say hello" in lines[2]
    listed = json.loads(ask("--json", *command).stdout)
    assert (listed[0]["alias"], listed[0]["title"]) == ("my-task", "My task")


def test_list_takes_no_arguments():
    answer = ask("exec", "list", "--name=x")
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert '"list" lists the handlers, and takes nothing after it' in answer.stderr
    assert json.loads(ask("exec", "list", "--json").stdout) == json.loads(ask("--json", "exec", "list").stdout)


@pytest.mark.acceptance("A126")
@pytest.mark.parametrize("alias", ["my-task", "My_Task", "mytask", "MYTASK", "old_task", "Old-Task"])
def test_an_alias_matches_whatever_its_case_and_its_dashes(alias: str):
    assert result_of(alias, "--x=1")["x"] == "1"


@pytest.mark.acceptance("A126")
def test_an_unknown_alias_is_told_with_the_one_that_may_be_meant():
    answer = ask("exec", "my-tusk")
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert 'No task is registered as "my-tusk". Did you mean "my-task"?' in answer.stderr


# ── arguments ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], {}),
        (["--"], {}),
        (["--name", "Tom Jones"], {"name": "Tom Jones"}),
        (["--name=Tom Jones"], {"name": "Tom Jones"}),
        (["--query=a=b=c", "--other", "d=e"], {"query": "a=b=c", "other": "d=e"}),
        (["--loud"], {"loud": ""}),
        (["--loud", "--name", "Tom"], {"loud": "", "name": "Tom"}),
        (["--name="], {"name": ""}),
        (["--name=Tom", "--name", "Ann"], {"name": "Ann"}),
        (["--user-id=1", "--first_name", "x"], {"user_id": "1", "first_name": "x"}),
        (["--delta", "-5", "--hugo", "-h"], {"delta": "-5", "hugo": "-h"}),
        (["--name=--x"], {"name": "--x"}),
        (["  --name  ", "  Tom  "], {"name": "Tom"}),
        (["--", "--json", "--url=x", "--app", "y"], {"json": "", "url": "x", "app": "y"}),
        (["--json=1"], {"json": "1"}),
        (["--json", "1"], {"json": "1"}),
        (["--", "--help"], {"help": ""}),
        (["--name", "Tom", "--", "--name", "Ann"], {"name": "Ann"}),
        (["--name", "--", "--x=1"], {"name": "", "x": "1"}),
        (["--имя", "Том"], {"имя": "Том"}),
    ],
)
def test_arguments_are_read_as_they_are_meant(arguments: list[str], options: dict[str, str]):
    assert options_of(*arguments) == options


@pytest.mark.parametrize(
    "arguments", [["stray"], ["--name", "Tom", "Jones"], ["-n", "Tom"], ["--=5"], ["--name=Tom", "--", "x"]]
)
def test_what_belongs_to_no_option_is_refused(arguments: list[str]):
    answer = ask("exec", "texts", *arguments)
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "belongs to no option of the handler" in answer.stderr


def test_options_of_the_command_are_taken_wherever_they_stand():
    for arguments in (
        ["exec", "--json", "texts", "--x=1"],
        ["exec", "texts", "--x=1", "--json"],
        ["exec", "texts", "--json", "--x=1"],
        ["--json", "exec", "texts", "--x", "1"],
    ):
        answer = json.loads(ask(*arguments).stdout)
        assert answer["result"]["options"] == {"x": "1"}
    for app in ([APP], APP.split("=")):
        for arguments in (["exec", *app, "texts", "--x=1"], ["exec", "texts", *app, "--x", "1"]):
            answer_to = CliRunner().invoke(commands, arguments, env={"AIOTASKSTORE_APP": None})
            assert answer_to.exit_code == 0, answer_to.output
            assert json.loads(answer_to.stdout)["options"] == {"x": "1"}
    answer = CliRunner().invoke(commands, ["exec", "texts", "--app"], env={"AIOTASKSTORE_APP": None})
    assert (answer.exit_code, "--app has no value" in answer.stderr) == (2, True)


def test_what_was_given_before_the_alias_is_the_handlers_behind_it():
    answer = CliRunner().invoke(commands, ["exec", *APP.split("="), "texts", "--app", "x"])
    assert json.loads(answer.stdout)["options"] == {"app": "x"}


def test_an_option_of_both_is_refused_and_belongs_to_the_handler_after_two_dashes():
    answer = ask("exec", "visit", "--json")
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "--json is an option of this command and an argument of visit" in answer.stderr
    assert "aiotaskstore exec visit -- --json" in answer.stderr
    assert result_of("visit", "--", "--url", "x", "--json=1", "--help=no", "--app=a") == ["x", True, "no", "a"]


def test_help_tells_how_it_is_used_and_which_arguments_a_handler_takes():
    answer = ask("exec", "--help")
    assert (answer.exit_code, "Run a handler here and now" in answer.stdout) == (0, True)
    for arguments in (["typed", "--help"], ["typed", "-h"], ["TYPED", "--first", "1", "--help"]):
        answer = ask("exec", *arguments)
        assert (answer.exit_code, answer.stderr) == (0, "")
        lines = [" ".join(line.split()) for line in answer.stdout.splitlines()]
        assert lines[0] == "Usage: aiotaskstore exec typed [--NAME VALUE]..."
        assert "--user-id UUID required" in lines
        assert "--price Decimal Decimal('0')" in lines
    answer = ask("exec", "my_task", "--help")
    assert "Return what was given." in answer.stdout
    assert "--NAME Any as many as you like" in " ".join(answer.stdout.split())


@pytest.mark.acceptance("A66")
def test_a_class_handler_gets_texts():
    assert result_of("texts", "--tags", "a;b;c", "--user-id", "5") == {
        "options": {"tags": "a;b;c", "user_id": "5"},
        "tags": ["a", "b", "c"],
        "by": "5",
        "payload": {"tags": "a;b;c", "user_id": "5"},
    }
    assert result_of("texts", "--tags", "a")["tags"] == ["a"]
    assert result_of("texts")["tags"] == []


def test_a_function_gets_the_types_that_it_declares():
    assert result_of("typed", "--first=5", "--user-id", SOME) == (
        "(5, 7, None, None, Decimal('0'), None, None, <Level.LOW: 1>, <Colour.RED: 'red'>, 'a', False, '')"
    )
    assert result_of(
        "typed", "--first", "-5", "--user_id", SOME, "--on=2030-01-02", "--at", "2030-01-02T03:04:05Z", "--price=1.10",
        "--numbers=[1, 2]", '--size={"width": 5}', "--level=2", "--colour=red", "--kind=b", "--loud", "--text=5",
    ) == (
        "(-5, 7, datetime.date(2030, 1, 2), '2030-01-02T03:04:05+00:00', "
        "Decimal('1.10'), [1, 2], Size(width=5), <Level.HIGH: 2>, <Colour.RED: 'red'>, 'b', True, '5')"
    )  # fmt: skip
    assert "True" in result_of("typed", "--first=1", "--user-id", SOME, "--loud", "yes")
    assert "None" in result_of("typed", "--first=1", "--user-id", SOME, "--on", "null")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "first: Field required; user_id: Field required"),
        (["--first=five", "--user-id=7"], "first: Input should be a valid integer"),
        (["--first", "--user-id=7"], "first: Input should be a valid integer"),
        (["--first=1", "--user-id=7", "--other=1"], "user_id: Input should be a valid UUID"),
        (["--first=1", f"--user-id={SOME}", "--other=1"], "other: Extra inputs"),
        (["--first=1", f"--user-id={SOME}", "--numbers=1;2"], "numbers: Input should be"),
        (["--first=1", f"--user-id={SOME}", "--kind=c"], "kind: Input should be 'a' or 'b'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_anything_runs(arguments: list[str], words: str):
    answer = ask("exec", "typed", *arguments)
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert words in " ".join(answer.stderr.split())
    assert "Expected (first: 'int', /, user_id: 'UUID', *, on: 'date | None'" in " ".join(answer.stderr.split())


# ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.acceptance("A67")
def test_what_it_says_is_printed_and_its_result(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    answer = ask("exec", "hello-world", "--name", "Tom Jones")
    assert (answer.exit_code, answer.stdout) == (0, "true\n")
    assert answer.stderr.splitlines() == ['Running HelloWorld --name="Tom Jones"', "Hello Tom Jones!"]
    assert ask("exec", "output").stdout == "in True\n"
    assert caplog.records == [], "and not once more by what the app does with its log"
    log = logging.getLogger("aiotaskstore.task")
    assert (log.propagate, log.handlers) == (True, []), "the log is as before"


def test_its_end_as_json():
    answer = json.loads(ask("exec", "--json", "my-task", "--x=1").stdout)
    progress = answer.pop("progress")
    assert (progress["text"], progress["fraction"]) == ("half", 0.5)
    assert answer == {
        "alias": "my-task", "succeeded": True, "output": None, "details": [], "error": None,
        "result": {"x": "1", "options": {"x": "1"}, "attempt": 1, "stored": False},
    }  # fmt: skip
    answer = json.loads(ask("exec", "--json", "output").stdout)
    assert (answer["result"], answer["output"]) == ("in True", "in True")
    failed = ask("exec", "--json", "HelloWorld", "--fail=yes")
    assert failed.exit_code == 1
    told = json.loads(failed.stdout)
    assert (told["succeeded"], told["error"], told["details"]) == (False, "handler returned False", ["Hello World!"])


@pytest.mark.acceptance("A128")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["hello-world", "--fail=yes"], "HelloWorld failed: handler returned False"),
        (["fails"], "fails failed: ValueError: no luck"),
        (["fails", "--how=retry"], "fails failed: Retry: later"),
        (["fails", "--how=cancel"], "fails failed: CancelledError"),
        (["fails", "--how=unknown"], 'fails failed: UnknownAliasError: No task is registered as "nobody-knows-it"'),
        (["fails", "--how=no"], 'fails failed: PayloadError: The result of "fails" does not fit'),
    ],
)
def test_a_handler_that_fails_ends_the_command_with_1(arguments: list[str], words: str):
    answer = ask("exec", *arguments)
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert words in answer.stderr
    assert ("raise ValueError" in answer.stderr) is (arguments == ["fails"]), (
        "the line of the application, if it raised"
    )


@pytest.mark.acceptance("A129")
async def test_a_handler_may_enqueue_itself_once(cli: Commands, url: str):
    answer = await cli.done("exec", APP, "--url", url, "helloworld", "--enqueue=yes", "--name", "Tom")
    assert "enqueued" in answer.err
    async with TaskStore(url) as store:
        (task,) = await store.tasks.list()
        assert (task.alias, task.payload, task.status) == ("HelloWorld", {"name": "Tom"}, "pending")
    await cli.done("worker", "--drain", APP, "--url", url)
    async with TaskStore(url) as store:
        (task,) = await store.tasks.list()
        assert (task.status, task.details) == ("succeeded", "Hello Tom!")


NOWHERE = ("--url", "postgresql://nobody@127.0.0.1:1/nowhere")


async def test_a_handler_that_uses_no_database_needs_none(cli: Commands):
    answer = await cli.run("exec", APP, *NOWHERE, "hello-world", "--name=Tom")
    assert (answer.code, answer.out) == (0, "true\n")
    assert "The handler runs without its database." in answer.err
    assert "127.0.0.1" in answer.err
    assert "Hello Tom!" in answer.err


async def test_a_handler_that_needs_its_database_fails_without_it(cli: Commands):
    answer = await cli.run("exec", APP, *NOWHERE, "hello-world", "--enqueue=yes")
    assert (answer.code, answer.out) == (75, "")
    assert "HelloWorld failed: ConfigurationError" in answer.err


async def test_it_needs_an_app(cli: Commands):
    answer = await cli.run("exec", "hello-world")
    assert answer.code == 2
    assert "AIOTASKSTORE_APP" in answer.err
    answer = await cli.run("exec", APP)
    assert (answer.code, "Missing argument" in answer.err) == (2, True)


# ── the app's lifespan ────────────────────────────────────────────────────────────────────────────────────────

WITH_LIFESPAN = """
from collections.abc import AsyncIterator
from aiotaskstore import TaskContext, TaskStore

store = TaskStore("sqlite:///{}/tasks.db")

@store.lifespan
async def resources() -> AsyncIterator[str]:
    if {}:
        raise LookupError("no such server")
    print("entered")
    yield "a client"
    print("left")

@store.task
async def work(context: TaskContext) -> str:
    return f"used {{context.state_as(str)}}"
"""


@pytest.mark.parametrize("broken", [False, True])
def test_a_handler_has_what_the_lifespan_of_its_app_yields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
):
    module = f"lifespan_app_{broken}".lower()
    (tmp_path / f"{module}.py").write_text(WITH_LIFESPAN.format(tmp_path, broken))
    monkeypatch.syspath_prepend(str(tmp_path))
    answer = CliRunner().invoke(commands, [f"--app={module}:store", "exec", "work"])
    if broken:
        assert (answer.exit_code, answer.stdout) == (1, "")
        assert "work failed: LookupError: no such server" in answer.stderr
    else:
        assert answer.stdout.splitlines() == ["entered", "left", '"used a client"'], answer.output
