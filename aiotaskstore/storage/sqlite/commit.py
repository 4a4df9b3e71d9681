"""Commits a group of operations in one transaction, each operation in a savepoint."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from aiotaskstore.storage.operation import Operation
from aiotaskstore.storage.sqlite.error_translation import translated

_LONGEST = 0.1
"""Seconds after which a group ends with the operation under way, so that others have the write lock in between."""
CommitResult = tuple[Any, BaseException | None]
"""What an operation returned, or the error it failed with."""


class Group:
    """Commits operations together, in the writer's thread.

    `begin` takes the write lock, `run` runs one operation, `end` commits.
    """

    def __init__(
        self, begin: Callable[[], None], run: Callable[[Operation[Any]], Any], end: Callable[[], None]
    ) -> None:
        self._begin, self._run, self._end = begin, run, end

    def commit(self, raw: sqlite3.Connection, operations: Sequence[Operation[Any]]) -> list[CommitResult]:
        """Return the result of each operation; an operation that fails is rolled back alone.

        Of operations that take long together only the first are run, and there are as many results.

        SQLite rolls back the whole transaction by itself if the disk is full or broken, or memory is short. Then
        nothing of the group is stored, and each operation is run again in a transaction of its own: each has its own
        result, and none fails because of another one.
        """
        self._begin()
        try:
            results = self._run_some(raw, operations)
            self._end()
        except BaseException as error:  # noqa: BLE001 - raised where the operation is awaited
            roll_back(raw)
            if len(operations) == 1:
                return [(None, error.cause if isinstance(error, _Undone) else error)]
            return [self._alone(raw, operation) for operation in operations]
        return results

    def _run_some(self, raw: sqlite3.Connection, operations: Sequence[Operation[Any]]) -> list[CommitResult]:
        results: list[CommitResult] = []
        until = time.monotonic() + _LONGEST
        for operation in operations:
            results.append(self._in_savepoint(raw, operation))
            if time.monotonic() >= until:
                break
        return results

    def _alone(self, raw: sqlite3.Connection, operation: Operation[Any]) -> CommitResult:
        try:
            return self.commit(raw, [operation])[0]
        except Exception as error:  # noqa: BLE001 - from taking the lock
            return None, error

    def _in_savepoint(self, raw: sqlite3.Connection, operation: Operation[Any]) -> CommitResult:
        with translated():
            raw.execute("SAVEPOINT operation")
        try:
            result = self._run(operation)
        except BaseException as error:
            if not raw.in_transaction:
                raise _Undone(error) from error
            with translated():
                raw.execute("ROLLBACK TO operation")
                raw.execute("RELEASE operation")
            return None, error
        with translated():
            raw.execute("RELEASE operation")
        return result, None


def roll_back(raw: sqlite3.Connection) -> None:
    """Roll back the open transaction, if there is one. If that fails, so does the next BEGIN."""
    if raw.in_transaction:
        with suppress(sqlite3.Error):
            raw.execute("ROLLBACK")


class _Undone(Exception):  # noqa: N818 - never leaves this file
    """SQLite has rolled back the whole transaction by itself, because of this error."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__()
        self.cause = cause
