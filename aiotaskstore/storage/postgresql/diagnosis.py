"""What a diagnosis looks at on PostgreSQL: what is found by trying, settings that hurt, and what vacuum waits for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial

from aiotaskstore.finding import Finding, ok, problem, warning
from aiotaskstore.mechanics.duration import written
from aiotaskstore.storage import judging
from aiotaskstore.storage.check import Check
from aiotaskstore.storage.operation import Row
from aiotaskstore.storage.probing import skip_locked_works
from aiotaskstore.storage.server import ServerDatabase
from aiotaskstore.storage.watchdog import Watchdog

_LIMIT = 5.0
"""Seconds for what is tried on two connections."""
_MANY_DEAD = 10_000
"""Dead rows of a table below which it does not matter how many of its rows are dead."""
_SHORT_STATEMENTS, _SHORT_IDLENESS = 10.0, 30.0
"""Seconds below which a time limit of the server ends statements or transactions of ours."""
_FULL_QUEUE = 0.5
"""The share of the server's notification queue from which on it is about to overflow."""


def checks(database: ServerDatabase, *, pooled: bool) -> list[Check]:
    """Return what there is to look at; `pooled` says whether a pooler stands before the server."""
    return [
        Check("server", partial(_server, database, pooled)),
        Check("privileges", partial(_privileges, database), needs_tables=True),
        Check("locking", partial(_locking, database), needs_tables=True),
        Check("notifications", partial(_notifications, database)),
        Check("settings", partial(_settings, database)),
        Check("connections", partial(_connections, database), needs_tables=True),
        Check("tables", partial(_tables, database), needs_tables=True),
        Check("horizon", partial(_horizon, database)),
    ]


async def _server(database: ServerDatabase, pooled: bool) -> list[Finding]:  # noqa: FBT001 - bound by name above
    found = [judging.judge_version(await database.version(), works=(14,), proven=(14,))]
    if pooled:
        found.append(
            ok(
                "server",
                "A pooler in transaction mode stands before the server: nothing is prepared on its connections.",
                "For notifications, give the store listen_url=, a URL that leads to the server directly.",
            )
        )
    return found


async def _privileges(database: ServerDatabase) -> list[Finding]:
    missing = [f"{privilege} on {table}" for table, privilege in await database.rows("missing_privileges")]
    if not missing:
        return [ok("privileges", "This user may read and write every table.")]
    return [
        problem(
            "privileges",
            f"This user has no {', '.join(missing)}.",
            "GRANT SELECT, INSERT, UPDATE, DELETE on these tables to it.",
        )
    ]


async def _locking(database: ServerDatabase) -> list[Finding]:
    async with database.session(_LIMIT) as holder, database.session(_LIMIT) as other:
        with Watchdog(holder.abort, _LIMIT), Watchdog(other.abort, _LIMIT):
            return [judging.judge_locking(skips=await skip_locked_works(holder, other))]


async def _notifications(database: ServerDatabase) -> list[Finding]:
    began = time.monotonic()
    async with database.listen(lambda _hint: None) as listener:
        if listener is None:
            return [
                warning(
                    "notifications",
                    "Notifications do not arrive: dispatchers learn of new tasks only by looking, every poll_interval.",
                    database.no_notifications,
                )
            ]
    took = written(time.monotonic() - began)
    return [ok("notifications", f"A notification to ourselves arrived; connecting included, that took {took}.")]


# ── settings ──────────────────────────────────────────────────────────────────────────────────────────────────


async def _settings(database: ServerDatabase) -> list[Finding]:
    settings = await _settings_of(database)
    found = list(_judged(settings))
    return found or [ok("settings", "None of the server's settings is in the way.")]


async def _settings_of(database: ServerDatabase) -> dict[str, str]:
    return {str(name): str(value) for name, value in await database.rows("server_settings")}


def _judged(settings: Mapping[str, str]) -> Iterator[Finding]:
    yield from _judged_access(settings)
    if settings["autovacuum"] == "off" or settings["track_counts"] == "off":
        off = "autovacuum" if settings["autovacuum"] == "off" else "track_counts"
        yield problem(
            "settings",
            f"{off} is off, so nothing removes the dead rows that every task leaves behind: claims become slower and "
            "slower.",
            f"Set {off} = on and reload the server's configuration.",
        )
    for name in ("fsync", "synchronous_commit"):
        if settings[name] == "off":
            yield warning(
                "settings",
                f"{name} is off: a crash of the server may lose tasks that were acknowledged as stored.",
                f"Set {name} = on, at least for this user or database.",
            )
    if settings["default_transaction_isolation"] not in {"read committed", "read uncommitted"}:
        yield warning(
            "settings",
            f"Transactions are {settings['default_transaction_isolation']} unless told otherwise: batches conflict and "
            "run again, which is slower.",
            "Set default_transaction_isolation = 'read committed' for this user.",
        )
    yield from _judged_limits(settings)


def _judged_access(settings: Mapping[str, str]) -> Iterator[Finding]:
    if settings["in_recovery"] == "true":
        yield problem(
            "settings", "This server is a replica, which takes no writes.", "Give the store the primary server's URL."
        )
    elif settings["read_only"] == "on":
        yield problem(
            "settings",
            "Transactions are read-only here, so nothing can be enqueued or claimed.",
            "Set default_transaction_read_only = off for this user and database.",
        )
    usage = float(settings["notification_queue"])
    if usage >= _FULL_QUEUE:
        yield problem(
            "settings",
            f"The server's notification queue is {usage:.0%} full; once it is full, no transaction that notifies can "
            "commit.",
            "Find the session that listens and has a transaction open for long (check horizon), and end it.",
        )


def _judged_limits(settings: Mapping[str, str]) -> Iterator[Finding]:
    idle = float(settings["idle_in_transaction_session_timeout"]) / 1000
    if 0 < idle < _SHORT_IDLENESS:
        yield warning(
            "settings",
            f"idle_in_transaction_session_timeout is {written(idle)}: a handler that works longer than that inside "
            "context.transaction() loses its connection.",
            f"Raise it to {written(_SHORT_IDLENESS)} or more for this user, or keep such handlers shorter.",
        )
    limit = float(settings["statement_timeout"]) / 1000
    if 0 < limit < _SHORT_STATEMENTS:
        yield warning(
            "settings",
            f"statement_timeout is {written(limit)}, which may end large batches, clean-up and migrations.",
            f"Raise it to {written(_SHORT_STATEMENTS)} or more for this user; the store bounds its statements itself.",
        )


async def _connections(database: ServerDatabase) -> list[Finding]:
    settings = await _settings_of(database)
    return [
        judging.judge_connections(
            used=int(settings["connections"]),
            most=int(settings["max_connections"]) - int(settings["superuser_reserved_connections"]),
            dispatchers=len(await database.rows("dispatchers")),
            each=database.most_connections,
        )
    ]


# ── what is dead ──────────────────────────────────────────────────────────────────────────────────────────────


async def _tables(database: ServerDatabase) -> list[Finding]:
    rows = await database.rows("table_states")
    found = [finding for row in rows for finding in _judged_table(row)]
    size = sum(row[3] for row in rows)
    return found or [ok("tables", f"{size / 1e6:,.1f} MB in all, and vacuum keeps up.")]


def _judged_table(row: Row) -> Iterator[Finding]:
    name, live, dead, _size, unvacuumed = row
    if unvacuumed:
        yield problem(
            "tables",
            f"Autovacuum is off for the table {name}, so nothing removes its dead rows, and claims become slower.",
            f"ALTER TABLE {name} RESET (autovacuum_enabled);",
        )
    if dead >= max(_MANY_DEAD, live):
        yield warning(
            "tables",
            f"The table {name} has {dead:,} dead rows and {live:,} live ones: vacuum does not keep up, or may not.",
            f"See the check horizon for what holds vacuum back, then VACUUM {name};",
        )


async def _horizon(database: ServerDatabase) -> list[Finding]:
    holders = await database.rows("horizon_holders")
    found = [_judged_holder(holder) for holder in holders if _is_long(holder)]
    if found:
        return found
    oldest = f" The oldest is open for {written(holders[0][5])}." if holders else ""
    return [ok("horizon", f"No transaction holds vacuum back for long.{oldest}")]


def _is_long(holder: Row) -> bool:
    return holder[5] is None or bool(holder[5] >= judging.LONG_TRANSACTION)


def _judged_holder(holder: Row) -> Finding:
    kind, who, application, user, state, open_for = holder
    if kind == "slot":
        return warning(
            "horizon",
            f'The replication slot "{who}" ({state}) keeps vacuum from removing dead rows.',
            f"If nobody needs it: SELECT pg_drop_replication_slot('{who}');",
        )
    if kind == "prepared":
        return warning(
            "horizon",
            f'The prepared transaction "{who}" of {user} is open for {written(open_for)}: vacuum removes nothing that '
            "died since.",
            f"COMMIT PREPARED '{who}'; or ROLLBACK PREPARED '{who}';",
        )
    return warning(
        "horizon",
        f"Session {who} ({application or 'no application name'}, user {user}) has a transaction open for "
        f"{written(open_for)} and is {state}: vacuum removes nothing that died since.",
        f"Have the application commit sooner, or end it: SELECT pg_terminate_backend({who});",
    )
