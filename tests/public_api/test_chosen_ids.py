"""Ids that callers choose: used once, whoever else stores at the same time, and harmless to everybody else."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest

from aiotaskstore import DuplicateTaskError, Retention, TaskHandle, TaskRouter, TaskStatus, TaskStore
from aiotaskstore.storage.operation import Steps
from tests.bad_input.refusals import together
from tests.helpers import LIMIT, answers_lost, eventually, my_connection

router = TaskRouter()


@router.task
async def double(n: int) -> int:
    return 2 * n


@router.task
async def other(n: int) -> int:
    return n


@pytest.fixture(autouse=True)
def declared(request: pytest.FixtureRequest) -> None:
    if "store" in request.fixturenames:
        request.getfixturevalue("store").include(router)


async def answer_of(call: Coroutine[Any, Any, Any]) -> Any:
    """Return what a call returns or raises."""
    return (await together(call))[0]


def refused(answer: Any, task_id: UUID) -> bool:
    return isinstance(answer, DuplicateTaskError) and (answer.existing_id, answer.external_id) == (task_id, None)


async def test_a_task_has_the_id_that_its_caller_chose(store: TaskStore):
    chosen, by_alias, drafted = uuid4(), uuid4(), uuid4()
    handles = [
        await double.options(id=chosen).enqueue(1),
        await store.enqueue("double", {"n": 2}, id=str(by_alias)),
        store.enqueue_soon(double.options(id=drafted).draft(3)),
    ]
    many = await store.enqueue_many([double.draft(4), double.options(id=(last := uuid4()), external_id="x").draft(5)])
    await store.flush()
    assert [handle.id for handle in handles] == [chosen, by_alias, drafted]
    assert many[1] == last
    assert await store.dispatcher().run_once() == 5
    assert [await store.handle(id_).result() for id_ in (chosen, by_alias, drafted, last)] == [2, 4, 6, 10]


async def test_an_id_is_refused_while_a_row_has_it_and_free_afterwards(store: TaskStore):
    minted = await double.enqueue(1)
    assert refused(await answer_of(other.options(id=minted.id).enqueue(1)), minted.id)
    await store.dispatcher().run_once()
    assert refused(await answer_of(other.options(id=minted.id).enqueue(1)), minted.id)
    assert refused(await answer_of(other.options(id=minted.id, external_id="x").enqueue(1)), minted.id)
    assert [task.alias for task in await store.tasks.list()] == ["double"]
    await store.tasks.delete(minted.id)
    again = await other.options(id=minted.id, external_id="x").enqueue(1)
    assert (await again.task()).alias == "other"


async def test_a_draft_with_an_id_is_stored_once_and_all_that_was_to_be_stored_with_it_is_not(store: TaskStore):
    draft = double.options(id=(chosen := uuid4())).draft(1)
    assert refused(await answer_of(store.enqueue_many([draft, double.draft(2), draft])), chosen)
    assert await store.tasks.count() == 0
    await store.enqueue_many([draft])
    assert refused(await answer_of(store.enqueue_many([double.draft(2), draft])), chosen)
    assert await store.tasks.count() == 1


async def test_of_concurrent_callers_one_stores_an_id_and_nobody_else_is_disturbed(url: str, store: TaskStore):
    chosen = [uuid4() for _ in range(5)]
    async with TaskStore(url) as elsewhere:
        calls = [
            opened.enqueue("double", {"n": 1}, unchecked=True, id=chosen[number % 5])
            for number in range(30)
            for opened in (store, elsewhere)
        ]
        answers = await together(*calls, *(double.enqueue(n) for n in range(20)))
    stored = [answer.id for answer in answers[:60] if isinstance(answer, TaskHandle)]
    assert sorted(stored) == sorted(chosen)
    assert [answer for answer in answers if not isinstance(answer, TaskHandle | DuplicateTaskError)] == []
    assert all(isinstance(answer, TaskHandle) for answer in answers[60:])
    assert await store.tasks.count() == 25


async def test_an_external_id_is_looked_at_first(store: TaskStore):
    chosen = uuid4()
    first = await double.options(id=chosen, external_id="order-1").enqueue(1)
    again = await double.options(id=chosen, external_id="order-1", on_conflict="return").enqueue(1)
    another = await double.options(id=uuid4(), external_id="order-1", on_conflict="return").enqueue(1)
    drafts = [double.options(id=chosen, external_id="order-1", on_conflict="return").draft(1), double.draft(2)]
    many = await store.enqueue_many(drafts)
    assert first.id == again.id == another.id == many[0]
    for id_ in (chosen, uuid4()):
        raised = await answer_of(double.options(id=id_, external_id="order-1").enqueue(1))
        assert isinstance(raised, DuplicateTaskError)
        assert (raised.external_id, raised.existing_id) == ("order-1", chosen)
    assert await store.tasks.count() == 2


async def test_an_external_id_that_a_finished_task_would_lose_stays_its_own_if_the_id_is_taken(store: TaskStore):
    finished = await double.options(external_id="order-1").enqueue(1)
    await store.dispatcher().run_once()
    renewed = double.options(external_id="order-1", unique_while="live")
    assert refused(await answer_of(renewed.options(id=finished.id).enqueue(1)), finished.id)
    raised = await answer_of(double.options(external_id="order-1").enqueue(1))
    assert raised.existing_id == finished.id


async def test_a_taken_id_leaves_the_callers_transaction_usable(url: str, store: TaskStore):
    taken = await double.enqueue(1)
    async with my_connection(url) as mine:
        await mine.begin()
        bound = double.using(mine.connection)
        first = await bound.options(id=(chosen := uuid4())).enqueue(1)
        assert refused(await answer_of(bound.options(id=chosen).enqueue(1)), chosen)
        assert refused(await answer_of(bound.options(id=taken.id).enqueue(1)), taken.id)
        many = store.using(mine.connection).enqueue_many([double.draft(5), double.options(id=taken.id).draft(2)])
        assert refused(await answer_of(many), taken.id)
        last = await bound.enqueue(3)
        await mine.commit()
    assert {task.id for task in await store.tasks.list()} == {taken.id, first.id, last.id}


async def test_in_an_old_snapshot_an_id_that_was_stored_since_is_refused(url: str, store: TaskStore):
    if url.startswith("sqlite"):
        pytest.skip("a snapshot that others have written behind cannot write there at all")
    async with my_connection(url) as mine:
        await mine.execute("BEGIN ISOLATION LEVEL READ COMMITTED" if mine.dialect == "postgresql" else "BEGIN")
        await mine.execute("SELECT 1 FROM aiotaskstore_tasks")
        taken, done = await double.options(priority=1).enqueue(1), await double.enqueue(2)
        await store.dispatcher().run_once(limit=1)
        assert await done.status() is TaskStatus.SUCCEEDED
        for handle in (taken, done):
            assert refused(await answer_of(double.using(mine.connection).options(id=handle.id).enqueue(1)), handle.id)
        await mine.rollback()


@pytest.mark.parametrize("committed", [True, False])
async def test_an_id_in_an_open_transaction_keeps_only_those_waiting_who_want_it(
    url: str, store: TaskStore, committed: bool
):
    chosen = uuid4()
    async with my_connection(url) as mine, asyncio.TaskGroup() as group:
        await mine.begin()
        await double.using(mine.connection).options(id=chosen).enqueue(1)
        waiting = group.create_task(together(*(double.options(id=chosen).enqueue(n) for n in range(3))))
        if not url.startswith("sqlite"):  # where any open transaction keeps everybody waiting
            await eventually(lambda: store._require_open().enqueuing._chosen.waiting)
            for handle in (await double.enqueue(7), await double.options(id=uuid4()).enqueue(8)):
                assert await handle.status() is TaskStatus.PENDING
            assert not waiting.done()
        await (mine.commit() if committed else mine.rollback())
        answers = await waiting
    assert [refused(answer, chosen) for answer in answers].count(True) == (3 if committed else 2)


async def test_a_lost_reply_to_a_commit_is_no_duplicate(store: TaskStore):
    database = store._require_open().storage.database
    taken = await double.enqueue(1)
    with answers_lost(database):
        alone = await double.options(id=uuid4()).enqueue(1)
    with answers_lost(database):
        drafts = [
            double.draft(2),
            double.options(id=uuid4()).draft(3),
            double.options(id=uuid4(), external_id="x").draft(4),
        ]
        many = await store.enqueue_many(drafts)
    assert {task.id for task in await store.tasks.list()} == {taken.id, alone.id, *many}
    assert refused(await answer_of(double.options(id=many[1]).enqueue(9)), many[1])


async def test_a_task_that_is_not_kept_frees_its_id(store: TaskStore):
    gone = double.options(id=uuid4(), retention=Retention(keep="none"))
    first = await gone.enqueue(1)
    await store.dispatcher().run_once()
    second = await gone.enqueue(1)
    assert second.id == first.id


async def test_a_taken_id_that_is_enqueued_soon_is_reported(url: str):
    received: list[tuple[str | None, UUID | None, BaseException]] = []
    store = TaskStore(url, on_error=lambda queue, task_id, error: received.append((queue, task_id, error)))
    store.include(router)
    async with store, asyncio.timeout(LIMIT):
        taken = await double.enqueue(1)
        store.enqueue_soon(double.options(id=taken.id).draft(1))
        await store.flush()
    assert [(queue, task_id) for queue, task_id, _ in received] == [("default", taken.id)]
    assert refused(received[0][2], taken.id)


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("joined", [False, True])
async def test_an_id_that_was_stored_since_we_looked_is_refused_all_the_same(
    store: TaskStore, monkeypatch: pytest.MonkeyPatch, finished: bool, joined: bool
):
    taken = await double.enqueue(1)
    if finished:
        await store.dispatcher().run_once()
    tasks = store._require_open().storage.tasks
    looks, ids_in_use = 1, tasks.ids_in_use

    def blind_at_first(ids: Sequence[UUID], *, joined: bool) -> Steps[set[UUID]]:
        nonlocal looks
        if looks:
            looks -= 1
            return set()
        return (yield from ids_in_use(ids, joined=joined))

    monkeypatch.setattr(tasks, "ids_in_use", blind_at_first)
    if joined:
        async with store.transaction():
            kept = await double.enqueue(3)
            with pytest.raises(DuplicateTaskError) as raised:
                await double.options(id=taken.id).enqueue(2)
            assert refused(raised.value, taken.id)
            looks = 1
            drafts = [double.options(id=uuid4()).draft(1), double.options(id=taken.id).draft(2)]
            with pytest.raises(DuplicateTaskError) as raised:
                await store.enqueue_many(drafts)
            assert refused(raised.value, taken.id)
    else:
        kept = await double.enqueue(3)
        assert refused(await answer_of(double.options(id=taken.id).enqueue(2)), taken.id)
    assert looks == 0
    assert {task.id for task in await store.tasks.list()} == {taken.id, kept.id}
