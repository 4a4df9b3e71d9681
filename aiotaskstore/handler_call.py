"""How a handler is called: an `async def` on the event loop, a `def` in a thread."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

_Ended = tuple[Any, BaseException | None]
"""What a handler returned, or what it raised."""


def is_async(handler: Callable[..., Any]) -> bool:
    """Return whether a handler runs on the event loop."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004 - an object with an async __call__ is a handler too
    )


async def call_in_thread(
    handler: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    in_thread: Callable[[Callable[[], _Ended]], Awaitable[_Ended]],
) -> Any:
    """Call a `def` handler in the thread that `in_thread` chooses, and return its result."""
    value = _value_or_raise(*await in_thread(partial(_call, handler, args, kwargs)))
    return await value if inspect.isawaitable(value) else value


def _call(handler: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Ended:
    """Call a handler in its thread; return an exception as a value.

    A future cannot carry every exception: GeneratorExit would close the waiting coroutines, not be raised in them.
    """
    try:
        return handler(*args, **kwargs), None
    except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
        return None, error


def _value_or_raise(value: Any, error: BaseException | None) -> Any:
    """Return what a handler returned in its thread, or raise what it raised."""
    if error is None:
        return value
    try:
        raise error
    finally:
        del error  # or its traceback and this frame keep each other for the garbage collector
