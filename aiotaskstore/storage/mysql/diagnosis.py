"""What a diagnosis looks at on MySQL and MariaDB: what is found by trying, settings that hurt, and old transactions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial

from aiotaskstore.errors import DatabaseUnavailableError, TaskStoreError
from aiotaskstore.finding import Finding, ok, problem, warning
from aiotaskstore.mechanics.duration import written
from aiotaskstore.storage import judging
from aiotaskstore.storage.check import Check
from aiotaskstore.storage.server import ServerDatabase

_LONG_HISTORY = 1_000_000
"""Old versions of rows from which on every read is slower."""
_MOSTLY_FREE, _LARGE = 0.5, 100e6
"""The share and the bytes of a table's file from which on it is worth rebuilding."""
_WRITES = {"INSERT": "explain_insert", "UPDATE": "explain_update", "DELETE": "explain_delete"}
"""Privileges, and the statement that needs each."""
_SMALL_PACKET = 4 << 20
"""Bytes of `max_allowed_packet` below which a payload or a batch may not fit."""


def checks(database: ServerDatabase, skips_locked: Callable[[], Awaitable[bool]]) -> list[Check]:
    """Return what there is to look at; `skips_locked` tries whether SKIP LOCKED works."""
    return [
        Check("server", partial(_server, database)),
        Check("privileges", partial(_privileges, database), needs_tables=True),
        Check("locking", partial(_locking, skips_locked), needs_tables=True),
        Check("settings", partial(_settings, database)),
        Check("session", partial(_session, database)),
        Check("connections", partial(_connections, database), needs_tables=True),
        Check("tables", partial(_tables, database), needs_tables=True),
        Check("horizon", partial(_horizon, database)),
        Check("history list", partial(_history_list, database)),
    ]


async def _server(database: ServerDatabase) -> list[Finding]:
    name = await database.version()
    mariadb = name.startswith("MariaDB")
    works, proven = ((10, 6), (10, 11)) if mariadb else ((8,), (9, 7))
    return [judging.judge_version(name, works=works, proven=proven)]


async def _privileges(database: ServerDatabase) -> list[Finding]:
    refused = []
    for privilege, explained in _WRITES.items():
        try:
            await database.rows(explained)
        except DatabaseUnavailableError:
            raise
        except TaskStoreError as error:
            refused.append(f"{privilege} ({error})")
    if not refused:
        return [ok("privileges", "This user may read and write the tables.")]
    return [
        problem(
            "privileges",
            f"This user may not do everything: {'; '.join(refused)}",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON this database to it.",
        )
    ]


async def _locking(skips_locked: Callable[[], Awaitable[bool]]) -> list[Finding]:
    return [judging.judge_locking(skips=await skips_locked())]


# ── settings ──────────────────────────────────────────────────────────────────────────────────────────────────


async def _settings(database: ServerDatabase) -> list[Finding]:
    found = list(_judged(await _values(database, "server_settings")))
    return found or [ok("settings", "None of the server's settings is in the way.")]


async def _values(database: ServerDatabase, statement: str) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in await database.rows(statement)}


def _judged(settings: Mapping[str, str]) -> Iterator[Finding]:
    for name in ("read_only", "super_read_only", "innodb_read_only"):
        if settings.get(name, "OFF").upper() in {"ON", "1"}:
            yield problem(
                "settings",
                f"{name} is on, as on a replica, so nothing can be enqueued or claimed.",
                "Give the store the primary server's URL.",
            )
            break
    if settings.get("log_bin") == "ON" and settings.get("binlog_format") == "STATEMENT":
        yield problem(
            "settings",
            "binlog_format is STATEMENT, with which the server refuses the writes of a READ COMMITTED transaction.",
            "Set binlog_format = ROW (or MIXED).",
        )
    if settings.get("innodb_flush_log_at_trx_commit", "1") != "1":
        yield warning(
            "settings",
            f"innodb_flush_log_at_trx_commit is {settings['innodb_flush_log_at_trx_commit']}: a crash of the server "
            "may lose tasks that were acknowledged as stored.",
            "Set innodb_flush_log_at_trx_commit = 1.",
        )
    packet = int(settings.get("max_allowed_packet", _SMALL_PACKET))
    if packet < _SMALL_PACKET:
        yield warning(
            "settings",
            f"max_allowed_packet is {packet:,} bytes: large payloads are refused, and batches are cut small.",
            f"Set max_allowed_packet to {_SMALL_PACKET:,} or more.",
        )


async def _session(database: ServerDatabase) -> list[Finding]:
    values = await _values(database, "session_settings")
    modes = set(values.get("sql_mode", "").split(","))
    found = []
    if not modes & {"STRICT_TRANS_TABLES", "STRICT_ALL_TABLES"}:
        found.append(
            warning(
                "session",
                "sql_mode is not strict: the server cuts values that do not fit, instead of refusing them.",
                "Add STRICT_TRANS_TABLES to sql_mode, for the server or in the URL's init command.",
            )
        )
    isolation = values.get("transaction_isolation") or values.get("tx_isolation") or "unknown"
    sets = {values[f"character_set_{name}"] for name in ("client", "connection", "results")}
    if sets != {"utf8mb4"}:
        found.append(
            warning(
                "session",
                f"The connection's character sets are {', '.join(sorted(sets))}: not every text can be sent.",
                'Connect with charset="utf8mb4".',
            )
        )
    return found or [ok("session", f"Transactions are {isolation}, the character set is utf8mb4, sql_mode is strict.")]


async def _connections(database: ServerDatabase) -> list[Finding]:
    settings, status = await _values(database, "server_settings"), await _values(database, "server_status")
    return [
        judging.judge_connections(
            used=int(status["threads_connected"]),
            most=int(settings["max_connections"]),
            dispatchers=len(await database.rows("dispatchers")),
            each=database.most_connections,
        )
    ]


# ── what is dead ──────────────────────────────────────────────────────────────────────────────────────────────


async def _tables(database: ServerDatabase) -> list[Finding]:
    found, whole = [], 0
    for name, engine, size, free in await database.rows("table_states"):
        whole += int(size or 0)
        if str(engine).lower() != "innodb":
            found.append(
                problem(
                    "tables",
                    f"The table {name} is kept by {engine}, which has no transactions: tasks may be lost or run twice.",
                    f"ALTER TABLE {name} ENGINE = InnoDB;",
                )
            )
        occupied = int(size or 0) + int(free or 0)
        if occupied >= _LARGE and int(free or 0) >= occupied * _MOSTLY_FREE:
            found.append(
                warning(
                    "tables",
                    f"Of the {occupied / 1e6:,.0f} MB of the table {name}, {int(free) / 1e6:,.0f} MB are free.",
                    f"OPTIMIZE TABLE {name}; at a quiet hour, if the disk is short.",
                )
            )
    return found or [ok("tables", f"{whole / 1e6:,.1f} MB in all, kept by InnoDB.")]


async def _horizon(database: ServerDatabase) -> list[Finding]:
    rows = [row for row in await database.rows("horizon_holders") if row[0] != row[2]]
    old = [(int(row[0]), float(row[1])) for row in rows if row[1] >= judging.LONG_TRANSACTION]
    if not old:
        oldest = f" The oldest is open for {written(float(rows[0][1]))}." if rows else ""
        return [ok("horizon", f"No transaction is open for long.{oldest}")]
    clients = await _clients(database)
    found = []
    for thread, open_for in old:
        who = clients.get(thread, "which SHOW PROCESSLIST describes")
        found.append(
            warning(
                "horizon",
                f"Connection {thread} ({who}) has a transaction open for {written(open_for)}: old versions of rows are "
                "kept since, and reads become slower.",
                f"Have the application commit sooner, or end it: KILL {thread};",
            )
        )
    return found


async def _clients(database: ServerDatabase) -> dict[int, str]:
    """Describe who is connected, by the connection's number; empty where this user may not see it."""
    try:
        rows = await database.rows("clients")
    except DatabaseUnavailableError:
        raise
    except TaskStoreError:
        return {}
    return {int(number): f"{user} from {host}, {command}" for number, user, host, command in rows}


async def _history_list(database: ServerDatabase) -> list[Finding]:
    rows = await database.rows("history_list_length")
    length = int(rows[0][0]) if rows else 0
    if length < _LONG_HISTORY:
        return [ok("history list", f"InnoDB keeps {length:,} old versions of rows.")]
    return [
        warning(
            "history list",
            f"InnoDB keeps {length:,} old versions of rows, which every read has to pass.",
            "See the check horizon for the transaction that holds the purge back, and end it.",
        )
    ]
