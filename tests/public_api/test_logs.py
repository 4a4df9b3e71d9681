"""What the log says of each run: that it started, how it ended, and where an attempt failed."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from aiotaskstore import Fail, Snooze, TaskContext, TaskFinished, TaskStarted, TaskStore
from tests.helpers import expect

LOGGER = "aiotaskstore.dispatcher"


def lines(caplog: pytest.LogCaptureFixture, about: object) -> list[tuple[str, str]]:
    """Give level and message of each record about a task."""
    return [
        (one.levelname, one.getMessage())
        for one in caplog.records
        if one.name == LOGGER and str(about) in one.getMessage()
    ]


async def test_each_start_and_each_end_is_told_at_info(store: TaskStore, caplog: pytest.LogCaptureFixture):
    @store.task(queue="sums")
    async def add(a: int) -> int:
        return a

    @store.task
    async def doze() -> None:
        raise Snooze(3600)

    with caplog.at_level(logging.INFO, "aiotaskstore"):
        added, dozed = await add.enqueue(1), await doze.enqueue()
        await store.dispatcher().run_once()
    (level, started), (end_level, finished) = lines(caplog, added.id)
    assert (level, end_level) == ("INFO", "INFO")
    assert started == f"add {added.id} started (queue sums, attempt 1)"
    assert finished.startswith(f"add {added.id} succeeded in ")
    assert finished.endswith("s")
    assert [text.partition(str(dozed.id))[2].split()[0] for _, text in lines(caplog, dozed.id)] == [
        "started",
        "snoozed",
    ]
    assert lines(caplog, dozed.id)[-1][1].endswith("again in 1h")


async def test_an_attempt_that_fails_logs_its_traceback_also_if_another_follows(
    store: TaskStore, caplog: pytest.LogCaptureFixture
):
    @store.task(max_attempts=2, backoff=0)
    async def fails() -> None:
        raise ValueError("no good")

    @store.task
    async def refuses() -> None:
        raise Fail("never")

    with caplog.at_level(logging.INFO, "aiotaskstore"):
        failed, refused = await fails.enqueue(), await refuses.enqueue()
        await store.dispatcher().run_once()
    # Attempt by attempt: the next one may be claimed before the database's answer is here that the first is stored.
    told = sorted(lines(caplog, failed.id), key=lambda line: "attempt 2" in line[1])
    assert [level for level, _ in told] == ["INFO", "WARNING", "INFO", "ERROR"]
    assert "failed, attempt 1: ValueError: no good; again at once" in told[1][1]
    assert "failed, attempt 2: ValueError: no good" in told[3][1]
    assert caplog.text.count('raise ValueError("no good")') == 2
    assert caplog.text.count(Path(__file__).name) >= 2
    assert [level for level, _ in lines(caplog, refused.id)] == ["INFO", "ERROR"]


async def test_a_cancelled_task_is_told_with_its_reason(store: TaskStore, caplog: pytest.LogCaptureFixture):
    @store.task
    async def lingers() -> None:
        await asyncio.Event().wait()

    with caplog.at_level(logging.INFO, "aiotaskstore"):
        async with store.dispatcher():
            async with expect(store, TaskStarted):
                handle = await lingers.enqueue()
            async with expect(store, TaskFinished):
                await handle.cancel("no need")
    (_, finished) = lines(caplog, handle.id)[-1]
    assert finished.startswith(f"lingers {handle.id} cancelled (request) in ")


async def test_above_info_no_event_is_made_for_the_log(store: TaskStore, caplog: pytest.LogCaptureFixture):
    @store.task
    async def work() -> None: ...

    hooks = store._hooks
    with caplog.at_level(logging.WARNING, "aiotaskstore"):
        assert not hooks.has_listener(TaskStarted)
        assert not hooks.has_listener(TaskFinished)
    with caplog.at_level(logging.INFO, "aiotaskstore"):  # heard at once, also by a dispatcher that runs already
        assert hooks.has_listener(TaskStarted)
        assert hooks.has_listener(TaskFinished)
    store.on(TaskFinished, print)
    with caplog.at_level(logging.WARNING, "aiotaskstore"):
        assert hooks.has_listener(TaskFinished)
        assert not hooks.has_listener(TaskStarted)


async def test_what_a_handler_tells_is_logged_with_its_task(store: TaskStore, caplog: pytest.LogCaptureFixture):
    @store.task
    async def tells(context: TaskContext, n: int) -> None:
        context.info(f"line {n}")

    with caplog.at_level(logging.INFO, "aiotaskstore.task"):
        ids = await store.enqueue_many([tells.draft(n) for n in range(3)])
        await store.dispatcher().run_once()
    told = sorted(one.getMessage() for one in caplog.records if one.name == "aiotaskstore.task")
    assert told == sorted(f"{task_id}: line {n}" for n, task_id in enumerate(ids))
