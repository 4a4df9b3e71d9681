"""Calls a function that makes the payload of an occurrence."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from aiotaskstore.errors import PayloadError
from aiotaskstore.function_calls import FunctionCalls
from aiotaskstore.handler_call import is_async
from aiotaskstore.schedule import PayloadFunction

LIMIT = 30.0
"""Seconds that a function may take; the occurrence is skipped then."""


async def call_payload_function(
    function: PayloadFunction, name: str, occurrence: datetime, calls: FunctionCalls
) -> dict[str, Any] | None:
    """Return what the function of this schedule makes for an occurrence; `None` to skip it.

    A plain function runs in a thread. Raises `PayloadError` for what can be no payload, `TimeoutError` after `LIMIT`,
    `FunctionHangsError` while an earlier call hangs, and what the function raises.
    """
    call = partial(function, occurrence) if _takes_occurrence(function) else function
    async with asyncio.timeout(LIMIT):
        if is_async(function):
            value = await call()
        else:
            value = await calls.call(name, call)
            value = await value if inspect.isawaitable(value) else value
    if value is None:
        return None
    if not isinstance(value, Mapping) or any(not isinstance(key, str) for key in value):
        raise PayloadError(
            f'The payload function of the schedule "{name}" returned {value!r:.100}; it must return arguments by name, '
            'such as {"user_id": 42}, or None to skip the occurrence.'
        )
    return dict(value)


def _takes_occurrence(function: PayloadFunction) -> bool:
    """Return whether a function needs an argument, which is the occurrence."""
    try:
        inspect.signature(function).bind()
    except TypeError:
        return True
    except ValueError:  # a function of C without a signature
        return False
    return False
