"""Schedules from the command line, on each database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from aiotaskstore import Every, Frequency, Once, RecurrenceRule, Schedule, TaskStore
from tests.cli.command import APP, Commands

FAR = datetime(2099, 1, 1, 9, tzinfo=UTC)


async def stored(url: str, *schedules: Schedule) -> None:
    """Store schedules of the task `add`."""
    async with TaskStore(url) as store:
        for schedule in schedules:
            await store.schedules.create(schedule, unchecked=True)


def nightly(**fields: Any) -> Schedule:
    usual: dict[str, Any] = {"name": "nightly", "alias": "add", "payload": {"a": 1}, "recurrence": "0 9 * * *"}
    return Schedule(**usual | {"status": "active"} | fields)


async def test_a_schedule_is_listed_paused_resumed_and_run(cli: Commands, url: str):
    await stored(url, nightly(), nightly(name="report", status="draft", recurrence=Every(hours=6)))

    listed = (await cli.done("schedules", "--json", "--url", url)).json
    assert [(one["name"], one["status"]) for one in listed] == [("nightly", "active"), ("report", "draft")]
    assert listed[0]["recurrence"] == {"kind": "cron", "text": "0 9 * * *", "timezone": "UTC"}
    assert listed[0]["payload"] == {"a": 1}
    assert listed[0]["next_run_at"].endswith("T09:00:00.000Z")

    paused = await cli.done("schedules", "pause", "nightly", "--url", url)
    assert paused.err == "Schedule nightly is inactive.\n"
    one = await cli.done("schedules", "pause", "nightly", "--url", url, "--json")
    assert (one.json["name"], one.json["status"]) == ("nightly", "inactive")
    resumed = await cli.done("schedules", "resume", "nightly", listed[1]["id"], "--url", url, "--json")
    assert [(one["name"], one["status"]) for one in resumed.json] == [("nightly", "active"), ("report", "active")]

    made = await cli.done("schedules", "run-now", "report", APP, "--url", url)
    task_id = UUID(made.out.strip())
    assert (await cli.done("worker", "--drain", APP, "--url", url)).code == 0
    shown = (await cli.done("show", str(task_id), "--url", url, "--json")).json
    assert (shown["status"], shown["result"], shown["payload"]) == ("succeeded", 2, {"a": 1})
    listed = (await cli.done("schedules", "list", "--json", "--url", url)).json
    assert {one["name"]: one["execution_count"] for one in listed} == {"nightly": 0, "report": 1}


async def test_the_next_occurrences_are_printed_in_utc_and_in_local_time(cli: Commands, sqlite_url: str):
    berlin = RecurrenceRule(Frequency.DAILY, starts_at=FAR, timezone="Europe/Berlin", count=2)
    await stored(sqlite_url, nightly(recurrence=berlin), nightly(name="once", recurrence=Once(FAR)))
    shown = await cli.done("schedules", "preview", "nightly", "-n", "3", "--url", sqlite_url)
    assert shown.out.splitlines() == [
        "2099-01-01T09:00:00.000Z  Thu 2099-01-01 10:00:00 CET",
        "2099-01-02T09:00:00.000Z  Fri 2099-01-02 10:00:00 CET",
    ]
    assert shown.err == "After that it has no more.\n"
    once = await cli.done("schedules", "preview", "once", "--json", "--url", sqlite_url)
    assert once.json == ["2099-01-01T09:00:00.000Z"]
    plain = await cli.done("schedules", "preview", "once", "-n", "1", "--url", sqlite_url)
    assert (plain.out, plain.err) == ("2099-01-01T09:00:00.000Z\n", "")


async def test_a_list_says_in_few_words_when_each_occurs(cli: Commands, sqlite_url: str):
    rule = RecurrenceRule(Frequency.WEEKLY, 2, ["monday"], starts_at=FAR)  # type: ignore[list-item]
    await stored(
        sqlite_url,
        nightly(),
        nightly(name="rule", recurrence=rule),
        nightly(name="every", recurrence=Every(timedelta(hours=6))),
        nightly(name="once", recurrence=Once(FAR)),
    )
    listed = await cli.done("schedules", "--url", sqlite_url)
    heading, *rows = listed.out.splitlines()
    assert heading.split() == ["SCHEDULE", "ALIAS", "STATUS", "RECURRENCE", "NEXT", "RUN", "TASKS"]
    words = {row.split()[0]: row for row in rows}
    assert "0 9 * * *" in words["nightly"]
    assert "2 × weekly monday" in words["rule"]
    assert "every 6h" in words["every"]
    assert "once 2099-01-01T09:00:00.000Z" in words["once"]


async def test_what_is_not_there_or_cannot_be_is_said(cli: Commands, sqlite_url: str):
    await stored(sqlite_url, nightly(status="draft"), nightly(name="done", recurrence=Once(FAR), status="completed"))
    absent = await cli.run("schedules", "pause", "nihgtly", "--url", sqlite_url)
    assert (absent.code, absent.out) == (4, "")
    assert 'no schedule "nihgtly"; `aiotaskstore schedules` lists those that there are' in absent.err
    half = await cli.run("schedules", "resume", "absent", "nightly", "--url", sqlite_url)
    assert half.code == 4
    assert "Schedule nightly is active, next at " in half.err
    finished = await cli.run("schedules", "pause", "done", "--url", sqlite_url)
    assert finished.code == 1
    assert (await cli.run("schedules", "preview", "nightly", "-n", "0", "--url", sqlite_url)).code == 2
    assert (await cli.run("schedules", "run-now", "--url", sqlite_url)).code == 2


async def test_running_one_now_makes_no_sqlite_file(cli: Commands):
    answer = await cli.run("schedules", "run-now", "nightly", APP, "--url", f"sqlite:///{cli.folder}/other.db")
    assert (answer.code, answer.out) == (1, "")
    assert f"There is no SQLite file {cli.folder}/other.db" in answer.err
    assert not (cli.folder / "other.db").exists()


async def test_without_schedules_it_says_how_to_have_one(cli: Commands, sqlite_url: str):
    await stored(sqlite_url)
    nothing = await cli.done("schedules", "--url", sqlite_url)
    assert (nothing.out, nothing.err.startswith("There are no schedules yet.")) == ("", True)
    assert (await cli.done("schedules", "--json", "--url", sqlite_url)).json == []
