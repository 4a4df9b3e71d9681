"""Runs operations on a sqlite3 connection, in the thread that owns it and without an event loop."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from aiotaskstore.storage.operation import Batch, Begin, Operation, Rows, Step, T
from aiotaskstore.storage.sqlite.binding import SqliteBinder
from aiotaskstore.storage.sqlite.error_translation import translated
from aiotaskstore.storage.statement_size import split_steps


def run_step(raw: sqlite3.Connection, binder: SqliteBinder, step: Step, path: str) -> Rows:
    """Run one step on the file `path`; every row is read, since an open cursor blocks COMMIT."""
    with translated(path):
        if isinstance(step, Batch):
            for sql, rows in binder.bind_batch(step):
                raw.executemany(sql, rows)
            return ()
        return raw.execute(*binder.bind(step)).fetchall()


def run_blocking(
    raw: sqlite3.Connection,
    binder: SqliteBinder,
    operation: Operation[T],
    path: str,
    after_step: Callable[[], None],
) -> T:
    """Run an operation inside the transaction that is open."""
    steps = split_steps(operation())
    try:
        step = next(steps)
        while True:
            step = steps.send(() if isinstance(step, Begin) else run_step(raw, binder, step, path))
            after_step()
    except StopIteration as stop:
        result: T = stop.value
        return result
