"""Bisects a batch that the database refused, so that only the items that it cannot store are refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from aiotaskstore.errors import DatabaseUnavailableError, TaskStoreError

Item = TypeVar("Item")
Reply = TypeVar("Reply")


async def write_bisecting(
    write: Callable[[Sequence[Item]], Awaitable[Sequence[Reply]]],
    items: Sequence[Item],
    *,
    unavailable_too: bool = False,
) -> list[Reply | TaskStoreError]:
    """Write items together; after a refusal, write each half by itself. Return a reply or an error for each item.

    A `DatabaseUnavailableError` is no refusal of an item, so every item of that write has it as its error, unless
    `unavailable_too`: then it counts as a refusal.
    """
    try:
        return list(await write(items))
    except TaskStoreError as error:
        if len(items) == 1 or (isinstance(error, DatabaseUnavailableError) and not unavailable_too):
            return [error] * len(items)
    middle = len(items) // 2
    first = await write_bisecting(write, items[:middle], unavailable_too=unavailable_too)
    return [*first, *await write_bisecting(write, items[middle:], unavailable_too=unavailable_too)]
