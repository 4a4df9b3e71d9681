"""Hints that wait for SQLAlchemy's commit, where the database itself tells nobody of one (MySQL and MariaDB)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, event

from aiotaskstore.mechanics.hint import NOTHING, Hint
from aiotaskstore.storage.sqlalchemy.connection import SqlalchemyTarget, connection_of

Notify = Callable[[Hint], None]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05
"""Seconds between two looks whether a commit is done: the first pause, which doubles each time, and the longest."""
_LONGEST_COMMIT = 1.0
"""Seconds after which a hint is passed on in any case: it may come too early, but then the poll finds the task."""

_waiting: WeakKeyDictionary[Connection, dict[Notify, Hint]] = WeakKeyDictionary()
"""The hints of each connection's open transaction, by the function that takes them."""


async def notify_after_commit(target: SqlalchemyTarget, hint: Hint, notify: Notify) -> None:
    """Pass a hint on once the open transaction has committed, and drop it if the transaction is rolled back."""
    connection = (await connection_of(target)).sync_connection
    if connection is None:  # closed by another asyncio task meanwhile, so nothing will commit
        return
    if connection not in _waiting:
        _waiting[connection] = {}
        event.listen(connection, "commit", _committing)
        event.listen(connection, "rollback", _rolled_back)
    hints = _waiting[connection]
    hints[notify] = hints.get(notify, NOTHING) | hint


def _committing(connection: Connection) -> None:
    """Wait for the COMMIT, which SQLAlchemy sends only after this event."""
    hints = _taken(connection)
    if hints:
        loop = asyncio.get_running_loop()
        driver = connection.connection.driver_connection
        _look(loop, driver, hints, _FIRST_PAUSE, loop.time() + _LONGEST_COMMIT)


def _rolled_back(connection: Connection) -> None:
    _taken(connection)


def _taken(connection: Connection) -> dict[Notify, Hint]:
    hints = _waiting.get(connection, {})
    taken = dict(hints)
    hints.clear()
    return taken


def _look(loop: asyncio.AbstractEventLoop, driver: Any, hints: dict[Notify, Hint], pause: float, until: float) -> None:
    """Look again after a pause whether the transaction is over."""

    def look() -> None:
        if driver.get_transaction_status() and loop.time() < until:
            _look(loop, driver, hints, min(2 * pause, _LONGEST_PAUSE), until)
            return
        for notify, hint in hints.items():
            notify(hint)

    loop.call_later(pause, look, context=Context())
