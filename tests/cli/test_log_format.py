"""`worker --log-format json`: whatever stands on stderr is one JSON object a line."""

from __future__ import annotations

import json
import signal

from aiotaskstore import TaskStore
from tests.cli.command import APP, Commands
from tests.helpers import eventually

APP_THAT_LOGS = """
import logging
from aiotaskstore import TaskStore

store = TaskStore.from_env()
log = logging.getLogger("shop")

@store.task(queue="mails")
def send(to: str) -> None:
    log.warning("to %s", to, extra={"order": 7})
"""


async def test_every_line_of_a_worker_is_json_also_with_a_traceback_and_of_its_supervisor(
    cli: Commands, sqlite_url: str
):
    async with TaskStore(sqlite_url) as store:
        failed = await store.enqueue("explode", {"why": "one\ntwo"}, unchecked=True)
    worker = cli.start("worker", APP, "--url", sqlite_url, "--processes", "2", "--log-format", "json")
    await worker.says('"ERROR"')
    await eventually(lambda: worker.err.count("woken by") == 2)
    worker.signal(signal.SIGTERM)
    answer = await worker.ends()
    assert answer.code == 0
    records = [json.loads(line) for line in answer.err.splitlines()]
    assert all({"timestamp", "level", "logger", "process", "message"} <= one.keys() for one in records)
    (failure,) = [one for one in records if one["level"] == "ERROR"]
    assert (failure["task_id"], failure["alias"], failure["attempt"]) == (str(failed.id), "explode", 1)
    assert failure["traceback"].startswith("Traceback")
    assert "raise RuntimeError(why)" in failure["traceback"]
    assert any(one["message"].startswith("worker of tests.cli.app:store") for one in records)
    assert len({one["process"] for one in records}) >= 3


async def test_the_records_of_a_handler_name_its_task_and_what_ends_a_worker_is_json_too(
    cli: Commands, sqlite_url: str
):
    (cli.folder / "shop.py").write_text(APP_THAT_LOGS)
    async with TaskStore(sqlite_url) as store:
        sent = await store.enqueue("send", {"to": "x@example.org"}, queue="mails", unchecked=True)
    shop = ("worker", "--app", "shop:store", "--drain", "--log-format", "json", "--url")
    answer = await cli.done(*shop, sqlite_url)
    records = [json.loads(line) for line in answer.err.splitlines()]
    (mine,) = [one for one in records if one["logger"] == "shop"]
    assert mine["message"] == "to x@example.org"
    assert (mine["task_id"], mine["alias"], mine["queue"], mine["attempt"]) == (str(sent.id), "send", "mails", 1)
    assert mine["order"] == 7
    assert mine["dispatcher"]
    away = await cli.run(*shop, "postgresql://127.0.0.1:1/none")
    assert away.code == 75
    assert [json.loads(line)["level"] for line in away.err.splitlines()][-1] == "CRITICAL"


async def test_json_is_refused_where_the_app_has_handlers_of_its_own(cli: Commands, sqlite_url: str):
    (cli.folder / "shop.py").write_text(f"import logging\nlogging.basicConfig()\n{APP_THAT_LOGS}")
    answer = await cli.run("worker", "--app", "shop:store", "--drain", "--log-format", "json", "--url", sqlite_url)
    assert answer.code == 2
    assert "configured handlers" in answer.err
