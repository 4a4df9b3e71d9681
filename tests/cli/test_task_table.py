"""What `ls` and `show` print, letter by letter: on a terminal of 80 and of 120 columns, and in a pipe."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from os import terminal_size
from uuid import UUID

import pytest

from aiotaskstore import Progress, Task, TaskStatus, TaskStore
from aiotaskstore.cli.console import Console
from aiotaskstore.cli.task_facts import print_task
from aiotaskstore.cli.task_table import print_tasks
from aiotaskstore.cli.text_width import cut, padded, width_of

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
async def tasks() -> list[Task]:
    """Tasks of every kind, made at noon."""
    async with TaskStore("sqlite://") as store:
        ids = await store.enqueue_many([store.draft("x", {"user_id": 42}, unchecked=True) for _ in range(6)])
        stored = [await store.tasks.require(one) for one in ids]

    def at(seconds: float) -> datetime:
        return NOW + timedelta(seconds=seconds)

    made = [
        replace(task, id=UUID(f"01a2015d-5b1{at_}-7561-9be8-4d839176d280"), created_at=at(-90), updated_at=at(-60))
        for at_, task in enumerate(stored)
    ]
    error = "ConnectionError: smtp.example.com refused the connection:\n421 too many connections"
    return [
        replace(made[0], alias="send_welcome_email", queue="emails", status=TaskStatus.PENDING, run_at=at(-3)),
        replace(made[1], alias="send_welcome_email", queue="emails", status=TaskStatus.SCHEDULED, run_at=at(300)),
        replace(made[2], alias="報告を作る", status=TaskStatus.RUNNING, started_at=at(-12), attempt=1,
                progress=Progress("pages", 0.5, at(-1))),
        replace(made[3], alias="send_welcome_email", queue="emails", status=TaskStatus.FAILED, finished_at=at(-7200),
                error=error, attempt=3, max_attempts=3, started_at=at(-7201), finish_reason="exhausted"),
        replace(made[4], alias="resize", status=TaskStatus.CANCELLED, finished_at=at(-5), cancel_reason="not needed"),
        replace(made[5], alias="resize", status=TaskStatus.SUCCEEDED, finished_at=at(-86400 * 2), deleted_at=at(-1)),
    ]  # fmt: skip


def screen(width: int, monkeypatch: pytest.MonkeyPatch) -> Console:
    """A console on a terminal without colours."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: terminal_size((width, 24)))
    monkeypatch.setattr(Console, "on_terminal", True)
    return Console()


IN_80_COLUMNS = """\
ID             STATUS                ALIAS               QUEUE    WHEN
01a2015d-5b10  ○ pending             send_welcome_email  emails   due 3s ago
01a2015d-5b11  · scheduled           send_welcome_email  emails   due in 5m
01a2015d-5b12  ● running             報告を作る          default  for 12s
01a2015d-5b13  ✗ failed              send_welcome_email  emails   2h ago
01a2015d-5b14  - cancelled           resize              default  5s ago
01a2015d-5b15  ✓ succeeded, deleted  resize              default  2d ago
"""
SHORT_NAMES_IN_80_COLUMNS = """\
ID             STATUS       ALIAS       QUEUE    WHEN     NOTE
01a2015d-5b12  ● running    報告を作る  default  for 12s  attempt 1/1 · 50% pag…
01a2015d-5b14  - cancelled  resize      default  5s ago   not needed
"""
IN_120_COLUMNS = """\
ID                                    STATUS     ALIAS               QUEUE    WHEN     NOTE
01a2015d-5b12-7561-9be8-4d839176d280  ● running  報告を作る          default  for 12s  attempt 1/1 · 50% pages
01a2015d-5b13-7561-9be8-4d839176d280  ✗ failed   send_welcome_email  emails   2h ago   attempt 3/3 · ConnectionError: s…
"""
IN_A_PIPE = """\
ID                                    ALIAS               QUEUE   STATUS   ATTEMPT  CREATED
01a2015d-5b10-7561-9be8-4d839176d280  send_welcome_email  emails  pending  0/1      2026-01-31T11:58:30.000Z
01a2015d-5b13-7561-9be8-4d839176d280  send_welcome_email  emails  failed   3/3      2026-01-31T11:58:30.000Z
"""


async def test_in_80_columns_ids_are_short_and_names_are_whole(tasks, monkeypatch, capsys):
    print_tasks(screen(80, monkeypatch), tasks, NOW)
    assert capsys.readouterr().out == IN_80_COLUMNS


async def test_notes_are_printed_where_they_take_nothing_from_the_names(tasks, monkeypatch, capsys):
    print_tasks(screen(80, monkeypatch), [tasks[2], tasks[4]], NOW)
    assert capsys.readouterr().out == SHORT_NAMES_IN_80_COLUMNS


async def test_in_120_columns_ids_are_whole(tasks, monkeypatch, capsys):
    print_tasks(screen(120, monkeypatch), tasks[2:4], NOW)
    printed = capsys.readouterr().out
    assert printed == IN_120_COLUMNS
    assert max(map(width_of, printed.splitlines())) == 120


async def test_in_a_pipe_nothing_is_cut_and_instants_are_instants(tasks, capsys):
    print_tasks(Console(), [tasks[0], tasks[3]], NOW)
    assert capsys.readouterr().out == IN_A_PIPE


async def test_show_tells_times_from_now_on_a_terminal_and_shortens_what_is_long(tasks, monkeypatch, capsys):
    task = replace(tasks[3], payload={"text": "x" * 5000})
    print_task(Console(), task, NOW)
    piped = capsys.readouterr().out
    assert "status       failed (exhausted)\n" in piped
    assert "finished     2026-01-31T10:00:00.000Z\n" in piped
    assert "x" * 5000 in piped
    print_task(screen(80, monkeypatch), task, NOW)
    printed = capsys.readouterr().out
    assert "status       ✗ failed (exhausted)\n" in printed
    assert "finished     2026-01-31T10:00:00.000Z (2h ago)\ntook         1 s\n" in printed
    assert "             (3,012 more letters; --json prints them)\n" in printed


def test_wide_letters_take_two_columns_and_accents_none():
    assert (width_of("abc"), width_of("報告"), width_of("e\N{COMBINING ACUTE ACCENT}"), width_of("✓")) == (3, 4, 1, 1)
    assert (cut("報告を作る", 10), cut("報告を作る", 6), cut("報告を作る", 6, at_front=True)) == (
        "報告を作る", "報告…", "…作る",
    )  # fmt: skip
    assert (padded("報告", 6), padded("報告", 6, right=True)) == ("報告  ", "  報告")
