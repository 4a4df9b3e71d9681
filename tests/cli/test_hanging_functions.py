"""A function of a schedule, or a handler, that never returns keeps no worker from ending."""

from __future__ import annotations

import json
import signal

import pytest

from tests.cli.command import Commands
from tests.helpers import eventually

APP = """
import os, threading
from datetime import timedelta
from pathlib import Path
from aiotaskstore import Every, TaskStore
import aiotaskstore.dispatch.schedule_planner, aiotaskstore.payload_function

store = TaskStore(os.environ["AIOTASKSTORE_URL"])
limit = float(os.environ["LIMIT_OF_A_CALL"])
for module, name in (aiotaskstore.payload_function, "LIMIT"), (aiotaskstore.dispatch.schedule_planner, "_LIMIT"):
    assert hasattr(module, name)
    setattr(module, name, limit)

def hang():
    Path("hangs").touch()
    threading.Event().wait()

def following(instant):
    if os.environ["HANGS"] == "recurrence":
        hang()
    return instant + timedelta(seconds=0.1)

def payload():
    hang()

@store.task
async def work() -> None: ...

if os.environ["HANGS"] == "recurrence":
    work.schedule(following, name="hanging")
else:
    work.schedule(Every(0.1), name="hanging", payload=payload)
"""


@pytest.mark.parametrize("limit", [30, 0.2], ids=["while it is waited for", "after it was given up"])
@pytest.mark.parametrize("which", ["payload", "recurrence"])
async def test_a_worker_ends_by_itself_while_a_function_hangs(cli: Commands, sqlite_url: str, which: str, limit: float):
    (cli.folder / "hanging.py").write_text(APP)
    given = {"AIOTASKSTORE_URL": sqlite_url, "LIMIT_OF_A_CALL": str(limit), "HANGS": which}
    worker = cli.start("worker", "--app=hanging:store", **given)
    await eventually((cli.folder / "hangs").exists)
    if limit < 1:
        await worker.says('The schedule "hanging"')
    worker.signal(signal.SIGTERM)
    assert (await worker.ends()).code == 0


HANGING_HANDLERS = """
import asyncio, os, threading
from pathlib import Path
from aiotaskstore import TaskStore

store = TaskStore(os.environ["AIOTASKSTORE_URL"])

@store.task
def hang_in_thread():
    Path("in thread").touch()
    threading.Event().wait()

@store.task
async def ignore_cancellation():
    Path("in loop").touch()
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
"""


async def test_a_worker_ends_by_itself_while_handlers_hang(cli: Commands, sqlite_url: str):
    """A task whose thread hangs keeps its claim until the lease is over, since the thread may still do something."""
    (cli.folder / "hanging.py").write_text(HANGING_HANDLERS)
    given = {"AIOTASKSTORE_URL": sqlite_url}
    for alias in ("hang_in_thread", "ignore_cancellation"):
        await cli.run("enqueue", "--app=hanging:store", alias, **given)
    worker = cli.start("worker", "--app=hanging:store", "--grace=0.1", **given)
    await eventually((cli.folder / "in thread").exists)
    await eventually((cli.folder / "in loop").exists)
    worker.signal(signal.SIGTERM)
    ended = await worker.ends()
    assert ended.code == 3
    assert "the process exits all the same" in ended.err
    listed = json.loads((await cli.run("--json", "ls", **given)).out)
    assert {one["alias"]: one["status"] for one in listed} == {
        "hang_in_thread": "running",
        "ignore_cancellation": "failed",
    }
