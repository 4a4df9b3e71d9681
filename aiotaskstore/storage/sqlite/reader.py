"""The reader: our only connection that reads, in a thread of its own, so that it never waits for the writer."""

from __future__ import annotations

import asyncio
from functools import partial

from aiotaskstore.storage.faults import timed_out
from aiotaskstore.storage.operation import Operation, T
from aiotaskstore.storage.sqlite.binding import SqliteBinder
from aiotaskstore.storage.sqlite.blocking import run_blocking
from aiotaskstore.storage.sqlite.commit import roll_back
from aiotaskstore.storage.sqlite.connection_thread import ConnectionThread
from aiotaskstore.storage.sqlite.error_translation import translated
from aiotaskstore.storage.sqlite.file import DatabaseFile
from aiotaskstore.storage.sqlite.lock_wait import retry_while_locked

_SLACK = 5.0
"""Seconds after the deadline in which the thread may still raise its own, more precise error."""


class Reader:
    """Runs operations that only read, each on one snapshot."""

    def __init__(self, file: DatabaseFile, binder: SqliteBinder, deadline: float) -> None:
        self._file, self._binder, self._deadline = file, binder, deadline
        self.thread: ConnectionThread = ConnectionThread("reader", partial(file.connect, write=False))

    async def run(self, operation: Operation[T]) -> T:
        """Run the operation. Raises `DatabaseUnavailableError` when the file does not respond."""
        work = partial(retry_while_locked, partial(self._run, operation), self._deadline, self._file.path)
        try:
            async with asyncio.timeout(self._deadline + _SLACK):
                return await self.thread.run(work)
        except TimeoutError as error:
            raise timed_out(f"The SQLite file did not answer within {self._deadline:g} s.") from error

    def _run(self, operation: Operation[T]) -> T:
        self._file.check()
        raw = self.thread.raw
        with translated(self._file.path):
            raw.execute("BEGIN")
        try:
            return run_blocking(raw, self._binder, operation, self._file.path, _report_no_step)
        finally:
            roll_back(raw)


def _report_no_step() -> None:
    """Do nothing after a step: the reader's deadline bounds the whole operation."""
