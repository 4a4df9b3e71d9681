"""`store.diagnose()` finds what is wrong, says what to do, and changes nothing."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from aiotaskstore import DatabaseUnavailableError, Every, Finding, Queue, SchemaOutdatedError, Severity, TaskStore, noop
from aiotaskstore.manage import diagnosis
from aiotaskstore.storage.check import Check
from aiotaskstore.storage.migrations import LATEST
from aiotaskstore.storage.postgresql import diagnosis as postgresql_diagnosis
from aiotaskstore.storage.sqlite import diagnosis as sqlite_diagnosis
from tests.helpers import LIMIT, my_connection

OF_THE_SERVER = {"server", "settings", "session", "connections", "horizon", "history list", "disk", "outcomes"}
"""Checks that depend on the server, which the tests share, and on what else runs on it."""


def about(findings: Sequence[Finding], check: str) -> str:
    """What was found by a check, and what to do."""
    return "\n".join(f"{one.severity}: {one.found} {one.advice}" for one in findings if one.check == check)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found only because this machine is busy."""
    monkeypatch.setattr(diagnosis, "_LIMIT", LIMIT)
    monkeypatch.setattr(diagnosis, "_SLOW", LIMIT)
    monkeypatch.setattr(postgresql_diagnosis, "_LIMIT", LIMIT)
    monkeypatch.setattr(sqlite_diagnosis, "_PATIENCE", LIMIT)


async def test_a_missing_schema_is_found_and_not_made(url):
    store = TaskStore(url)
    findings = await store.diagnose()
    assert about(findings, "schema").startswith("problem: There ")
    assert "aiotaskstore migrate" in about(findings, "schema")
    assert not {"queues", "tables", "claims"} & {one.check for one in findings}
    if url.startswith("sqlite"):
        assert not Path(urlsplit(url).path.removeprefix("/")).exists()
    else:
        assert "a round trip takes" in about(findings, "connection")
        with pytest.raises(SchemaOutdatedError):
            await store.open(migrate=False)


async def test_tables_of_another_version_are_told_apart_and_left_alone(url):
    store = TaskStore(url)
    await store.migrate()
    for version, found in ((LATEST - 1, f"this library needs {LATEST}"), (LATEST + 3, "newer than")):
        async with my_connection(url) as mine:
            await mine.execute(f"UPDATE aiotaskstore_migrations SET version = {version} WHERE version >= {LATEST - 1}"
                               if version > LATEST else
                               f"DELETE FROM aiotaskstore_migrations WHERE version = {LATEST}")  # fmt: skip
            if not url.startswith("postgresql"):
                await mine.commit()
        findings = await store.diagnose()
        assert about(findings, "schema").startswith("problem: The tables have version")
        assert found in about(findings, "schema")
        assert "claims" not in {one.check for one in findings}


async def test_nothing_is_wrong_where_all_is_well(url):
    store = TaskStore(url)
    store.include(noop)
    async with store, store.dispatcher():
        findings = await store.diagnose()
    wrong = [one for one in findings if one.severity is not Severity.OK and one.check not in OF_THE_SERVER]
    assert wrong == []
    assert {"schema", "connection", "clock", "locking", "queues", "handlers", "claims"} <= {x.check for x in findings}


async def test_due_work_that_nobody_does_is_found(url):
    store = TaskStore(url, queues=[Queue("bulk", concurrency=40)])

    @store.task(queue="bulk", max_attempts=1)
    async def fails() -> None:
        raise ValueError("no luck")

    @store.task
    async def lingers() -> None: ...

    fails.schedule(Every(hours=1), name="hourly")
    async with store:
        await store.enqueue_many([fails.draft() for _ in range(25)])
        await store.dispatcher().run_once()
        await store.enqueue("renamed", {}, unchecked=True, queue="mail")
        await fails.enqueue()
        await store.queues.pause("bulk", "the provider is down")
        await lingers.enqueue()
        async with my_connection(url) as mine:
            await mine.execute("UPDATE aiotaskstore_tasks SET status = 3 WHERE alias = 'lingers'")
            hour_ago = "next_run_at - 7200000000" if mine.dialect == "sqlite" else "next_run_at - interval '2' hour"
            await mine.execute(f"UPDATE aiotaskstore_schedules SET next_run_at = {hour_ago}")
            if mine.dialect != "postgresql":
                await mine.commit()
        findings = await store.diagnose()

    assert 'problem: The queue "mail" has 1 task due' in about(findings, "queues")
    assert "aiotaskstore worker --app module:attribute -q mail" in about(findings, "queues")
    assert 'warning: The queue "bulk" is paused (the provider is down), and has 1 task' in about(findings, "queues")
    assert "aiotaskstore queues resume bulk" in about(findings, "queues")
    assert 'problem: No handler for 1 task with the alias "renamed": neither' in about(findings, "handlers")
    assert 'former_aliases=["renamed"]' in about(findings, "handlers")
    assert '"lingers"' not in about(findings, "handlers")
    assert "problem: 1 task of 1 that run were claimed by a dispatcher that has died" in about(findings, "claims")
    assert 'problem: The schedule "hourly" is overdue by' in about(findings, "schedules")
    assert "warning: Of the newest 25 finished tasks, 100% have failed: fails (25)." in about(findings, "outcomes")
    assert "40 slots, and pool_size is 10: at most 10 runs" in about(findings, "slots")

    other = TaskStore(url)
    other.include(noop)
    findings = await other.diagnose()
    assert "not declared here: hourly" in about(findings, "schedules")


async def test_a_database_that_cannot_be_reached_raises():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        store = TaskStore(f"postgresql://nobody@127.0.0.1:{taken.getsockname()[1]}/none")
        with pytest.raises(DatabaseUnavailableError):
            await store.diagnose()


async def test_a_check_that_fails_or_hangs_is_a_finding(monkeypatch):
    async def fails() -> list[Finding]:
        raise KeyError("autovacuum")

    async def hangs() -> list[Finding]:
        await asyncio.Event().wait()
        return []

    async def is_short() -> list[Finding]:
        monkeypatch.setattr(diagnosis, "_LIMIT", 0.05)
        return []

    async def is_long_again() -> list[Finding]:
        monkeypatch.setattr(diagnosis, "_LIMIT", LIMIT)
        return []

    named = {"odd": fails, "before": is_short, "slow": hangs, "after": is_long_again}
    checks = [Check(name, look) for name, look in named.items()]
    store = TaskStore("sqlite://")
    async with store:
        database = store._require_open().storage.database
        monkeypatch.setattr(database, "checks", lambda: checks)
        findings = await store.diagnose()
    assert "warning: This could not be looked at: KeyError: 'autovacuum'" in about(findings, "odd")
    assert "warning: This could not be looked at: it took more than 0.05 s" in about(findings, "slow")
    assert about(findings, "queues").startswith("ok: ")


async def test_a_lock_that_could_not_be_tried_is_not_told_to_work(sqlite_url, monkeypatch):
    store = TaskStore(sqlite_url)
    await store.migrate()
    assert about(await store.diagnose(), "locking").startswith("ok: ")
    monkeypatch.setattr(sys, "executable", "/bin/false")  # as in a program that embeds Python
    found = about(await store.diagnose(), "locking")
    assert found.startswith("warning: Whether the write lock keeps other processes out could not be tried: /bin/false")


async def test_a_clock_that_differs_is_found(server_url, monkeypatch):
    class Late(datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz).replace(year=2020)

    monkeypatch.setattr(diagnosis, "datetime", Late)
    findings = await TaskStore(server_url).diagnose()
    assert about(findings, "clock").startswith("warning: This machine's clock is ")
    assert " behind the database's" in about(findings, "clock")
