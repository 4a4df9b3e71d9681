"""Tasks named on a command line: several at once, by as much of an id's beginning as is unique."""

from __future__ import annotations

from uuid import UUID

import pytest

from aiotaskstore import Task, TaskStore
from aiotaskstore.cli.exit_code import ExitCode, Failure
from aiotaskstore.cli.option import ids_of
from aiotaskstore.cli.selection import WrittenId, each
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.noop_task import noop
from tests.cli.command import APP, Commands


@pytest.fixture
def some(store: TaskStore) -> TaskStore:
    store.include(noop)
    return store


def written(*texts: object) -> list[WrittenId]:
    return ids_of(None, None, tuple(map(str, texts)))  # type: ignore[arg-type] # it looks at neither


async def shortest(store: TaskStore, task_id: UUID) -> str:
    """Give the shortest beginning that only this id has."""
    others = [one.id.hex for one in await store.tasks.list() if one.id != task_id]
    return next(
        task_id.hex[:digits]
        for digits in range(4, 33)
        if not any(one.startswith(task_id.hex[:digits]) for one in others)
    )


async def chosen(store: TaskStore, *texts: object) -> tuple[list[Task], ExitCode]:
    return await each(store, written(*texts), store.tasks.require)


async def test_a_beginning_that_is_unique_names_its_task(some: TaskStore):
    ids = await some.enqueue_many([noop.draft() for _ in range(20)])
    await some.dispatcher().run_once(limit=5)  # so that some are in each half
    for task_id in (ids[0], ids[4], ids[5], ids[19]):
        short = await shortest(some, task_id)
        for text in (short, short.upper(), str(task_id), str(task_id)[:-1], task_id.hex, f"{{{task_id}}}"):
            tasks, code = await chosen(some, text)
            assert ([task.id for task in tasks], code) == ([task_id], 0), text


async def test_a_beginning_that_is_not_unique_lists_the_candidates_and_nothing_is_done(some: TaskStore):
    ids = await some.enqueue_many([noop.draft() for _ in range(12)])
    done: list[UUID] = []

    async def act(task_id: UUID) -> None:
        done.append(task_id)

    with pytest.raises(Failure) as raised:
        await each(some, written(ids[0], ids[3].hex[:5]), act)
    assert raised.value.exit_code is ExitCode.USAGE
    assert done == []
    lines = raised.value.message.splitlines()
    assert lines[0] == f"{ids[3].hex[:5]} begins the ids of more than one task; write more of it:"
    assert lines[1:] == [*(f"  {one}  noop  pending" for one in ids[:10]), "  …"]


async def test_a_beginning_that_nothing_has_is_not_found(some: TaskStore):
    (task_id,) = await some.enqueue_many([noop.draft()])
    for text in ("0000", "ffff", "ffffffff-ffff", f"{int(task_id.hex[:12], 16) + 1:012x}"):
        with pytest.raises(Failure, match=f"No task's id begins with {text}") as raised:
            await chosen(some, text)
        assert raised.value.exit_code is ExitCode.NOT_FOUND


async def test_of_several_the_others_go_on_where_one_fails(some: TaskStore, capsys: pytest.CaptureFixture[str]):
    ids = await some.enqueue_many([noop.draft() for _ in range(3)])
    nobody = new_id()
    tasks, code = await chosen(some, ids[0], nobody, "0000", ids[2])
    assert ([task.id for task in tasks], code) == ([ids[0], ids[2]], ExitCode.NOT_FOUND)
    told = capsys.readouterr().err
    assert f"No task {nobody} is stored." in told
    assert "No task's id begins with 0000." in told

    await some.dispatcher().run_once(limit=1)
    _, code = await each(some, written(ids[0], nobody, ids[1]), some.tasks.cancel)
    assert code is ExitCode.FAILED  # one has finished, another was never there
    assert await some.tasks.status(ids[1]) == "cancelled"


async def test_several_tasks_are_retried_shown_and_deleted_at_once(cli: Commands, sqlite_url: str):
    async with TaskStore(sqlite_url) as store:
        store.include(noop)
        ids = await store.enqueue_many([noop.draft() for _ in range(3)])
        short = await shortest(store, ids[1])
    cancelled = await cli.done("cancel", ids[0], short, "--url", sqlite_url, "--json")
    assert [(one["id"], one["status"]) for one in cancelled.json] == [(str(one), "cancelled") for one in ids[:2]]
    retried = await cli.done("retry", *ids[:2], "--url", sqlite_url)
    assert retried.err.splitlines() == [f"noop {one} is pending." for one in ids[:2]]
    shown = await cli.done("show", *ids, "--url", sqlite_url)
    assert [line.split()[1] for line in shown.out.splitlines() if line.startswith("id ")] == list(map(str, ids))
    deleted = await cli.done("delete", ids[0], short, "--url", sqlite_url)
    assert deleted.err.splitlines() == [f"{one} is deleted." for one in ids[:2]]
    again = await cli.run("delete", *ids, "--url", sqlite_url, "--json")
    assert (again.code, again.json) == (4, [{"id": str(ids[2]), "deleted": True}])


async def test_what_runs_is_deleted_only_by_force(cli: Commands, sqlite_url: str):
    async with TaskStore(sqlite_url) as store:
        store.include(noop)
        (task_id,) = await store.enqueue_many([noop.draft()])
        await _force_running(store, task_id)
        refused = await cli.run("delete", task_id, "--url", sqlite_url)
        assert (refused.code, refused.out) == (1, "")
        assert "Cancel it first, or pass --force." in refused.err
        await cli.done("delete", task_id, "--force", "--url", sqlite_url)
        assert await store.tasks.get(task_id) is None


async def _force_running(store: TaskStore, task_id: UUID) -> None:
    async with store.transaction() as connection:
        await connection.execute("UPDATE aiotaskstore_tasks SET status = 3 WHERE id = ?", (task_id.bytes,))


async def test_a_command_that_enqueues_waits_no_longer_than_told(cli: Commands, sqlite_url: str):
    waited = await cli.run("enqueue", "add", '{"a": 1}', "--wait", "200ms", APP, "--url", sqlite_url, "--json")
    assert (waited.code, waited.json["status"]) == (1, "pending")
    assert f"add is pending and goes on without us: aiotaskstore show {waited.json['id']}" in waited.err
    worker = cli.start("worker", APP, "--url", sqlite_url)
    before = cli.start("enqueue", "--wait", "add", '{"a": 1}', APP, "--url", sqlite_url)
    after = cli.start("enqueue", "add", "--wait", '{"a": 2}', APP, "--url", sqlite_url)
    assert [(await one.ends()).out for one in (before, after)] == ["2\n", "3\n"]
    worker.kill()
