"""A context of which nothing is stored, as a handler that is called directly sees it."""

from __future__ import annotations

import logging
from typing import Any
from uuid import uuid4

import pytest

from aiotaskstore import ConfigurationError, TaskContext, TaskRouter, current_context
from aiotaskstore.context import running_context
from aiotaskstore.direct import DirectRun


def context(**options: Any) -> TaskContext:
    return TaskContext(DirectRun("work"), "the store", options)


def test_parameters_are_what_the_command_line_gave():
    given = context(name="Tom Jones", tags="a;b;c", numbers=["1", 2], none=None, zero=0)
    assert given.param("name") == "Tom Jones"
    assert given.param("absent") == ""
    assert given.param("absent", 5) == 5
    assert given.param_list("tags") == ["a", "b", "c"]
    assert given.param_list("numbers") == ["1", "2"]
    assert given.param_list("name") == ["Tom Jones"]
    assert given.param_list("zero") == ["0"]
    assert given.param_list("none") == given.param_list("absent") == []


def test_its_task_is_a_first_attempt_that_is_not_stored():
    given = context()
    assert (given.task_id, given.cancelled, given.metadata, given.output, given.store) == (
        None,
        False,
        {},
        None,
        "the store",
    )
    task = given.task
    assert given.task is task
    assert (task.alias, task.queue, task.status, task.attempt, given.attempt) == ("work", "default", "running", 1, 1)
    assert (task.parent_id, task.definition_id, task.owner, task.errors, task.metadata) == (None, None, None, [], {})


async def test_what_it_is_told_goes_to_the_log(caplog: pytest.LogCaptureFixture):
    given = context()
    with caplog.at_level(logging.INFO, logger="aiotaskstore.task"):
        given.info("one")
        given.success("two")
        given.error("three")
        await given.progress("four", fraction=0.5)
        await given.progress("five")
    assert [(record.levelname, record.getMessage().strip()) for record in caplog.records] == [
        ("INFO", "one"), ("INFO", "two"), ("ERROR", "three"),
        ("INFO", "progress: four 50%"), ("INFO", "progress: five"),
    ]  # fmt: skip
    assert (given.last_info, given.last_success, given.last_error) == ("one", "two", "three")


@pytest.mark.parametrize("fraction", [-0.01, 1.01, float("nan"), float("inf"), "half"])
async def test_a_fraction_that_is_none_is_refused(fraction: Any):
    with pytest.raises(ConfigurationError, match="A progress fraction is a number from 0 to 1, not"):
        await context().progress(fraction=fraction)


@pytest.mark.parametrize("fraction", [0, 0.5, 1, None])
async def test_a_fraction_may_be_left_out_or_be_its_bounds(fraction: float | None):
    await context().progress("x", fraction=fraction)


async def test_a_handler_called_directly_is_given_a_context_of_its_own():
    router = TaskRouter()

    @router.task
    async def told(given: TaskContext, n: int) -> tuple[bool, int]:
        return given.task_id is None, n

    @router.task
    def told_in_a_thread(given: TaskContext, n: int) -> tuple[bool, int]:
        return given.task_id is None, n

    assert await told(5) == (True, 5)
    assert await told_in_a_thread(n=5) == (True, 5)


async def test_a_handler_called_inside_a_run_shares_its_context():
    router = TaskRouter()

    @router.task
    async def told(given: TaskContext) -> Any:
        return given

    mine = context()
    token = running_context.set(mine)
    try:
        assert await told() is mine
        assert current_context() is mine
    finally:
        running_context.reset(token)
    with pytest.raises(ConfigurationError, match="works only inside a task's handler"):
        current_context()


def test_only_a_first_parameter_is_a_context_however_it_is_written():
    import aiotaskstore

    async def by_name(c: TaskContext) -> None: ...
    async def by_module(c: aiotaskstore.TaskContext) -> None: ...
    async def quoted(c: "TaskContext") -> None: ...  # noqa: UP037 - people write it
    async def other(c: uuid4) -> None: ...  # type: ignore[valid-type]
    async def nothing() -> None: ...

    takes = [TaskRouter().task(handler).takes_context for handler in (by_name, by_module, quoted, other, nothing)]
    assert takes == [True, True, True, False, False]
