"""`TaskLogFilter`: an application's own log records tell which run they belong to."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from aiotaskstore import TaskContext, TaskLogFilter, TaskStore

FORMAT = "%(message)s|%(task_id)s|%(alias)s|%(queue)s|%(attempt)s|%(dispatcher)s"


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger of an application, and what its handler with the filter has written."""
    logger, written = logging.getLogger("shop"), io.StringIO()
    handler = logging.StreamHandler(written)
    handler.addFilter(TaskLogFilter())
    handler.setFormatter(logging.Formatter(FORMAT))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield logger, written
    logger.removeHandler(handler)


async def test_what_a_handler_logs_is_marked_with_its_run_also_in_its_thread_and_in_its_hooks(
    log: tuple[logging.Logger, io.StringIO],
):
    logger, written = log
    store = TaskStore("sqlite://")
    dispatchers: set[str] = set()

    @store.task(queue="mails", max_attempts=2, backoff=0)
    async def send(context: TaskContext) -> None:
        dispatchers.add(str(context.task.dispatcher_id))
        logger.info("sending")
        if context.attempt == 1:
            raise ConnectionError

    @store.task
    def thumbnail() -> None:
        logger.info("in a thread")

    @store.before
    def before(context: TaskContext) -> None:
        logger.info("before")

    async with store:
        mail, picture = await send.enqueue(), await thumbnail.enqueue()
        logger.info("outside")
        await store.dispatcher().run_once()
    (dispatcher,) = dispatchers
    assert sorted(written.getvalue().splitlines()) == sorted(
        [
            "outside|||||",
            *[
                f"{text}|{mail.id}|send|mails|{attempt}|{dispatcher}"
                for attempt in (1, 2)
                for text in ("before", "sending")
            ],
            *[f"{text}|{picture.id}|thumbnail|default|1|{dispatcher}" for text in ("before", "in a thread")],
        ]
    )


async def test_a_direct_call_has_no_stored_task_to_name(log: tuple[logging.Logger, io.StringIO]):
    logger, written = log
    store = TaskStore("sqlite://")

    @store.task(queue="mails")
    async def send() -> None:
        logger.info("sending")

    await send()
    assert written.getvalue() == "sending||send|mails|1|\n"


def test_what_a_record_has_by_extra_stays(log: tuple[logging.Logger, io.StringIO]):
    logger, written = log
    logger.info("mine", extra={"queue": "checkout"})
    assert written.getvalue() == "mine|||checkout||\n"


async def test_the_librarys_own_records_name_their_task_and_have_one_line_but_for_tracebacks(
    caplog: pytest.LogCaptureFixture,
):
    store = TaskStore("sqlite://")

    @store.task(queue="mails", max_attempts=2, backoff=0)
    async def send(context: TaskContext) -> None:
        context.info("first line\nsecond line")
        if context.attempt == 1:
            raise ValueError("one\ntwo")

    with caplog.at_level(logging.INFO, "aiotaskstore"):
        async with store, store.dispatcher():
            handle = await send.enqueue()
            await handle.wait(60)
    records = [one for one in caplog.records if "send" in one.getMessage() or "first line" in one.getMessage()]
    texts = [one.getMessage() for one in records]
    assert not [text for text in texts if "\n" in text]
    assert any(r"ValueError: one\ntwo" in text for text in texts)
    assert any(r"first line\nsecond line" in text for text in texts)
    assert {(one.__dict__["task_id"], one.__dict__["alias"], one.__dict__["queue"]) for one in records} == {
        (str(handle.id), "send", "mails")
    }
    assert {one.__dict__["attempt"] for one in records} == {1, 2}
    assert len({one.__dict__["dispatcher"] for one in records}) == 1
    assert all(one.__dict__["dispatcher"] for one in records)
