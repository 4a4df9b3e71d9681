"""Rows come in: whole, in order, with external ids that only one of them can have."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from aiotaskstore import DuplicateTaskError, TaskStoreError
from aiotaskstore.ids import new_id
from aiotaskstore.outcome import EMPTY
from aiotaskstore.storage.tasks import MOST_ROWS, Wanted
from aiotaskstore.task import TaskStatus
from tests.storage.bench import Bench, bench_on, new_task


async def test_a_row_is_pending_when_due_and_scheduled_when_not(bench: Bench):
    past, future = (bench.clock.now + timedelta(seconds=shift) for shift in (-60, 60))
    expected = {
        await bench.add(): (TaskStatus.PENDING, bench.clock.now),
        await bench.add(delay=0): (TaskStatus.PENDING, bench.clock.now),
        await bench.add(run_at=past): (TaskStatus.PENDING, past),
        await bench.add(run_at=bench.clock.now): (TaskStatus.PENDING, bench.clock.now),
        await bench.add(run_at=future): (TaskStatus.SCHEDULED, future),
        await bench.add(delay=60): (TaskStatus.SCHEDULED, future),
        await bench.add(delay=0.25): (TaskStatus.SCHEDULED, bench.clock.now + timedelta(seconds=0.25)),
    }
    for task_id, (status, run_at) in expected.items():
        task = await bench.get(task_id)
        assert (task.status, task.run_at) == (status, run_at)


async def test_every_field_is_read_back_as_it_was_written(bench: Bench):
    row = new_task(
        queue="Ünï ⚙", alias="a" * 100, priority=-(2**31), payload='{"a": [1, "é \\u2028 🎉", null]}', max_attempts=7,
        timeout=0.125, on_stuck=2, owner_type="user", owner_id="42", source="tests", parent_id=new_id(),
        definition_id=new_id(), external_id="e" * 255, metadata='{"trace": "x"}', retention='["failed", null, "none"]',
    )  # fmt: skip
    await bench.want(row)
    task = await bench.get(row.id)
    assert (task.id, task.queue, task.alias, task.priority) == (row.id, row.queue, row.alias, row.priority)
    assert (task.payload, task.metadata) == ({"a": [1, "é \u2028 🎉", None]}, {"trace": "x"})
    assert (task.max_attempts, task.timeout, task.attempt) == (7, timedelta(seconds=0.125), 0)
    assert (task.owner, task.source, task.external_id) == (("user", "42"), "tests", "e" * 255)
    assert (task.parent_id, task.definition_id) == (row.parent_id, row.definition_id)
    assert (task.retention.keep, task.retention.period, task.retention.payload) == ("failed", None, "none")
    assert (task.created_at, task.updated_at, task.run_at) == (bench.clock.now,) * 3
    assert (task.started_at, task.finished_at, task.dispatcher_id, task.result, task.error) == (None,) * 5


async def test_payload_and_metadata_keep_their_text(bench: Bench):
    text = '{"b":1,"a":  1.10,"a2":"\\u00e9"}'
    claim = await bench.run_one(payload=text, metadata=text)
    assert (claim.payload, claim.metadata) == (text, text)


async def test_more_rows_than_one_statement_takes_are_stored_all_or_none(bench: Bench):
    rows = [new_task() for _ in range(2 * MOST_ROWS + 1)]
    await bench.database.write(lambda: bench.tasks.enqueue(rows))
    assert await _count(bench) == len(rows)
    more = [new_task() for _ in range(MOST_ROWS)] + [rows[0]]
    with pytest.raises(TaskStoreError):
        await bench.database.write(lambda: bench.tasks.enqueue(more))
    assert await _count(bench) == len(rows)


async def test_rows_too_heavy_for_one_statement_are_stored_too(bench: Bench):
    payload = '"' + "x" * 1_000_000 + '"'
    rows = [new_task(payload=payload) for _ in range(5)]
    await bench.database.write(lambda: bench.tasks.enqueue(rows))
    assert [claim.payload for claim in await bench.claim(10)] == [payload] * 5


async def test_a_mixed_batch_with_a_taken_external_id_stores_nothing(bench: Bench):
    first = await bench.add(external_id="one")
    plain, fresh, taken = new_task(), new_task(external_id="two"), new_task(external_id="one")
    wanted = [Wanted(fresh, live_only=False), Wanted(taken, live_only=False)]
    with pytest.raises(DuplicateTaskError) as caught:
        await bench.database.write(lambda: bench.tasks.enqueue_mixed([plain], wanted, frozenset()))
    assert caught.value.existing_id == first
    assert await _count(bench) == 1
    assert not await bench.want(new_task(external_id="two"))


async def test_a_mixed_batch_may_take_the_existing_one_instead(bench: Bench):
    first = await bench.add(external_id="one")
    plain, taken = new_task(), new_task(external_id="one")
    wanted = [Wanted(taken, live_only=False)]
    answer = await bench.database.write(lambda: bench.tasks.enqueue_mixed([plain], wanted, frozenset([taken.id])))
    assert answer == {taken.id: first}
    assert await _count(bench) == 2


async def test_an_external_id_is_taken_as_long_as_its_row_is_kept(bench: Bench):
    claim = await bench.run_one(external_id="one")
    assert await bench.want(second := new_task(external_id="one")) == {second.id: claim.id}
    await bench.record(claim, EMPTY)
    assert await bench.want(third := new_task(external_id="one")) == {third.id: claim.id}
    await bench.delete(claim.id)
    assert not await bench.want(new_task(external_id="one"))


async def test_an_external_id_that_is_unique_while_live_can_be_had_again_once_finished(bench: Bench):
    claim = await bench.run_one(external_id="one")
    assert await bench.want(second := new_task(external_id="one"), live_only=True) == {second.id: claim.id}
    await bench.record(claim, EMPTY)
    assert not await bench.want(third := new_task(external_id="one"), live_only=True)
    assert await bench.want(fourth := new_task(external_id="one"), live_only=True) == {fourth.id: third.id}
    await bench.delete(claim.id)  # the old row goes, and leaves the key to its new owner
    assert await bench.want(fifth := new_task(external_id="one")) == {fifth.id: third.id}


async def test_external_ids_belong_to_their_alias(bench: Bench):
    await bench.add(alias="a", external_id="one")
    assert not await bench.want(new_task(alias="b", external_id="one"))


@pytest.mark.parametrize("other", ["Order", "ordér", "order\u200b"])
async def test_external_ids_that_only_look_alike_are_different(bench: Bench, other: str):
    await bench.add(external_id="order")
    assert not await bench.want(new_task(external_id=other))


async def test_the_first_of_two_rows_with_one_external_id_in_a_batch_is_stored(bench: Bench):
    for live_only in (False, True):
        rows = [new_task(external_id=f"one {live_only}") for _ in range(3)]
        taken = await bench.want(*rows, live_only=live_only)
        assert taken == {rows[1].id: rows[0].id, rows[2].id: rows[0].id}
        assert await bench.status(rows[0].id) is TaskStatus.PENDING
        assert [await bench.status(row.id) for row in rows[1:]] == [None, None]


@pytest.mark.parametrize("live_only", [False, True])
async def test_of_two_racing_enqueues_of_one_external_id_exactly_one_stores(url: str, live_only: bool):
    async with bench_on(url) as bench, bench_on(url, bench.clock) as other:
        for round_ in range(10):
            rows = [new_task(external_id=f"{round_}") for _ in range(8)]
            if live_only:
                await bench.record(await bench.run_one(external_id=f"{round_}", queue="before"), EMPTY)
            async with asyncio.TaskGroup() as group:
                runs = [
                    group.create_task((bench, other)[n % 2].want(row, live_only=live_only))
                    for n, row in enumerate(rows)
                ]
            stored = [row.id for row, run in zip(rows, runs, strict=True) if not run.result()]
            assert len(stored) == 1
            assert all(set(run.result().values()) <= set(stored) for run in runs)
        assert len(await bench.claim(100)) == 10


async def test_batches_with_the_same_external_ids_in_other_orders_do_not_deadlock(url: str):
    async with bench_on(url) as bench, bench_on(url, bench.clock) as other:
        for round_ in range(5):
            keys = [f"{round_}-{n}" for n in range(20)]
            forth = [new_task(external_id=key) for key in keys]
            back = [new_task(external_id=key) for key in reversed(keys)]
            async with asyncio.TaskGroup() as group:
                one = group.create_task(bench.want(*forth))
                two = group.create_task(other.want(*back))
            assert len(one.result()) + len(two.result()) == len(keys)


async def test_what_is_stored_can_be_asked_for_after_an_answer_was_lost(bench: Bench):
    live, gone = await bench.add(), new_task().id
    finished = await bench.run_one()
    await bench.record(finished, EMPTY)
    ids = [live, gone, finished.id]
    assert await bench.database.read(lambda: bench.tasks.stored(ids)) == {live, finished.id}


async def _count(bench: Bench) -> int:
    return int((await bench.sql("SELECT count(*) FROM aiotaskstore_tasks"))[0][0])
