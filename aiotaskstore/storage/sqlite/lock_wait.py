"""How this process waits for the write lock of a SQLite file: a heartbeat takes it before all else."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

from aiotaskstore.storage.faults import Conflict, nothing_done
from aiotaskstore.storage.operation import T
from aiotaskstore.storage.sqlite.error_translation import translated

PAUSE = 0.005
"""Seconds between two tries. SQLite's own wait sleeps 100 ms at a time, and would miss most moments without a lock."""
_HEARTBEAT_PAUSE = 0.001
"""The same for a heartbeat. So it mostly gets the lock before those who wait in other processes."""


class LockWait:
    """The wait of all connections of this process for one file's write lock, in all threads.

    While a heartbeat waits for the lock, nobody else of this process takes it.
    """

    def __init__(self) -> None:
        self._heartbeats = 0
        self._counting = threading.Lock()

    @property
    def heartbeat_waits(self) -> bool:
        """Whether nobody but a heartbeat may take the lock now."""
        return self._heartbeats > 0

    def take(self, begin: Callable[[], object], deadline: float, path: str) -> None:
        """Call `begin` until it has the lock, which others may hold; after `deadline` seconds raise our error."""
        retry_while_locked(begin, deadline, path, gives_way=lambda: self.heartbeat_waits)

    def take_for_heartbeat(self, begin: Callable[[], object], deadline: float, path: str) -> None:
        """Do the same for a heartbeat."""
        with self._waiting():
            retry_while_locked(begin, deadline, path, pause=_HEARTBEAT_PAUSE)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        with self._counting:
            self._heartbeats += 1
        try:
            yield
        finally:
            with self._counting:
                self._heartbeats -= 1


def lock_wait_of(identity: tuple[int, int]) -> LockWait:
    """Return what all stores and heartbeats of this process share for one file."""
    with _adding:
        # A forked process has threads of its own: its parent's heartbeat would wait in it for ever.
        return _of_files.setdefault((os.getpid(), *identity), LockWait())


_of_files: WeakValueDictionary[tuple[int, ...], LockWait] = WeakValueDictionary()
_adding = threading.Lock()


def retry_while_locked(
    work: Callable[[], T],
    deadline: float,
    path: str,
    *,
    pause: float = PAUSE,
    gives_way: Callable[[], bool] = lambda: False,
) -> T:
    """Run `work`, and run it again while the file is locked, but not while it `gives_way`.

    After `deadline` seconds raise our error.
    """
    until = time.monotonic() + deadline
    conflict: Conflict | None = None
    while True:
        if not gives_way():
            try:
                with translated(path):
                    return work()
            except Conflict as error:
                conflict = error
        if time.monotonic() > until:
            raise nothing_done(
                f"Another connection has held the SQLite file's lock for {deadline:g} s: some process, or a "
                "transaction of your own that is still open. In yours, enqueue with .using(connection)."
            ) from conflict
        time.sleep(pause)
