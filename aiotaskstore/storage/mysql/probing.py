"""Tests which features a server really has that reports itself as MySQL or MariaDB."""

from __future__ import annotations

import logging

from aiotaskstore.errors import DatabaseUnavailableError, TaskStoreError
from aiotaskstore.storage.mysql.session import MySQLSession
from aiotaskstore.storage.operation import Call

_sql = logging.getLogger("aiotaskstore.sql")


async def skip_locked_works(holder: MySQLSession, other: MySQLSession) -> bool:
    """Return whether SKIP LOCKED skips what another connection has locked.

    A server may accept the syntax and lock nothing (TiDB, which reports itself as MySQL 8).
    """
    await holder.begin()
    try:
        await holder.run(Call("probe_lock"))
        try:
            return not await other.run(Call("probe_skip"))
        except DatabaseUnavailableError:
            raise
        except TaskStoreError as error:
            _sql.info("SKIP LOCKED does not work here: %s", error)
            return False
    finally:
        await holder.rollback()
