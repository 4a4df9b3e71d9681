"""What a diagnosis makes of facts, without a server; and what it finds about a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from aiotaskstore import Finding, TaskStore
from aiotaskstore.storage import judging
from aiotaskstore.storage.sqlite import diagnosis


def about(findings: Sequence[Finding], check: str) -> str:
    return "\n".join(f"{one.severity}: {one.found} {one.advice}" for one in findings if one.check == check)


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("PostgreSQL 13.9", "problem"), ("PostgreSQL 14.0", "ok"), ("PostgreSQL 18beta1", "ok"), ("MariaDB", "problem"),
        ("PostgreSQL 14", "ok"),
    ],
)  # fmt: skip
def test_a_server_that_is_too_old_is_a_problem(name, severity):
    assert judging.judge_version(name, works=(14,), proven=(14,)).severity == severity


def test_a_server_on_which_no_test_runs_is_a_warning():
    found = judging.judge_version("MySQL 8.4.3", works=(8,), proven=(9, 7))
    assert found.severity == "warning"
    assert "older than 9.7, the oldest that this library is tested on" in found.found


@pytest.mark.parametrize(
    ("used", "dispatchers", "severity"), [(5, 2, "ok"), (5, 4, "ok"), (5, 5, "warning"), (80, 0, "warning")]
)
def test_connections_that_will_not_be_enough_are_a_warning(used, dispatchers, severity):
    found = judging.judge_connections(used=used, most=100, dispatchers=dispatchers, each=22)
    assert found.severity == severity


def test_a_server_without_skip_locked_is_a_warning():
    assert judging.judge_locking(skips=False).severity == "warning"


async def test_a_file_that_is_locked_and_not_in_wal_mode_is_found_and_left_so(tmp_path, monkeypatch):
    file = tmp_path / "tasks.db"
    store = TaskStore(f"sqlite:///{file}")
    await store.migrate()
    monkeypatch.setattr(diagnosis, "_PATIENCE", 0.1)
    with closing(sqlite3.connect(file, isolation_level=None)) as mine:
        mine.execute("PRAGMA journal_mode = DELETE")
        mine.execute("BEGIN IMMEDIATE")
        findings = await store.diagnose()
        mine.execute("ROLLBACK")
        assert "warning: Nobody else could write for 0.1 s" in about(findings, "locking")
        assert "warning: The journal mode is delete, not WAL" in about(findings, "journal")
        assert mine.execute("PRAGMA journal_mode").fetchone() == ("delete",)


async def test_free_pages_a_large_log_and_a_full_disk_are_found(tmp_path, monkeypatch):
    store = TaskStore(f"sqlite:///{tmp_path / 'tasks.db'}")
    async with store:
        monkeypatch.setattr(diagnosis, "_LARGE", 0)
        monkeypatch.setattr(diagnosis, "_MOSTLY_FREE", 0)
        monkeypatch.setattr(diagnosis, "_LARGE_WAL", 1)
        monkeypatch.setattr(diagnosis, "_DISK_LEFT", float("inf"))
        monkeypatch.setattr(diagnosis, "_REMOTE", ("",))
        findings = await store.diagnose()
    assert "free pages, left by deleted tasks. They are used again." in about(findings, "tables")
    assert "warning: The write-ahead log has" in about(findings, "journal")
    assert "MB of the disk are left. Make room" in about(findings, "disk")
    assert "where SQLite's locks do not hold" in about(findings, "disk")
    assert about(findings, "locking") == "ok: The write lock keeps other processes out. "


def test_a_file_system_is_known_by_the_mount_that_is_nearest(monkeypatch, tmp_path):
    table = f"21 1 0:5 / / rw - ext4 /dev/a rw\n22 21 0:6 / {tmp_path} rw - nfs4 host:/x rw\n"
    monkeypatch.setattr(Path, "read_text", lambda *_a, **_k: table)
    assert diagnosis._file_system(tmp_path / "tasks.db") == "nfs4"
    assert diagnosis._file_system(Path("/elsewhere.db")) == "ext4"
