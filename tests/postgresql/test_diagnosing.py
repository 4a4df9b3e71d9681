"""What `store.diagnose()` finds on PostgreSQL, each made true on a real server."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from aiotaskstore import Finding, TaskStore
from aiotaskstore.storage import judging
from aiotaskstore.storage.postgresql import diagnosis
from tests.helpers import eventually


def about(findings: Sequence[Finding], check: str) -> str:
    return "\n".join(f"{one.severity}: {one.found} {one.advice}" for one in findings if one.check == check)


async def test_what_keeps_vacuum_from_working_is_found(postgresql_url, monkeypatch):
    store = TaskStore(postgresql_url)
    await store.migrate()
    monkeypatch.setattr(judging, "LONG_TRANSACTION", 0.0)
    monkeypatch.setattr(diagnosis, "_MANY_DEAD", 10)
    mine, other = await asyncpg.connect(postgresql_url), await asyncpg.connect(postgresql_url)
    try:
        await mine.execute("ALTER TABLE aiotaskstore_tasks SET (autovacuum_enabled = off)")
        await mine.execute("ALTER TABLE aiotaskstore_queues SET (autovacuum_enabled = off)")
        await mine.execute(
            "INSERT INTO aiotaskstore_queues (name, created_at, updated_at) SELECT n, now(), now() "
            "FROM generate_series(1, 50) n; DELETE FROM aiotaskstore_queues"
        )
        await mine.close()  # what it did is counted at its end at the latest
        await other.execute("SET application_name = 'report'; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")

        async def counted() -> bool:
            return "50 dead rows" in about(await store.diagnose(), "tables")

        await eventually(counted, pause=0.2)
        findings = await store.diagnose()
        pid = other.get_server_pid()
    finally:
        await mine.close()
        await other.close()
    assert "problem: Autovacuum is off for the table aiotaskstore_tasks" in about(findings, "tables")
    assert "ALTER TABLE aiotaskstore_tasks RESET (autovacuum_enabled);" in about(findings, "tables")
    assert "The table aiotaskstore_queues has 50 dead rows and 0 live ones" in about(findings, "tables")
    horizon = about(findings, "horizon")
    assert f"warning: Session {pid} (report, user " in horizon
    assert "is idle in transaction" in horizon
    assert f"SELECT pg_terminate_backend({pid});" in horizon


async def test_settings_and_privileges_that_hurt_are_found(postgresql_url):
    await TaskStore(postgresql_url).migrate()
    role = f"weak_{uuid4().hex[:12]}"
    mine = await asyncpg.connect(postgresql_url)
    try:
        await mine.execute(f"CREATE ROLE {role} LOGIN")
        await mine.execute(f"GRANT USAGE ON SCHEMA public TO {role}")
        await mine.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        for setting in (
            "default_transaction_read_only = on", "statement_timeout = '9s'", "synchronous_commit = off",
            "idle_in_transaction_session_timeout = '7s'", "default_transaction_isolation = 'serializable'",
        ):  # fmt: skip
            await mine.execute(f"ALTER ROLE {role} SET {setting}")
        parts = urlsplit(postgresql_url)
        host = f"{role}@{parts.netloc.rpartition('@')[2]}"
        findings = await TaskStore(urlunsplit(parts._replace(netloc=host))).diagnose()
    finally:
        await mine.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await mine.close()
    assert "problem: This user has no DELETE on aiotaskstore_definitions," in about(findings, "privileges")
    settings = about(findings, "settings")
    assert "problem: Transactions are read-only here" in settings
    assert "warning: synchronous_commit is off: a crash" in settings
    assert "warning: idle_in_transaction_session_timeout is 7 s: a handler" in settings
    assert "warning: statement_timeout is 9 s" in settings
    assert "warning: Transactions are serializable" in settings


async def test_notifications_that_do_not_arrive_are_found(postgresql_url):
    findings = await TaskStore(postgresql_url).diagnose()
    assert about(findings, "notifications").startswith("ok: A notification to ourselves arrived")
    async with asyncpg.create_pool(postgresql_url, min_size=1, max_size=3) as pool:
        lent = await TaskStore(pool).diagnose()
    assert about(lent, "notifications").startswith("warning: Notifications do not arrive")
    assert "listen_url=" in about(lent, "notifications")


WELL = {
    "in_recovery": "false", "read_only": "off", "autovacuum": "on", "track_counts": "on", "fsync": "on",
    "synchronous_commit": "on", "default_transaction_isolation": "read committed", "notification_queue": "0",
    "idle_in_transaction_session_timeout": "0", "statement_timeout": "0",
}  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "severity", "advice"),
    [
        ({"autovacuum": "off"}, "problem", "Set autovacuum = on"),
        ({"track_counts": "off"}, "problem", "Set track_counts = on"),
        ({"in_recovery": "true", "read_only": "on"}, "problem", "primary server's URL"),
        ({"notification_queue": "0.6"}, "problem", "Find the session that listens"),
        ({"fsync": "off"}, "warning", "Set fsync = on"),
    ],
)
def test_settings_of_a_whole_server_are_judged(setting, severity, advice):
    assert not list(diagnosis._judged(WELL))
    [found] = diagnosis._judged(WELL | setting)
    assert found.severity == severity
    assert advice in found.advice


def test_slots_and_prepared_transactions_hold_vacuum_back():
    slot = diagnosis._judged_holder(("slot", "old", "", "", "unused", None))
    assert slot.advice == "If nobody needs it: SELECT pg_drop_replication_slot('old');"
    prepared = diagnosis._judged_holder(("prepared", "gid", "", "app", "prepared", 90.0))
    assert "ROLLBACK PREPARED 'gid';" in prepared.advice
