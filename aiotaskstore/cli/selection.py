"""Tasks as people name them: by id, or by as much of its beginning as is unique."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar
from uuid import UUID

from aiotaskstore import Task, TaskStore, TaskStoreError
from aiotaskstore.cli.exit_code import ExitCode, Failure, code_of, sentence_of

SHORTEST = 4
"""Digits that a shortened id must have at least."""
_DIGITS = 32
_SHOWN = 10
"""Candidates listed where a beginning is not unique."""

Item = TypeVar("Item")
T = TypeVar("T")


class WrittenId(NamedTuple):
    """An id as it was typed."""

    text: str
    digits: str
    """Its hexadecimal digits, perhaps only the first ones."""

    @property
    def whole(self) -> bool:
        """Whether no digit is missing."""
        return len(self.digits) == _DIGITS


async def each(
    store: TaskStore, written: Sequence[WrittenId], act: Callable[[UUID], Awaitable[T]]
) -> tuple[list[T], ExitCode]:
    """Call `act` for each task named; return the results and the exit code.

    A beginning that is not unique is a usage error before anything is done. Of several tasks, one that fails is
    reported and the others go on; the exit code is then that of the failures, or 1 where they differ.
    """
    ids = [await _find(store, one) for one in written]
    return await each_of(list(zip(ids, written, strict=True)), lambda found: act(_known(*found)))


async def each_of(items: Sequence[Item], act: Callable[[Item], Awaitable[T]]) -> tuple[list[T], ExitCode]:
    """Call `act` for each item, as `each` does; return the results and the exit code."""
    done: list[T] = []
    codes: set[ExitCode] = set()
    for item in items:
        try:
            done.append(await act(item))
        except (TaskStoreError, Failure) as error:
            failure = error if isinstance(error, Failure) else Failure(sentence_of(error), code_of(error))
            if len(items) == 1 or failure.exit_code is ExitCode.UNAVAILABLE:
                raise failure from error
            failure.show()
            codes.add(failure.exit_code)
    return done, ExitCode.DONE if not codes else codes.pop() if len(codes) == 1 else ExitCode.FAILED


async def _find(store: TaskStore, written: WrittenId) -> UUID | None:
    """Return the id meant; `None` where no task's id begins so."""
    if written.whole:
        return UUID(hex=written.digits)
    lowest = int(written.digits.ljust(_DIGITS, "0"), 16)
    page = await store.tasks.list(
        after=UUID(int=max(0, lowest - 1)), descending=False, limit=_SHOWN + 1, include_deleted=True
    )
    found = [task for task in page if task.id.hex.startswith(written.digits)]
    if len(found) > 1:
        raise _ambiguous(written, found)
    return found[0].id if found else None


def _known(task_id: UUID | None, written: WrittenId) -> UUID:
    if task_id is None:
        raise Failure(f"No task's id begins with {written.text}.", ExitCode.NOT_FOUND)
    return task_id


def _ambiguous(written: WrittenId, found: Sequence[Task]) -> Failure:
    lines = [f"  {task.id}  {task.alias}  {task.status}" for task in found[:_SHOWN]]
    more = ["  …"] if len(found) > _SHOWN else []
    several = "more than one task" if more else f"{len(found)} tasks"
    return Failure(
        "\n".join([f"{written.text} begins the ids of {several}; write more of it:", *lines, *more]), ExitCode.USAGE
    )
