"""`worker --reload` starts again when code changes, waits while it is broken, and ends at one Ctrl-C."""

from __future__ import annotations

import builtins
import json
import signal

import pytest

from aiotaskstore import ConfigurationError, TaskStore
from aiotaskstore.cli.reloader import Reloader
from tests.cli.command import Commands
from tests.helpers import LIMIT, eventually

APP = """
import asyncio
from pathlib import Path
from aiotaskstore import TaskStore

store = TaskStore("sqlite:///tasks.db")

@store.task
async def greet() -> str:
    return "{word}"

@store.task
async def linger() -> None:
    Path("lingers").touch()
    await asyncio.sleep(3600)
"""


async def test_a_changed_handler_is_what_the_next_task_runs(cli: Commands):
    code = cli.folder / "greeting.py"
    code.write_text(APP.format(word="hello"))
    worker = cli.start("worker", "--app", "greeting:store", "--reload", "--grace", "0.2")
    await worker.says("restarts when a Python file under")
    async with TaskStore(f"sqlite:///{cli.folder / 'tasks.db'}") as store:
        handle = await store.enqueue("greet", unchecked=True)
        assert await handle.result(timeout=LIMIT) == "hello"
        lingering = await store.enqueue("linger")
        await eventually((cli.folder / "lingers").exists)

        code.write_text("this is no Python")  # while a task runs, which is handed back
        await worker.says("greeting.py changed: restarting the worker.")
        await worker.says("SyntaxError: invalid syntax, at greeting.py:1: this is no Python")
        await worker.says("The worker has ended (exit code 2). It starts again when a file changes.")
        assert (await lingering.task()).status == "pending"
        assert (await lingering.task()).attempt == 0
        await lingering.cancel()

        code.write_text(APP.format(word="hullo"))  # as long as it was before, perhaps in the same second
        handle = await store.enqueue("greet")
        assert await handle.result(timeout=LIMIT) == "hullo"
    worker.signal(signal.SIGINT)
    assert (await worker.ends()).code == 0


async def test_where_the_log_is_json_every_line_is(cli: Commands):
    (cli.folder / "greeting.py").write_text(APP.format(word="hello"))
    worker = cli.start("worker", "--app", "greeting:store", "--reload", "--log-format", "json")
    await worker.says("restarts when a Python file under")
    await worker.says("started, woken by")
    worker.signal(signal.SIGINT)
    answer = await worker.ends()
    assert answer.code == 0
    assert all(json.loads(line)["message"] for line in answer.err.splitlines())


async def test_it_says_what_it_cannot_do(cli: Commands):
    several = await cli.run("worker", "--app", "a:b", "--reload", "--processes", "2")
    assert several.code == 2
    assert "--reload keeps one worker running: leave out --processes and --drain." in several.err


async def test_without_watchfiles_it_names_what_to_install(monkeypatch):
    imported = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "watchfiles":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigurationError, match=r"pip install 'aiotaskstore\[cli\]'"):
        await Reloader([], 1, print).run()
