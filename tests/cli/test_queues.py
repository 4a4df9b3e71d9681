"""Queues and workers from the command line."""

from __future__ import annotations

from aiotaskstore import TaskStore
from tests.cli.command import APP, Commands, needs_terminal, screen_of


async def test_a_queue_is_paused_listed_resumed_and_purged(cli: Commands, url: str):
    async with TaskStore(url) as store:
        held = str((await store.enqueue("add", {"a": 1}, queue="sums", unchecked=True)).id)
    paused = await cli.done("queues", "pause", "sums", "--reason", "too many", "--url", url)
    assert (paused.out, paused.err) == ("", "Queue sums is paused.\n")
    await cli.done("worker", "--drain", APP, "--url", url)
    (queue,) = (await cli.done("queues", "--json", "--url", url)).json
    assert (queue["name"], queue["paused"], queue["pause_reason"], queue["depth"]["pending"]) == (
        "sums", True, "too many", 1,
    )  # fmt: skip
    assert queue["paused_at"].endswith("Z")
    assert queue["dispatchers"] == []
    again = await cli.done("queues", "resume", "sums", "--url", url, "--json")
    assert again.json == {"queue": "sums", "paused": False, "changed": True}
    await cli.done("worker", "--drain", APP, "--url", url)
    async with TaskStore(url) as store:
        assert (await store.tasks.require(held)).status == "succeeded"
        await store.enqueue("add", {"a": 2}, queue="sums", unchecked=True)
    purged = await cli.done("queues", "purge", "sums", "--yes", "--json", "--url", url)
    assert purged.json == {"queue": "sums", "deleted": 1}


async def test_what_is_printed_is_for_people(cli: Commands, sqlite_url: str):
    async with TaskStore(sqlite_url) as store:

        @store.task(queue="mail")
        async def work() -> None: ...

        for command, text in (("queues", "There are no queues yet."), ("workers", "No worker is running.")):
            empty = await cli.done(command, "--url", sqlite_url)
            assert (empty.out, empty.err.startswith(text)) == ("", True)
        await store.queues.pause("mail", "the provider is down")
        await work.enqueue()
        async with store.dispatcher(queues={"mail": 2}, name="first"), store.dispatcher(name="second"):
            listed = await cli.done("queues", "list", "--url", sqlite_url)
            head, line = listed.out.splitlines()
            assert head.split() == ["QUEUE", "PENDING", "DUE", "FOR", "WORKERS", "PAUSED"]
            assert line.split()[:2] == ["mail", "1"]
            assert line.endswith("the provider is down")
            workers = (await cli.done("workers", "--url", sqlite_url)).out.splitlines()
            assert [line.split()[0] for line in workers] == ["NAME", "first", "second"]
            assert [" mail " in workers[1], " every " in workers[2]] == [True, True]
            one, _ = (await cli.done("workers", "--json", "--url", sqlite_url)).json
            assert (one["name"], one["queues"], one["aliases"], one["alive"]) == ("first", ["mail"], ["work"], True)
            assert one["version"]
        stats = await cli.done("stats", "--url", sqlite_url)
        assert "aiotaskstore queues resume mail" in stats.err


async def test_what_changes_nothing_says_so(cli: Commands, sqlite_url: str):
    await TaskStore(sqlite_url).migrate()
    assert (await cli.done("queues", "resume", "a", "--url", sqlite_url)).err == "Queue a was not paused.\n"
    await cli.done("queues", "pause", "a", "--url", sqlite_url)
    assert (await cli.done("queues", "pause", "a", "--url", sqlite_url)).err == "Queue a was paused already.\n"
    nothing = await cli.done("queues", "purge", "a", "--yes", "--url", sqlite_url)
    assert "no unfinished tasks" in nothing.err


async def test_a_name_that_cannot_be_is_a_usage_error(cli: Commands, sqlite_url: str):
    await TaskStore(sqlite_url).migrate()
    refused = await cli.run("queues", "pause", "x" * 101, "--url", sqlite_url)
    assert refused.code == 2
    assert "at most 100 characters" in refused.err


async def test_a_purge_asks_nobody_where_nobody_could_answer(cli: Commands, sqlite_url: str):
    async with TaskStore(sqlite_url) as store:
        for more in ((), ("--json",), ("-y",)):
            await store.enqueue("work", {}, queue="mail", unchecked=True)
            purged = await cli.done("queues", "purge", "mail", "--url", sqlite_url, *more)
            assert "[y/N]" not in purged.err
            assert await store.tasks.count() == 0


@needs_terminal
async def test_a_purge_that_prints_json_asks_nobody(cli: Commands, sqlite_url: str):
    async with TaskStore(sqlite_url) as store:
        await store.enqueue("work", {}, queue="mail", unchecked=True)
        code, screen = screen_of("queues", "purge", "mail", "--json", "--url", sqlite_url, folder=cli.folder)
        assert (code, "[y/N]" in screen) == (0, False)
        assert await store.tasks.count() == 0


@needs_terminal
async def test_a_purge_asks_first(cli: Commands, sqlite_url: str):
    async with TaskStore(sqlite_url) as store:
        await store.enqueue("work", {}, queue="mail", unchecked=True)
        for answer, left in (("n\n", 1), ("y\n", 0)):
            code, screen = screen_of(
                "queues", "purge", "mail", "--url", sqlite_url, folder=cli.folder, typed=answer, NO_COLOR="1"
            )
            assert code == left
            assert "Delete 1 unfinished task of queue mail? [y/N]" in screen
            assert await store.tasks.count() == left


async def test_who_pauses_reads_of_workers_that_will_ignore_it(cli: Commands, sqlite_url: str):
    async with TaskStore(sqlite_url) as store, store.transaction() as connection:
        await connection.execute(
            "INSERT INTO aiotaskstore_dispatchers (id, name, host, pid, lease, started_at, heartbeat_at) "
            "VALUES (zeroblob(16), 'veteran', 'old-host', 7, 1e11, 0, 0)"
        )
    paused = await cli.done("queues", "pause", "mail", "--url", sqlite_url)
    assert "Queue mail is paused." in paused.err
    assert "veteran" in paused.err
    assert "ignores paused queues (now mail)" in paused.err
