"""The writer: our only connection that writes, in a thread of its own, with a queue of operations."""

from __future__ import annotations

from functools import partial
from typing import Any

from aiotaskstore.storage.operation import Operation, Rows, Step
from aiotaskstore.storage.sqlite.binding import SqliteBinder
from aiotaskstore.storage.sqlite.blocking import run_blocking, run_step
from aiotaskstore.storage.sqlite.commit import CommitResult, Group, roll_back
from aiotaskstore.storage.sqlite.connection_thread import ConnectionThread
from aiotaskstore.storage.sqlite.file import DatabaseFile
from aiotaskstore.storage.sqlite.lock_wait import retry_while_locked
from aiotaskstore.storage.sqlite.writer_queue import WriterQueue


class Writer:
    """Takes the file's write lock, runs operations and commits them in groups."""

    def __init__(self, file: DatabaseFile, binder: SqliteBinder, deadline: float) -> None:
        self._file, self._binder, self._deadline = file, binder, deadline
        self.thread: ConnectionThread = ConnectionThread("writer", partial(file.connect, write=True))
        self.queue: WriterQueue = WriterQueue(self._commit, deadline)

    def begin(self, *, heartbeat: bool = False) -> None:
        """Take the file's write lock, waiting for other connections; called in the thread."""
        self._file.check()
        if self.thread.raw.in_transaction:  # a failed transaction that could not be rolled back
            roll_back(self.thread.raw)
            if self.thread.raw.in_transaction and not self._file.in_memory:
                self.thread.reopen()
        wait = self._file.lock_wait
        take = wait.take_for_heartbeat if heartbeat else wait.take
        take(partial(self.thread.raw.execute, "BEGIN IMMEDIATE"), self._deadline, self._file.path)

    def run_step(self, step: Step) -> Rows:
        """Run one step; called in the thread."""
        return run_step(self.thread.raw, self._binder, step, self._file.path)

    def _commit(self, operations: list[Operation[Any]], *, heartbeat: bool) -> list[CommitResult]:
        group = Group(partial(self.begin, heartbeat=heartbeat), self._run, self._end)
        return group.commit(self.thread.raw, operations)

    def _run(self, operation: Operation[Any]) -> Any:
        return run_blocking(self.thread.raw, self._binder, operation, self._file.path, self.queue.stepped)

    def _end(self) -> None:
        retry_while_locked(partial(self.thread.raw.execute, "COMMIT"), self._deadline, self._file.path)
