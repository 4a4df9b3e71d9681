"""Serialization keys in the rows: who holds one, who waits, and who is next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

import pytest

from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.outcome import EMPTY, RELEASED, Cancelled, Failed, Outcome, Retrying, Snoozed
from aiotaskstore.retention import Retention
from aiotaskstore.storage.rows import ON_STUCK
from aiotaskstore.storage.tasks import MOST_KEYS
from aiotaskstore.storage.tasks.serialization_keys import WaitingKey
from aiotaskstore.task import Claim, TaskStatus
from tests.helpers import eventually, my_connection
from tests.storage.harness import LEASE, Harness, new_task

SCHEDULED, PENDING, WAITING, RUNNING = (
    TaskStatus.SCHEDULED,
    TaskStatus.PENDING,
    TaskStatus.WAITING,
    TaskStatus.RUNNING,
)


async def add(harness: Harness, key: str = "k", **fields: Any) -> UUID:
    """Store a task with a serialization key, and grant the key as whoever stores one does."""
    task_id = await harness.add(serialization_key=key, **fields)
    await harness.grant(key)
    return task_id


async def statuses(harness: Harness, *ids: UUID) -> list[TaskStatus | None]:
    return [await harness.status(id_) for id_ in ids]


async def holders(harness: Harness) -> dict[UUID, str]:
    """Return who holds which key."""
    rows = await harness.sql("SELECT id, held_key FROM aiotaskstore_tasks WHERE held_key IS NOT NULL")
    return {harness.database.uid(row[0]): row[1] for row in rows}


async def claim_first(harness: Harness, key: str = "k", **fields: Any) -> tuple[Claim, UUID]:
    """Have one task run, and another one wait for its key."""
    first = await add(harness, key, **fields)
    second = await add(harness, key)
    claims = await harness.claim(10)
    assert [claim.id for claim in claims] == [first]
    assert await statuses(harness, first, second) == [RUNNING, WAITING]
    return claims[0], second


async def test_a_due_task_waits_for_its_key_until_the_key_is_granted(harness: Harness):
    task_id = await harness.add(serialization_key="k")
    assert await harness.status(task_id) is WAITING
    assert await harness.claim(10) == []
    assert await harness.grant("k") == {"default"}
    assert await harness.status(task_id) is PENDING
    assert await holders(harness) == {task_id: "k"}
    (claim,) = await harness.claim(10)
    assert (claim.id, claim.serialization_key) == (task_id, "k")
    assert await holders(harness) == {task_id: "k"}


async def test_the_first_by_priority_due_time_and_id_gets_a_free_key(harness: Harness):
    third = await harness.add(serialization_key="k")
    harness.clock.advance(1)
    first = await harness.add(serialization_key="k", priority=-1)
    fourth = await harness.add(serialization_key="k")
    fifth = await harness.add(serialization_key="k")
    second = await harness.add(serialization_key="k", priority=-1)
    order = []
    while await harness.grant("k"):
        (claim,) = await harness.claim(10)
        order.append(claim.id)
        await harness.record(claim, EMPTY)
    assert order == [first, second, third, fourth, fifth]


async def test_a_grant_of_many_keys_takes_one_task_of_each_and_none_of_a_key_that_is_held(harness: Harness):
    rows = [new_task(serialization_key=f"key {n % 40}", queue=f"q{n % 3}") for n in range(120)]
    await harness.database.write(lambda: harness.tasks.enqueue(rows))
    keys = [f"key {n}" for n in range(45)]
    assert await harness.grant(*keys[:10]) == {"q0", "q1", "q2"}
    assert len(await holders(harness)) == 10
    await harness.grant(*keys, *keys)
    assert set((await holders(harness)).items()) == {(row.id, row.serialization_key) for row in rows[:40]}
    assert await harness.grant(*keys) == set() or harness.database.kind == "sqlite"
    assert len(await holders(harness)) == 40


async def test_keys_differ_in_every_letter_of_them(harness: Harness):
    keys = ["a", "A", "á", " a", "a'", 'a"', "a\\", "ключ", "鍵", "🔑", "{a}", "%s", "k" * 255]
    ids = {await harness.add(serialization_key=key): key for key in keys}
    await harness.grant(*keys)
    assert await holders(harness) == ids


@pytest.mark.parametrize(
    "outcome",
    [
        EMPTY,
        Failed("ValueError", "no", FinishReason.ERROR),
        Cancelled(FinishReason.HANDLER),
        Retrying("OSError", "down", 30),
        Snoozed(30),
    ],
    ids=lambda outcome: type(outcome).__name__,
)
async def test_however_a_run_ends_its_key_is_free_for_the_next(harness: Harness, outcome: Outcome):
    keep = Retention(keep="failed")  # so that the row of a success is deleted, and that of another end moved
    claim, second = await claim_first(harness, retention=keep.dump())
    await harness.record(claim, outcome)
    assert await holders(harness) == {}
    await harness.grant("k")
    assert await holders(harness) == {second: "k"}
    assert await harness.status(second) is PENDING


@pytest.mark.parametrize(
    "outcome", [RELEASED, Snoozed(0), Retrying("OSError", "down", 0)], ids=["released", "snoozed", "retrying"]
)
async def test_what_returns_to_the_queue_without_a_delay_keeps_its_key_and_its_place(
    harness: Harness, outcome: Outcome
):
    claim, second = await claim_first(harness, max_attempts=3)
    await harness.record(claim, outcome)
    await harness.grant("k")
    assert await statuses(harness, claim.id, second) == [PENDING, WAITING]
    assert await holders(harness) == {claim.id: "k"}
    assert [one.id for one in await harness.claim(10)] == [claim.id]


@pytest.mark.acceptance("A84")
async def test_a_loose_task_that_awaits_its_next_attempt_is_passed_by_the_next(harness: Harness):
    claim, second = await claim_first(harness, max_attempts=3)
    third = await add(harness)
    await harness.record(claim, Retrying("OSError", "down", 30))
    await harness.grant("k")
    assert await statuses(harness, claim.id, second, third) == [SCHEDULED, PENDING, WAITING]
    harness.clock.advance(31)
    await harness.promote()
    assert await statuses(harness, claim.id, second, third) == [WAITING, PENDING, WAITING]
    (running,) = await harness.claim(10)
    await harness.record(running, EMPTY)
    await harness.grant("k")
    assert await statuses(harness, claim.id, third) == [WAITING, PENDING], "the third became due earlier"


@pytest.mark.acceptance("A84")
@pytest.mark.parametrize("outcome", [Retrying("OSError", "down", 30), Snoozed(30)], ids=["retrying", "snoozed"])
async def test_a_strict_task_keeps_its_key_until_its_next_attempt(harness: Harness, outcome: Outcome):
    claim, second = await claim_first(harness, max_attempts=3, strict=True)
    await harness.record(claim, outcome)
    assert await harness.grant("k") == set()
    assert await statuses(harness, claim.id, second) == [SCHEDULED, WAITING]
    assert await holders(harness) == {claim.id: "k"}
    harness.clock.advance(31)
    promoted = await harness.database.write(lambda: harness.tasks.promote(10))
    assert promoted == [("default", None)]
    assert await statuses(harness, claim.id, second) == [PENDING, WAITING]
    (again,) = await harness.claim(10)
    assert again.id == claim.id
    await harness.record(again, EMPTY)
    await harness.grant("k")
    assert await harness.status(second) is PENDING


async def test_a_scheduled_task_neither_holds_its_key_nor_waits_for_it_before_it_is_due(harness: Harness):
    later = await add(harness, delay=30, strict=True)
    now = await add(harness)
    assert await statuses(harness, later, now) == [SCHEDULED, PENDING]
    harness.clock.advance(31)
    promoted = await harness.database.write(lambda: harness.tasks.promote(10))
    assert promoted == [("default", "k")]
    assert await statuses(harness, later, now) == [WAITING, PENDING]


@pytest.mark.parametrize("on_stuck", ON_STUCK)
async def test_a_rescue_keeps_the_key_of_what_is_retried_and_frees_that_of_what_ends(harness: Harness, on_stuck: str):
    dispatcher = await harness.register()
    first = await add(harness, on_stuck=ON_STUCK.index(on_stuck))
    second = await add(harness)
    (claim,) = await harness.claim(10, by=dispatcher)
    harness.clock.advance(LEASE + 1)
    rescued = await harness.database.write(lambda: harness.tasks.rescue(dispatcher, 10))
    assert [(one.id, one.serialization_key) for one in rescued] == [(first, "k")]
    await harness.grant("k")
    if on_stuck == "retry":
        assert await statuses(harness, first, second) == [PENDING, WAITING]
        await harness.record(claim, EMPTY)  # a late success frees it too
        await harness.grant("k")
    assert await harness.status(second) is PENDING
    assert await holders(harness) == {second: "k"}


async def test_a_claim_that_grants_keys_runs_the_first_task_of_each_at_once(harness: Harness):
    rows = [new_task(serialization_key=f"key {n % 3}", max_attempts=3) for n in range(6)]
    await harness.database.write(lambda: harness.tasks.enqueue(rows))
    await harness.grant("key 0")
    ((held,), granted) = await harness.claim_granting([("default", 10)])
    assert held.id == rows[0].id
    assert not granted
    claims, granted = await harness.claim_granting([("default", 10)], "key 0", "key 1", "key 2", "key 2", "nobody's")
    assert sorted((claim.id, claim.serialization_key) for claim in claims) == [
        (row.id, row.serialization_key) for row in rows[1:3]
    ]
    assert {(claim.fence, claim.attempt) for claim in claims} == {(held.fence, held.attempt)} == {(1, 1)}
    assert not granted
    assert await statuses(harness, *(row.id for row in rows)) == [RUNNING] * 3 + [WAITING] * 3
    assert await holders(harness) == {row.id: row.serialization_key for row in rows[:3]}
    for claim in claims:
        assert not (await harness.record(claim, EMPTY)).lost
    assert len(await holders(harness)) == 1


async def test_a_claim_that_grants_keys_takes_what_is_first_whether_it_was_pending_or_has_waited(harness: Harness):
    keyed = [await harness.add(serialization_key=f"key {n}", priority=n) for n in range(4)]
    plain = [await harness.add(priority=n) for n in range(4)]
    keys = [f"key {n}" for n in range(4)]
    claims, granted = await harness.claim_granting([("default", 3)], *keys)
    assert {claim.id for claim in claims} == {keyed[0], plain[0], keyed[1]}
    assert granted == {"default"}, "what got its key and could not run is pending"
    assert await statuses(harness, *keyed) == [RUNNING, RUNNING, PENDING, PENDING]
    assert set(await holders(harness)) == set(keyed)
    assert {claim.id for claim in await harness.claim(3)} == {plain[1], keyed[2], plain[2]}


async def test_a_claim_that_grants_keys_leaves_pending_what_it_may_not_run(harness: Harness):
    elsewhere = await harness.add(serialization_key="a", queue="elsewhere")
    unknown = await harness.add(serialization_key="b", alias="unknown", queue="strange")
    mine = await harness.add(serialization_key="c", queue="mine")
    queues = [(name, 5) for name in ("default", "mine", "strange", "third", "fourth")]
    claims, granted = await harness.claim_granting(queues, "a", "b", "c")
    assert [claim.id for claim in claims] == [mine]
    assert granted == {"elsewhere", "strange"}
    assert await statuses(harness, elsewhere, unknown) == [PENDING, PENDING]
    assert set(await holders(harness)) == {elsewhere, unknown, mine}


Act = Callable[[Harness, UUID], Coroutine[Any, Any, bool]]

SETTING_ASIDE: dict[str, Act] = {
    "cancel": lambda harness, id_: harness.cancel(id_),
    "delete": lambda harness, id_: harness.delete(id_),
}


@pytest.mark.parametrize("act", SETTING_ASIDE.values(), ids=SETTING_ASIDE)
async def test_a_pending_holder_that_is_set_aside_frees_its_key(harness: Harness, act: Act):
    first, second = await add(harness), await add(harness)
    assert await act(harness, first)
    await harness.grant("k")
    assert await holders(harness) == {second: "k"}
    assert await harness.status(second) is PENDING


@pytest.mark.parametrize("act", SETTING_ASIDE.values(), ids=SETTING_ASIDE)
async def test_a_successor_that_is_set_aside_while_it_waits_is_passed_over(harness: Harness, act: Act):
    claim, second = await claim_first(harness)
    third = await add(harness)
    assert await act(harness, second)
    await harness.record(claim, EMPTY)
    await harness.grant("k")
    assert await holders(harness) == {third: "k"}


async def test_a_retry_by_an_operator_waits_for_its_key_again(harness: Harness):
    claim, second = await claim_first(harness)
    await harness.record(claim, Failed("ValueError", "no", FinishReason.ERROR))
    await harness.grant("k")
    assert await harness.retry(claim.id)
    assert await statuses(harness, claim.id, second) == [WAITING, PENDING]
    assert await harness.retry(second), "of what holds the key: it starts again behind nobody"
    await harness.grant("k")
    assert sorted(map(str, await statuses(harness, claim.id, second))) == ["pending", "waiting"]


async def test_an_action_returns_the_keys_of_what_it_changed(harness: Harness):
    task_id = await add(harness, "mine")
    results = await harness.database.write(lambda: harness.tasks.cancel([task_id], "", force=False))
    assert results[task_id].serialization_key == "mine"


async def test_a_soft_deleted_task_is_granted_nothing(harness: Harness):
    first, second = await harness.add(serialization_key="k"), await harness.add(serialization_key="k")
    await harness.sql("UPDATE aiotaskstore_tasks SET deleted_at = updated_at WHERE id = :id", id=first)
    assert await _waiting_keys(harness) == [("k", True)]
    await harness.grant("k")
    assert await holders(harness) == {second: "k"}


async def _waiting_keys(harness: Harness, after: str = "") -> list[WaitingKey]:
    return await harness.database.read(lambda: harness.tasks.waiting_keys(after))


async def test_the_waiting_keys_are_listed_in_pages_each_with_whether_it_is_free(harness: Harness):
    count = MOST_KEYS + 20
    rows = [new_task(serialization_key=f"{n:04}") for n in range(count) for _ in range(2)]
    await harness.database.write(lambda: harness.tasks.enqueue(rows))
    await harness.grant(*(f"{n:04}" for n in range(0, count, 2)))
    listed: list[WaitingKey] = []
    while page := await _waiting_keys(harness, listed[-1].key if listed else ""):
        listed += page
    assert [one.key for one in listed] == [f"{n:04}" for n in range(count)]
    assert [one.free for one in listed] == [bool(n % 2) for n in range(count)]


async def test_no_two_tasks_can_hold_a_key(harness: Harness, url: str):
    """Whatever a statement of ours may get wrong, the index refuses it."""
    await add(harness)
    second = await harness.add(serialization_key="k")
    async with my_connection(url) as mine:
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
            await mine.execute(f"UPDATE aiotaskstore_tasks SET held_key = 'k' WHERE {_is(mine.dialect, second)}")


Grant = Callable[..., Coroutine[Any, Any, Any]]

GRANTS: dict[str, Grant] = {
    "grant": lambda harness, *keys: harness.grant(*keys),
    "claim": lambda harness, *keys: harness.claim_granting([("default", 10)], *keys),
}
GIVEN = {"grant": PENDING, "claim": RUNNING}


@pytest.mark.parametrize("by", GRANTS)
async def test_two_grants_that_chose_different_tasks_leave_one_holder(harness: Harness, url: str, by: str):
    """The one that comes second is refused by the index, is run again, and finds the key held."""
    if harness.database.kind == "sqlite":
        pytest.skip("has one writer")
    row = new_task(serialization_key="k", priority=-1)
    first = await harness.add(serialization_key="k")
    other = await harness.add(serialization_key="other")
    async with my_connection(url) as mine:
        await mine.begin()
        await mine.execute(f"UPDATE aiotaskstore_tasks SET held_key = 'k', status = 1 WHERE {_is(mine.dialect, first)}")
        await harness.database.write(lambda: harness.tasks.enqueue([row]))
        async with asyncio.TaskGroup() as group:
            group.create_task(GRANTS[by](harness, "k", "other"))
            await eventually(lambda: _waits_for_a_lock(harness), pause=0.2)  # read more often, InnoDB shows no news
            await mine.commit()
    assert await holders(harness) == {first: "k", other: "other"}
    assert await harness.status(row.id) is WAITING


async def _waits_for_a_lock(harness: Harness) -> bool:
    if harness.database.kind == "postgresql":
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    else:
        waits = "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_query LIKE '%held_key = %'"
    return bool((await harness.sql(waits))[0][0])


@pytest.mark.parametrize("by", GRANTS)
async def test_a_first_task_that_somebody_has_locked_is_not_overtaken_and_delays_no_other_key(
    harness: Harness, url: str, by: str
):
    if harness.database.kind == "sqlite":
        pytest.skip("locks no rows")
    first, second = await harness.add(serialization_key="k"), await harness.add(serialization_key="k")
    other = await harness.add(serialization_key="other")
    async with my_connection(url) as mine:
        await mine.begin()
        await mine.execute(f"SELECT id FROM aiotaskstore_tasks WHERE {_is(mine.dialect, first)} FOR UPDATE")
        await GRANTS[by](harness, "k", "other")
        assert await holders(harness) == {other: "other"}
        await mine.rollback()
    await GRANTS[by](harness, "k")
    assert await statuses(harness, first, second, other) == [GIVEN[by], WAITING, GIVEN[by]]


def _is(dialect: str, task_id: UUID) -> str:
    return f"id = '{task_id}'" if dialect == "postgresql" else f"id = X'{task_id.hex}'"
