"""Rows come in: whole, in order, with external ids that only one of them can have."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from aiotaskstore import DuplicateTaskError, TaskStoreError
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.outcome import EMPTY
from aiotaskstore.storage.external_ids import KeyedRow
from aiotaskstore.storage.tasks import MOST_ROWS
from aiotaskstore.task import TaskStatus
from tests.storage.harness import Harness, harness_on, new_task


async def test_a_row_is_pending_when_due_and_scheduled_when_not(harness: Harness):
    past, future = (harness.clock.now + timedelta(seconds=offset) for offset in (-60, 60))
    expected = {
        await harness.add(): (TaskStatus.PENDING, harness.clock.now),
        await harness.add(delay=0): (TaskStatus.PENDING, harness.clock.now),
        await harness.add(run_at=past): (TaskStatus.PENDING, past),
        await harness.add(run_at=harness.clock.now): (TaskStatus.PENDING, harness.clock.now),
        await harness.add(run_at=future): (TaskStatus.SCHEDULED, future),
        await harness.add(delay=60): (TaskStatus.SCHEDULED, future),
        await harness.add(delay=0.25): (TaskStatus.SCHEDULED, harness.clock.now + timedelta(seconds=0.25)),
    }
    for task_id, (status, run_at) in expected.items():
        task = await harness.get(task_id)
        assert (task.status, task.run_at) == (status, run_at)


async def test_every_field_is_read_back_as_it_was_written(harness: Harness):
    row = new_task(
        queue="Ünï ⚙", alias="a" * 100, priority=-(2**31), payload='{"a": [1, "é \\u2028 🎉", null]}', max_attempts=7,
        timeout=0.125, on_stuck=2, owner_type="user", owner_id="42", source="tests", parent_id=new_id(),
        definition_id=new_id(), external_id="e" * 255, metadata='{"trace": "x"}', retention='["failed", null, "none"]',
    )  # fmt: skip
    await harness.add_keyed(row)
    task = await harness.get(row.id)
    assert (task.id, task.queue, task.alias, task.priority) == (row.id, row.queue, row.alias, row.priority)
    assert (task.payload, task.metadata) == ({"a": [1, "é \u2028 🎉", None]}, {"trace": "x"})
    assert (task.max_attempts, task.timeout, task.attempt) == (7, timedelta(seconds=0.125), 0)
    assert (task.owner, task.source, task.external_id) == (("user", "42"), "tests", "e" * 255)
    assert (task.parent_id, task.definition_id) == (row.parent_id, row.definition_id)
    assert (task.retention.keep, task.retention.period, task.retention.payload) == ("failed", None, "none")
    assert (task.created_at, task.updated_at, task.run_at) == (harness.clock.now,) * 3
    assert (task.started_at, task.finished_at, task.dispatcher_id, task.result, task.error) == (None,) * 5


async def test_payload_and_metadata_keep_their_text(harness: Harness):
    text = '{"b":1,"a":  1.10,"a2":"\\u00e9"}'
    claim = await harness.run_one(payload=text, metadata=text)
    assert (claim.payload, claim.metadata) == (text, text)


async def test_more_rows_than_one_statement_takes_are_stored_all_or_none(harness: Harness):
    rows = [new_task() for _ in range(2 * MOST_ROWS + 1)]
    await harness.database.write(lambda: harness.tasks.enqueue(rows))
    assert await _count(harness) == len(rows)
    more = [new_task() for _ in range(MOST_ROWS)] + [rows[0]]
    with pytest.raises(TaskStoreError):
        await harness.database.write(lambda: harness.tasks.enqueue(more))
    assert await _count(harness) == len(rows)


async def test_rows_too_heavy_for_one_statement_are_stored_too(harness: Harness):
    payload = '"' + "x" * 1_000_000 + '"'
    rows = [new_task(payload=payload) for _ in range(5)]
    await harness.database.write(lambda: harness.tasks.enqueue(rows))
    assert [claim.payload for claim in await harness.claim(10)] == [payload] * 5


async def test_a_mixed_batch_with_a_taken_external_id_stores_nothing(harness: Harness):
    first = await harness.add(external_id="one")
    plain, fresh, taken = new_task(), new_task(external_id="two"), new_task(external_id="one")
    keyed = [KeyedRow(fresh, live_only=False), KeyedRow(taken, live_only=False)]
    with pytest.raises(DuplicateTaskError) as caught:
        await harness.database.write(lambda: harness.tasks.enqueue_mixed([plain], keyed, frozenset()))
    assert caught.value.existing_id == first
    assert await _count(harness) == 1
    assert not await harness.add_keyed(new_task(external_id="two"))


async def test_a_mixed_batch_may_take_the_existing_one_instead(harness: Harness):
    first = await harness.add(external_id="one")
    plain, taken = new_task(), new_task(external_id="one")
    keyed = [KeyedRow(taken, live_only=False)]
    answer = await harness.database.write(lambda: harness.tasks.enqueue_mixed([plain], keyed, frozenset([taken.id])))
    assert answer.owners == {taken.id: first}
    assert await _count(harness) == 2


async def test_an_external_id_is_taken_as_long_as_its_row_is_kept(harness: Harness):
    claim = await harness.run_one(external_id="one")
    assert await harness.add_keyed(second := new_task(external_id="one")) == {second.id: claim.id}
    await harness.record(claim, EMPTY)
    assert await harness.add_keyed(third := new_task(external_id="one")) == {third.id: claim.id}
    await harness.delete(claim.id)
    assert not await harness.add_keyed(new_task(external_id="one"))


async def test_an_external_id_that_is_unique_while_live_can_be_had_again_once_finished(harness: Harness):
    claim = await harness.run_one(external_id="one")
    assert await harness.add_keyed(second := new_task(external_id="one"), live_only=True) == {second.id: claim.id}
    await harness.record(claim, EMPTY)
    assert not await harness.add_keyed(third := new_task(external_id="one"), live_only=True)
    assert await harness.add_keyed(fourth := new_task(external_id="one"), live_only=True) == {fourth.id: third.id}
    await harness.delete(claim.id)  # the old row goes, and leaves the key to its new owner
    assert await harness.add_keyed(fifth := new_task(external_id="one")) == {fifth.id: third.id}


async def test_external_ids_belong_to_their_alias(harness: Harness):
    await harness.add(alias="a", external_id="one")
    assert not await harness.add_keyed(new_task(alias="b", external_id="one"))


@pytest.mark.parametrize("other", ["Order", "ordér", "order\u200b"])
async def test_external_ids_that_only_look_alike_are_different(harness: Harness, other: str):
    await harness.add(external_id="order")
    assert not await harness.add_keyed(new_task(external_id=other))


async def test_the_first_of_two_rows_with_one_external_id_in_a_batch_is_stored(harness: Harness):
    for live_only in (False, True):
        rows = [new_task(external_id=f"one {live_only}") for _ in range(3)]
        taken = await harness.add_keyed(*rows, live_only=live_only)
        assert taken == {rows[1].id: rows[0].id, rows[2].id: rows[0].id}
        assert await harness.status(rows[0].id) is TaskStatus.PENDING
        assert [await harness.status(row.id) for row in rows[1:]] == [None, None]


@pytest.mark.parametrize("live_only", [False, True])
async def test_of_two_racing_enqueues_of_one_external_id_exactly_one_stores(url: str, live_only: bool):
    async with harness_on(url) as harness, harness_on(url, harness.clock) as other:
        for round_ in range(10):
            rows = [new_task(external_id=f"{round_}") for _ in range(8)]
            if live_only:
                await harness.record(await harness.run_one(external_id=f"{round_}", queue="before"), EMPTY)
            async with asyncio.TaskGroup() as group:
                runs = [
                    group.create_task((harness, other)[n % 2].add_keyed(row, live_only=live_only))
                    for n, row in enumerate(rows)
                ]
            stored = [row.id for row, run in zip(rows, runs, strict=True) if not run.result()]
            assert len(stored) == 1
            assert all(set(run.result().values()) <= set(stored) for run in runs)
        assert len(await harness.claim(100)) == 10


async def test_batches_with_the_same_external_ids_in_other_orders_do_not_deadlock(url: str):
    async with harness_on(url) as harness, harness_on(url, harness.clock) as other:
        for round_ in range(5):
            keys = [f"{round_}-{n}" for n in range(20)]
            forth = [new_task(external_id=key) for key in keys]
            back = [new_task(external_id=key) for key in reversed(keys)]
            async with asyncio.TaskGroup() as group:
                one = group.create_task(harness.add_keyed(*forth))
                two = group.create_task(other.add_keyed(*back))
            assert len(one.result()) + len(two.result()) == len(keys)


async def test_what_is_stored_can_be_asked_for_after_an_answer_was_lost(harness: Harness):
    live, gone = await harness.add(), new_task().id
    finished = await harness.run_one()
    await harness.record(finished, EMPTY)
    ids = [live, gone, finished.id]
    assert await harness.database.read(lambda: harness.tasks.stored_among(ids)) == {live, finished.id}


async def _count(harness: Harness) -> int:
    return int((await harness.sql("SELECT count(*) FROM aiotaskstore_tasks"))[0][0])
