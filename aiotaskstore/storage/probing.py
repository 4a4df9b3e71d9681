"""Tests by behaviour which features a server really has, whatever it reports itself as."""

from __future__ import annotations

import logging

from aiotaskstore.errors import DatabaseUnavailableError, TaskStoreError
from aiotaskstore.storage.operation import Call
from aiotaskstore.storage.session import Session

_LOCK, _SKIP = "probe_lock", "probe_skip"
"""Statements of the dialects that are servers."""

_sql = logging.getLogger("aiotaskstore.sql")


async def skip_locked_works(holder: Session, other: Session) -> bool:
    """Return whether SKIP LOCKED skips what another connection has locked.

    A server may accept the syntax and lock nothing (TiDB, which reports itself as MySQL 8).
    """
    await holder.begin()
    try:
        await holder.run(Call(_LOCK))
        try:
            return not await other.run(Call(_SKIP))
        except DatabaseUnavailableError:
            raise
        except TaskStoreError as error:
            _sql.info("SKIP LOCKED does not work here: %s", error)
            return False
    finally:
        await holder.rollback()
