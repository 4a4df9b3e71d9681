"""A function of a schedule that never returns keeps no worker from ending."""

from __future__ import annotations

import signal

import pytest

from tests.cli.command import Commands
from tests.helpers import eventually

APP = """
import os, threading
from datetime import timedelta
from pathlib import Path
from aiotaskstore import Every, TaskStore
import aiotaskstore.dispatch.scheduler, aiotaskstore.payload_function

store = TaskStore(os.environ["AIOTASKSTORE_URL"])
limit = float(os.environ["LIMIT_OF_A_CALL"])
aiotaskstore.payload_function.LIMIT = aiotaskstore.dispatch.scheduler._LIMIT = limit

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
