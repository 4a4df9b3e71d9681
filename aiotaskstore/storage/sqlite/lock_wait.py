"""Waits for the lock of a SQLite file, which other processes hold for milliseconds at a time."""

from __future__ import annotations

import time
from collections.abc import Callable

from aiotaskstore.storage.faults import Conflict, nothing_done
from aiotaskstore.storage.operation import T
from aiotaskstore.storage.sqlite.error_translation import translated


def retry_while_locked(work: Callable[[], T], deadline: float, path: str) -> T:
    """Run `work`, and run it again while the file is locked; after `deadline` seconds raise our error."""
    until = time.monotonic() + deadline
    while True:
        try:
            with translated(path):
                return work()
        except Conflict as conflict:
            if time.monotonic() > until:
                raise nothing_done(
                    f"Another connection has held the SQLite file's lock for {deadline:g} s: some process, or a "
                    "transaction of your own that is still open. In yours, enqueue with .using(connection)."
                ) from conflict
