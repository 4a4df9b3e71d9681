"""How a refusal is judged: ours, of the right class, worded for a person, and leaving nothing behind."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from aiotaskstore import TaskStore, TaskStoreError

Call = Callable[[TaskStore], Any]
"""Makes an awaitable, or raises before there is one."""


class Refusal(NamedTuple):
    """A call that must be refused, and how."""

    name: str
    kind: type[TaskStoreError]
    words: str
    """A pattern that the message holds: what was found, what was expected, what to do."""
    call: Call


async def refusal_of(call: Callable[[], Any]) -> BaseException:
    """What a call raises, at once or when awaited."""
    try:
        await call()
    except Exception as error:  # noqa: BLE001 - judged by whoever asks
        return error
    raise AssertionError("nothing was raised")


async def together(*calls: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run calls at once; gives what each returned or raised, in order."""
    tasks = [asyncio.get_running_loop().create_task(call) for call in calls]
    await asyncio.wait(tasks)
    return [asyncio.CancelledError() if task.cancelled() else task.exception() or task.result() for task in tasks]


def judge(error: BaseException, kind: type[TaskStoreError], words: str) -> None:
    """Fail unless the error is exactly of this class and says this."""
    assert isinstance(error, TaskStoreError), f"{type(error).__module__}.{type(error).__name__} leaks out: {error}"
    assert type(error) is kind, f"{type(error).__name__} instead of {kind.__name__}: {error}"
    message = str(error)
    assert re.search(words, message, re.DOTALL), f"{message!r} does not say {words!r}"
    message.encode()
    assert "\0" not in message
    assert len(message) < 1_000, f"{len(message)} characters are no message"
