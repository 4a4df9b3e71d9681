"""Opens, cleans and closes asyncpg connections of our own."""

from __future__ import annotations

from typing import Any

import asyncpg

from aiotaskstore.storage.dialer import Dialer
from aiotaskstore.storage.faults import connection_lost
from aiotaskstore.storage.postgresql.connection_cleanup import abort, is_closed, suppress_cleanup_errors
from aiotaskstore.storage.postgresql.dialing_loop import DialingLoop
from aiotaskstore.storage.postgresql.error_translation import translated
from aiotaskstore.storage.server import ServerConnector
from aiotaskstore.storage.watchdog import CLEANUP, Watchdog

CONNECT = 10.0
"""Seconds that connecting may take."""

_PREPARED = 100
"""Statements that stay prepared on one connection: asyncpg's default."""
_PLAN_ANEW = """
SELECT set_config('plan_cache_mode', 'force_custom_plan', false), set_config('enable_bitmapscan', 'off', false)
WHERE pg_backend_pid() = {pid}
"""
"""Makes PostgreSQL plan every execution for the table as it is now, unless there is a pooler in between.

PostgreSQL keeps a plan from the sixth execution on, and a growing table does not end it: a finish planned while the
queue was empty read all of 200,000 rows from then on (970 ms a thousand, not 8), until the next ANALYZE. Nor may it
gather all that is due in a bitmap, because it believes that to be one row, and sort it.
"""
PLAN_ANEW_INSIDE = "SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL enable_bitmapscan = off"
"""The same until the end of a transaction, for connections that the application or a pooler's clients use too."""
_AS_NEW = """
CLOSE ALL;
SET SESSION AUTHORIZATION DEFAULT;
RESET ALL;
UNLISTEN *;
SELECT pg_advisory_unlock_all();
DO $$
DECLARE statement text;
BEGIN
    FOR statement IN SELECT name FROM pg_prepared_statements WHERE from_sql LOOP
        EXECUTE format('DEALLOCATE %I', statement);
    END LOOP;
END $$;
"""
"""Undoes every change to a session. DISCARD ALL would also drop the statements that asyncpg has prepared."""
_DISCARD = """
DISCARD SEQUENCES;
DISCARD TEMP;
"""


class PostgresConnector(ServerConnector):
    """Opens connections for a pool of ours."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self.pooled: bool = False
        """Whether there is a pooler in between, so that each transaction may run in another server session."""

    async def connect(self) -> Any:
        connection = await _connect(
            self._dsn,
            server_settings={"application_name": "aiotaskstore"},
            statement_cache_size=0 if self.pooled else _PREPARED,
        )
        with translated():
            try:
                await _execute(connection, _PLAN_ANEW.format(pid=int(connection.get_server_pid())), CONNECT)
            except BaseException:
                connection.terminate()
                raise
        return connection

    async def quit(self, connection: Any) -> None:
        with translated():
            await connection.close()

    def abort(self, connection: Any) -> None:
        abort(connection)

    def usable(self, connection: Any) -> bool:
        return not is_closed(connection) and not connection.is_in_transaction()

    async def clean_inside(self, connection: Any) -> None:
        """Reset the session inside a transaction, as its last statement."""
        await connection.execute("SET CONSTRAINTS ALL IMMEDIATE;" + _AS_NEW)  # deferred checks may depend on a setting

    async def clean(self, connection: Any) -> None:
        if self.pooled or not self.usable(connection):
            return
        try:
            with suppress_cleanup_errors(), Watchdog(connection.terminate, CLEANUP):
                await connection.reset()  # also the driver's own state: listeners, an open transaction
                await connection.execute(_AS_NEW + _DISCARD + _PLAN_ANEW.format(pid=int(connection.get_server_pid())))
                return
        except BaseException:
            connection.terminate()
            raise
        connection.terminate()


async def open_listener(dsn: str) -> Any:
    """Open a connection for receiving notifications; the driver bounds each call on it."""
    return await _connect(dsn, command_timeout=CONNECT)


async def _connect(dsn: str, **options: Any) -> Any:
    dialer = Dialer()
    loop: Any = DialingLoop(dialer)
    with translated():
        try:
            return await asyncpg.connect(dsn, loop=loop, timeout=CONNECT, **options)
        except OSError as error:
            raise connection_lost(f"PostgreSQL cannot be reached: {dialer.explain(error)}") from error


async def _execute(connection: Any, sql: str, limit: float) -> None:
    with Watchdog(connection.terminate, limit):
        await connection.execute(sql)
