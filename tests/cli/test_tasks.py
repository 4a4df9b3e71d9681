"""A task's life from the command line, on each database."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from aiotaskstore import TaskStatus
from aiotaskstore.storage.migrations import migrations
from tests.cli.command import APP, Commands


async def test_a_task_is_stored_seen_run_and_told(cli: Commands, url: str):
    assert "Applied" in (await cli.done("migrate", "--url", url)).err
    first = cli.start(APP, "--url", url, "enqueue", "add", '{"a": 40, "b": 2}')
    second = cli.start(APP, "enqueue", "add", '{"a": 1}', "--delay", "1h", AIOTASKSTORE_URL=url)
    task_id, later_id = (await first.ends()).out.strip(), (await second.ends()).out.strip()
    assert UUID(task_id).version == UUID(later_id).version == 7

    looks = cli.start("--url", url, "ls", "--json"), cli.start("ls", "--url", url, "--status", "scheduled")
    assert {one["id"]: one["status"] for one in (await looks[0].ends()).json} == {
        later_id: "scheduled",
        task_id: "pending",
    }
    assert (await looks[1].ends()).out.splitlines()[1].split()[0] == later_id

    run = cli.start("worker", "--drain", APP, "--url", url)
    cancel = cli.start("cancel", later_id, "--reason", "no need", "--url", url, "--json")
    cancelled = (await cancel.ends()).json
    assert (cancelled["status"], cancelled["cancel_reason"]) == ("cancelled", "no need")
    assert (await run.ends()).code == 0
    again = (await cli.done("retry", later_id, "--url", url, "--json")).json
    assert (again["status"], again["attempt"]) == ("pending", 0)

    looks = cli.start("show", task_id, "--url", url, "--json"), cli.start("stats", "--url", url, "--json")
    shown = (await looks[0].ends()).json
    assert (shown["status"], shown["result"], shown["payload"]) == ("succeeded", 42, {"a": 40, "b": 2})
    assert shown["finished_at"].endswith("Z")
    counts = {str(status): 0 for status in TaskStatus} | {"pending": 1, "succeeded": 1}
    assert (await looks[1].ends()).json == {"queues": {"sums": counts}, "dispatchers": []}


async def test_migrate_tells_whether_anything_is_to_be_done(cli: Commands, postgresql_url: str):
    outdated = await cli.run("migrate", "--check", "--url", postgresql_url)
    assert (outdated.code, outdated.out) == (1, "")
    assert "Run `aiotaskstore migrate`." in outdated.err
    assert (await cli.done("migrate", "--url", postgresql_url, "--json")).json == {
        "applied": len(migrations("postgresql"))
    }
    assert (await cli.done("migrate", "--url", postgresql_url, "--json")).json == {"applied": 0}
    assert (await cli.done("migrate", "--check", "--url", postgresql_url, "--json")).json == {"up_to_date": True}
    nothing = await cli.done("ls", "--url", postgresql_url)
    assert (nothing.out, nothing.err.startswith("There are no tasks yet.")) == ("", True)


async def test_a_command_waits_for_the_end_of_its_task(cli: Commands, sqlite_url: str):
    worker = cli.start("worker", APP, AIOTASKSTORE_URL=sqlite_url)
    good = cli.start("enqueue", "add", '{"a": 1}', "--wait", APP, AIOTASKSTORE_URL=sqlite_url)
    bad = cli.start("enqueue", "explode", '{"why": "a reason"}', "--wait", APP, AIOTASKSTORE_URL=sqlite_url)
    told = cli.start("enqueue", "explode", '{"why": "told"}', "--wait", "--json", APP, AIOTASKSTORE_URL=sqlite_url)
    assert (await good.ends()).out == "2\n"
    failed = await bad.ends()
    assert (failed.code, failed.out) == (1, "")
    assert "explode failed: RuntimeError: a reason" in failed.err
    answer = await told.ends()
    assert (answer.code, answer.json["status"], answer.json["error"]) == (1, "failed", "RuntimeError: told")
    await worker.says("RuntimeError: a reason")  # and its traceback, for whoever runs the worker

    (dispatcher,) = (await cli.done("stats", "--json", "--url", sqlite_url)).json["dispatchers"]
    assert dispatcher.keys() == {"id", "name", "host", "pid", "started_at", "heartbeat_at", "silent_for"}
    stats = await cli.done("stats", "--url", sqlite_url)
    assert "SUCCEEDED" in stats.out
    assert str(worker.process.pid) in stats.out


async def test_show_tells_where_an_attempt_failed_and_when_the_next_is_due(cli: Commands, sqlite_url: str):
    task_id = (await cli.done("enqueue", "stumble", APP, "--url", sqlite_url)).out.strip()
    waiting = await cli.done("show", task_id, "--url", sqlite_url)
    assert facts(waiting.out)["due"].split("(")[1].startswith("since ")
    worker = await cli.done("worker", "--drain", APP, "--url", sqlite_url)
    assert f"stumble {task_id} started (queue default, attempt 1)" in worker.err
    assert "failed, attempt 1: ValueError: no luck; again in 1h" in worker.err
    assert worker.err.count('raise ValueError("no luck")') == 1

    shown = await cli.done("show", task_id, "--url", sqlite_url)
    told = facts(shown.out)
    assert (told["status"], told["attempt"]) == ("scheduled", "1 of 3")
    assert told["next attempt"].partition("(")[2].startswith(("in 5", "in 1h"))
    assert told["attempt 1"].endswith("ValueError: no luck")
    assert "app.py" in shown.out
    assert 'raise ValueError("no luck")' in shown.out
    assert "aiotaskstore/dispatch" not in shown.out
    error = (await cli.done("show", task_id, "--json", "--url", sqlite_url)).json["errors"][0]
    assert error["traceback"].splitlines()[-1] == "ValueError: no luck"


def facts(text: str) -> dict[str, str]:
    """Read what `show` prints: names in a column of their own."""
    return {line[:12].strip(): line[13:] for line in text.splitlines() if line[:12].strip()}


async def test_the_usual_variable_names_the_database_after_ours(cli: Commands, sqlite_url: str):
    await cli.done("migrate", DATABASE_URL=sqlite_url)
    await cli.done("ls", DATABASE_URL=sqlite_url)
    await cli.done("ls", AIOTASKSTORE_URL=sqlite_url, DATABASE_URL="postgresql://nobody@127.0.0.1:1/nowhere")
    await cli.done("ls", "--url", sqlite_url, DATABASE_URL="postgresql://nobody@127.0.0.1:1/nowhere")


async def test_an_app_that_is_named_knows_the_names_of_its_tables(cli: Commands, sqlite_url: str):
    (cli.folder / "shop.py").write_text(
        "from aiotaskstore import TaskStore\nstore = TaskStore.from_env(prefix='shop_')\n"
        "@store.task\nasync def ship() -> None: ...\n"
    )
    named = {"AIOTASKSTORE_APP": "shop:store", "DATABASE_URL": sqlite_url}
    task_id = (await cli.done("enqueue", "ship", **named)).out.strip()
    assert [one["id"] for one in (await cli.done("ls", "--json", **named)).json] == [task_id]
    assert (await cli.run("ls", "--url", sqlite_url, **named)).code == 1  # without the app, its prefix is not known
    assert (await cli.done("ls", "--url", sqlite_url, "--prefix", "shop_", "--json")).json[0]["id"] == task_id


async def test_what_has_nothing_in_it_says_what_to_do(cli: Commands, sqlite_url: str):
    await cli.done("migrate", "--url", sqlite_url)
    for command in ("ls", "stats"):
        answer = await cli.done(command, "--url", sqlite_url)
        assert answer.out == ""
        assert "aiotaskstore enqueue ALIAS" in answer.err
    assert "aiotaskstore worker --app" in answer.err


async def test_another_service_enqueues_by_alias_with_only_a_url(cli: Commands, sqlite_url: str):
    await cli.done("worker", "--drain", APP, "--url", sqlite_url)  # publishes what it can run
    task_id = (await cli.done("enqueue", "add", '{"a": 1}', "--url", sqlite_url)).out.strip()
    await cli.done("worker", "--drain", APP, "--url", sqlite_url)
    shown = await cli.done("show", task_id, "--url", sqlite_url)
    assert "sums" in shown.out
    assert [line.split()[-1] for line in shown.out.splitlines() if line.startswith("result")] == ["2"]


async def test_list_needs_no_database(cli: Commands):
    answer = await cli.done("list", APP, "--url", "postgresql://nobody@127.0.0.1:1/nowhere")
    assert [line.split()[1] for line in answer.out.splitlines()[1:]] == ["add", "explode", "note", "linger", "stumble"]
    described = (await cli.done("list", "--app", "tests.cli.app:make", "--json")).json[0]
    assert described == {
        "alias": "add",
        "title": "Add",
        "description": "Add two numbers.",
        "queue": "sums",
        "payload": described["payload"],
    }


async def test_sql_is_printed_and_nothing_else_is_done(cli: Commands, tmp_path: Path):
    file = tmp_path / "none.db"
    answer = await cli.done("migrate", "--sql", "--url", f"sqlite:///{file}")
    assert answer.out.startswith("CREATE TABLE")
    assert not file.exists()
    as_json = await cli.done("migrate", "--sql", "--json", "--url", f"sqlite:///{file}")
    assert as_json.json == {"sql": answer.out.rstrip()}
    mysql = await cli.done("migrate", "--sql", "--url", "mysql://nobody@127.0.0.1:1/nowhere")
    assert "ENGINE=InnoDB" in mysql.out
