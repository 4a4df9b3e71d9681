"""What `store.diagnose()` finds on MySQL and MariaDB, each made true on a real server where that harms nobody else."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest

from aiotaskstore import Finding, TaskStore
from aiotaskstore.storage import judging
from aiotaskstore.storage.mysql import diagnosis
from tests.helpers import connect_mysql


def about(findings: Sequence[Finding], check: str) -> str:
    return "\n".join(f"{one.severity}: {one.found} {one.advice}" for one in findings if one.check == check)


async def test_old_transactions_engines_and_privileges_are_found(mysql_url, monkeypatch):
    store = TaskStore(mysql_url)
    await store.migrate()
    monkeypatch.setattr(judging, "LONG_TRANSACTION", 0.0)
    parts, user = urlsplit(mysql_url), f"weak_{uuid4().hex[:12]}"
    mine = await connect_mysql(mysql_url)
    try:
        async with mine.cursor() as cursor:
            await cursor.execute("ALTER TABLE aiotaskstore_task_progress ENGINE = MyISAM")
            await cursor.execute(f"CREATE USER {user} IDENTIFIED BY 'secret'")
            await cursor.execute(f"GRANT SELECT, INSERT ON {parts.path[1:]}.* TO {user}")
            await cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            await cursor.execute("SELECT count(*) FROM aiotaskstore_queues")
            findings = await store.diagnose()
            host = f"{user}:secret@{parts.hostname}:{parts.port or 3306}"
            weak = await TaskStore(urlunsplit(parts._replace(netloc=host))).diagnose()
            await cursor.execute("ROLLBACK")
            await cursor.execute(f"DROP USER {user}")
        thread = mine.thread_id()
    finally:
        mine.close()
    assert f"warning: Connection {thread} (" in about(findings, "horizon")
    assert f"KILL {thread};" in about(findings, "horizon")
    assert "problem: The table aiotaskstore_task_progress is kept by MyISAM" in about(findings, "tables")
    assert "ALTER TABLE aiotaskstore_task_progress ENGINE = InnoDB;" in about(findings, "tables")
    assert about(findings, "privileges").startswith("ok: ")
    assert about(findings, "locking").startswith("ok: SKIP LOCKED")
    assert "problem: This user may not do everything: UPDATE (" in about(weak, "privileges")
    assert "; DELETE (" in about(weak, "privileges")
    assert "INSERT (" not in about(weak, "privileges")
    assert about(weak, "horizon").startswith("warning: This could not be looked at: ")


@pytest.mark.parametrize(
    ("setting", "severity", "advice"),
    [
        ({"log_bin": "ON", "binlog_format": "STATEMENT"}, "problem", "Set binlog_format = ROW"),
        ({"read_only": "ON"}, "problem", "primary server's URL"),
        ({"innodb_flush_log_at_trx_commit": "2"}, "warning", "Set innodb_flush_log_at_trx_commit = 1"),
        ({"max_allowed_packet": "1048576"}, "warning", "Set max_allowed_packet"),
    ],
)
def test_settings_of_a_whole_server_are_judged(setting, severity, advice):
    well = {"log_bin": "ON", "binlog_format": "ROW", "innodb_flush_log_at_trx_commit": "1", "read_only": "OFF"}
    assert not list(diagnosis._judged(well))
    [found] = diagnosis._judged(well | setting)
    assert found.severity == severity
    assert advice in found.advice
