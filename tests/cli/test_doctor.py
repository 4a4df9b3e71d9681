"""`doctor` says what is wrong and what to do, changes nothing, and tells scripts by its exit code."""

from __future__ import annotations

import asyncio
import socket

from aiotaskstore import TaskStore, noop
from tests.cli.command import APP, Commands, needs_terminal, screen_of


async def test_it_says_what_to_do_and_tells_it_by_its_exit_code(cli: Commands):
    url = "sqlite:///tasks.db"
    absent = await cli.run("doctor", "--url", url)
    assert absent.code == 1
    assert absent.out.startswith("problem\tschema\tThere is no SQLite file ")
    assert absent.out.rstrip().endswith("open a store with migrate=True.")
    assert "0 ok, 0 warnings, 1 problem: sqlite:///tasks.db" in absent.err
    assert not list(cli.folder.glob("tasks.db*"))

    store = TaskStore(f"sqlite:///{cli.folder / 'tasks.db'}")
    await store.migrate()
    well = await cli.run("doctor", "--url", url, "--json")
    assert well.code == 0
    assert {one["severity"] for one in well.json} <= {"ok", "warning"}
    assert well.json[0] == {
        "check": "schema", "severity": "ok", "advice": "",
        "found": 'The tables have version 6, which this library needs (prefix "aiotaskstore_").',
    }  # fmt: skip

    async with store:
        await store.enqueue("renamed", unchecked=True)
    found = await cli.run("doctor", APP, AIOTASKSTORE_URL=url)
    assert found.code == 1
    assert 'problem\tqueues\tThe queue "default" has 1 task due, ' in found.out
    assert "neither a dispatcher that is alive nor this app has one" in found.out


async def test_a_database_that_cannot_be_reached_is_exit_code_75(cli: Commands):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        answer = await cli.run("doctor", "--url", f"postgresql://u@127.0.0.1:{taken.getsockname()[1]}/d")
    assert answer.code == 75
    assert answer.out == ""


@needs_terminal
def test_on_a_terminal_it_is_read_in_80_columns(tmp_path):
    async def fill() -> None:
        async with TaskStore(f"sqlite:///{tmp_path / 'tasks.db'}") as store:
            store.include(noop)
            await noop.options(queue="emails").enqueue()

    asyncio.run(fill())
    code, screen = screen_of(
        "doctor", "--url", "sqlite:///tasks.db", folder=tmp_path, COLUMNS="80", NO_COLOR="1", TERM="xterm"
    )
    assert code == 1
    lines = screen.replace("\r\n", "\n").splitlines()
    assert max(map(len, lines)) < 80
    assert sum(line.startswith('✗ queues       The queue "emails" has 1 task due, ') for line in lines) == 1
    at = lines.index("               → Start a worker that serves it: aiotaskstore worker --app")
    assert lines[at + 1] == "               module:attribute -q emails"
    assert "\x1b[" not in screen
