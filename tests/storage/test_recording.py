"""Outcomes: written once, by whoever holds the claim, and by nobody else."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.outcome import EMPTY, LOST, RELEASED, Cancelled, Failed, Outcome, Retrying, Snoozed, Succeeded
from aiotaskstore.retention import Keep, Retention
from aiotaskstore.storage.tasks import MOST_ROWS, ClaimKey, Line, Note
from aiotaskstore.task import Claim, TaskStatus
from tests.storage.harness import Harness, new_task

FAILED = Failed("ValueError", "no good", FinishReason.ERROR)
OUTCOMES: list[Outcome] = [
    EMPTY, Succeeded('{"n": 1}'), FAILED, Retrying("OSError", "down", 30), Snoozed(30), RELEASED,
    Cancelled(FinishReason.HANDLER, "enough"),
]  # fmt: skip


def name_of(outcome: Outcome) -> str:
    return f"{type(outcome).__name__}"


@pytest.mark.acceptance("A46")
async def test_a_success_moves_the_row_to_the_history_with_its_result(harness: Harness):
    claim = await harness.run_one(payload='{"a": 1}', max_attempts=3)
    harness.clock.advance(2)
    assert (await harness.record(claim, Succeeded('{"n": [1, 2]}'))).lost == frozenset()
    task = await harness.get(claim.id)
    assert (task.status, task.result, task.finish_reason) == (TaskStatus.SUCCEEDED, {"n": [1, 2]}, "ok")
    assert (task.payload, task.attempt, task.error, task.errors) == ({"a": 1}, 1, None, [])
    assert (task.finished_at, task.started_at) == (harness.clock.now, harness.clock.now - timedelta(seconds=2))
    assert task.expires_at == harness.clock.now + timedelta(days=7)
    assert task.dispatcher_id == harness.dispatcher


@pytest.mark.acceptance("A47")
async def test_a_failure_keeps_what_went_wrong(harness: Harness):
    claim = await harness.run_one()
    await harness.record(claim, FAILED)
    task = await harness.get(claim.id)
    assert (task.status, task.finish_reason, task.error) == (TaskStatus.FAILED, "error", "ValueError: no good")
    assert [(one.attempt, one.at, one.type, one.message) for one in task.errors] == [
        (1, harness.clock.now, "ValueError", "no good")
    ]
    assert (task.result, task.cancelled_at) == (None, None)


@pytest.mark.acceptance("A51")
async def test_a_retry_waits_its_delay_and_every_attempts_error_is_kept(harness: Harness):
    claim = await harness.run_one(max_attempts=5)
    await harness.record(claim, Retrying("OSError", "first", 30))
    task = await harness.get(claim.id)
    assert (task.status, task.run_at) == (TaskStatus.SCHEDULED, harness.clock.now + timedelta(seconds=30))
    assert (task.attempt, task.dispatcher_id, task.error) == (1, None, "OSError: first")
    harness.clock.advance(30)
    await harness.promote()
    (again,) = await harness.claim()
    assert again.attempt == 2
    await harness.record(again, Retrying("OSError", "second", 0))
    assert await harness.status(claim.id) is TaskStatus.PENDING
    (last,) = await harness.claim()
    await harness.record(last, EMPTY)
    task = await harness.get(claim.id)
    assert [(one.attempt, one.message) for one in task.errors] == [(1, "first"), (2, "second")]
    assert (task.status, task.error, task.attempt) == (TaskStatus.SUCCEEDED, None, 3)


async def test_a_snooze_gives_the_attempt_back(harness: Harness):
    claim = await harness.run_one()
    await harness.record(claim, Snoozed(60))
    task = await harness.get(claim.id)
    assert (task.status, task.attempt, task.run_at) == (
        TaskStatus.SCHEDULED, 0, harness.clock.now + timedelta(seconds=60),
    )  # fmt: skip
    assert task.errors == []


async def test_what_is_given_back_keeps_its_place_and_its_attempt(harness: Harness):
    first, second = await harness.add(), await harness.add()
    harness.clock.advance(60)
    (claim,) = await harness.claim()
    harness.clock.advance(60)
    await harness.record(claim, RELEASED)
    task = await harness.get(first)
    assert (task.status, task.attempt, task.run_at) == (TaskStatus.PENDING, 0, task.created_at)
    assert [(await harness.claim())[0].id for _ in range(2)] == [first, second]


@pytest.mark.acceptance("A60")
async def test_a_handlers_cancel_keeps_its_words(harness: Harness):
    claim = await harness.run_one()
    await harness.record(claim, Cancelled(FinishReason.HANDLER, "enough"))
    task = await harness.get(claim.id)
    assert (task.status, task.finish_reason, task.cancel_reason) == (TaskStatus.CANCELLED, "handler", "enough")
    assert task.cancelled_at == task.finished_at == harness.clock.now


async def test_a_lost_outcome_writes_nothing(harness: Harness):
    claim = await harness.run_one()
    await harness.record(claim, LOST)
    assert await harness.status(claim.id) is TaskStatus.RUNNING


async def test_an_outcome_with_an_older_fence_writes_nothing(harness: Harness):
    for outcome in OUTCOMES:
        old = await harness.run_one(max_attempts=3)
        await harness.record(old, RELEASED)
        (new,) = await harness.claim(by=new_id())
        recorded = await harness.record(old, outcome)
        assert recorded.lost == {old.id}
        task = await harness.get(old.id)
        assert (task.status, task.attempt, task.errors) == (TaskStatus.RUNNING, 1, [])
        assert (await harness.record(new, EMPTY)).lost == frozenset()


async def test_an_outcome_is_written_only_once(harness: Harness):
    for outcome in OUTCOMES:
        claim = await harness.run_one(max_attempts=3)
        await harness.record(claim, outcome)
        before = await harness.get(claim.id)
        harness.clock.advance(1)
        assert (await harness.record(claim, outcome)).lost == {claim.id}
        assert await harness.get(claim.id) == before


async def test_an_outcome_whose_answer_was_lost_can_be_told_again_and_counts_as_written(harness: Harness):
    for outcome in OUTCOMES:
        claim = await harness.run_one(max_attempts=3)
        await harness.record(claim, outcome)
        before = await harness.get(claim.id)
        harness.clock.advance(1)
        assert (await harness.record(claim, outcome, again=True)).lost == frozenset()
        assert await harness.get(claim.id) == before


async def test_an_outcome_told_again_that_never_arrived_is_written(harness: Harness):
    for outcome in OUTCOMES:
        claim = await harness.run_one(max_attempts=3)
        assert (await harness.record(claim, outcome, again=True)).lost == frozenset()
        assert await harness.status(claim.id) is not TaskStatus.RUNNING


async def test_the_outcome_of_a_task_that_is_gone_is_lost(harness: Harness):
    for outcome in OUTCOMES:
        claim = await harness.run_one()
        await harness.delete(claim.id, force=True)
        for again in (False, True):
            assert (await harness.record(claim, outcome, again=again)).lost == {claim.id}
        assert await harness.status(claim.id) is None
        assert await harness.side_rows(claim.id) == 0


async def test_many_outcomes_of_every_kind_are_written_together(harness: Harness):
    rows = [new_task(max_attempts=3) for _ in range(len(OUTCOMES) * 30)]
    await harness.database.write(lambda: harness.tasks.enqueue(rows))
    claims = await harness.claim(len(rows))
    stale = [claim._replace(fence=claim.fence - 1) for claim in claims[::10]]
    ended: list[tuple[ClaimKey, Outcome]] = [
        (claim, OUTCOMES[n % len(OUTCOMES)]) for n, claim in enumerate(claims) if n % 10
    ]
    strays: list[tuple[ClaimKey, Outcome]] = [(claim, EMPTY) for claim in stale]
    recorded = await harness.database.write(lambda: harness.tasks.record([*strays, *ended]))
    assert recorded.lost == {claim.id for claim in stale}
    expected = {
        "Succeeded": TaskStatus.SUCCEEDED, "Failed": TaskStatus.FAILED, "Retrying": TaskStatus.SCHEDULED,
        "Snoozed": TaskStatus.SCHEDULED, "Released": TaskStatus.PENDING, "Cancelled": TaskStatus.CANCELLED,
    }  # fmt: skip
    for claim, outcome in ended[::7] + ended[:14]:
        assert await harness.status(claim.id) is expected[name_of(outcome)]
    assert await harness.status(stale[0].id) is TaskStatus.RUNNING


async def test_more_results_than_one_statement_takes_are_written_together(harness: Harness):
    rows = [new_task() for _ in range(MOST_ROWS)]
    await harness.database.write(lambda: harness.tasks.enqueue(rows))
    claims = await harness.claim(MOST_ROWS)
    heavy = Succeeded('"' + "x" * 5_000 + '"')
    ended: list[tuple[ClaimKey, Outcome]] = [(claim, heavy) for claim in claims]
    recorded = await harness.database.write(lambda: harness.tasks.record(ended))
    assert recorded.lost == frozenset()
    assert (await harness.sql("SELECT count(*) FROM aiotaskstore_tasks"))[0][0] == 0
    assert (await harness.get(claims[-1].id)).result == "x" * 5_000


@pytest.mark.acceptance("A75")
async def test_after_a_cancel_request_every_end_but_a_success_is_cancelled(harness: Harness):
    for outcome in OUTCOMES:
        if isinstance(outcome, Succeeded):
            continue
        claim = await harness.run_one(max_attempts=3)
        await harness.cancel(claim.id, "by the user")
        recorded = await harness.record(claim, outcome)
        assert not recorded.lost
        assert recorded.cancelled == {claim.id}
        task = await harness.get(claim.id)
        assert (task.status, task.finish_reason, task.cancel_reason) == (TaskStatus.CANCELLED, "request", "by the user")


@pytest.mark.acceptance("A74")
async def test_after_a_cancel_request_a_success_is_a_success(harness: Harness):
    claim = await harness.run_one()
    await harness.cancel(claim.id, "by the user")
    recorded = await harness.record(claim, Succeeded("1"))
    assert (recorded.lost, recorded.cancelled) == (frozenset(), frozenset())
    task = await harness.get(claim.id)
    assert (task.status, task.result, task.cancel_reason) == (TaskStatus.SUCCEEDED, 1, "by the user")


async def test_a_cancel_request_keeps_the_words_of_the_first_who_asked(harness: Harness):
    claim = await harness.run_one()
    await harness.cancel(claim.id, "first")
    await harness.cancel(claim.id, "second")
    assert await harness.database.read(lambda: harness.tasks.cancel_requests(harness.dispatcher)) == [
        (claim.id, claim.fence, "first")
    ]
    assert await harness.database.read(lambda: harness.tasks.cancel_requests(new_id())) == []


@pytest.mark.acceptance("A97")
async def test_retention_says_which_rows_stay_and_with_what(harness: Harness):
    both, row, nothing = (True, True), (True, False), (False, False)
    cases: list[tuple[Keep, Keep, Outcome, tuple[bool, bool]]] = [
        ("all", "all", EMPTY, both), ("all", "failed", EMPTY, row), ("all", "none", FAILED, row),
        ("all", "failed", FAILED, both), ("failed", "all", EMPTY, nothing), ("failed", "all", FAILED, both),
        ("failed", "failed", Cancelled(FinishReason.HANDLER), both), ("none", "all", EMPTY, nothing),
        ("none", "all", FAILED, nothing),
    ]  # fmt: skip
    for n, (keep, payload, outcome, (row_kept, payload_kept)) in enumerate(cases):
        retention = Retention(keep, 60, payload).dump()
        claim = await harness.run_one(retention=retention, external_id=f"{n}", payload='{"a": 1}')
        await _tell(harness, claim)
        await harness.record(claim, outcome)
        if not row_kept:
            assert await harness.status(claim.id) is None
            assert await harness.side_rows(claim.id) == 0
            continue
        task = await harness.get(claim.id)
        assert task.payload == ({"a": 1} if payload_kept else None)
        assert task.expires_at == harness.clock.now + timedelta(seconds=60)


async def test_progress_and_details_stand_beside_the_row_and_outlive_its_end(harness: Harness):
    claim = await harness.run_one()
    assert await _tell(harness, claim, progress=("half", 0.5), lines=((1, "one"), (2, "zwei ⚙"))) == set()
    assert await _tell(harness, claim, progress=("all", None), lines=((3, "three"),)) == set()
    task = await harness.get(claim.id)
    assert task.details == "one\nzwei ⚙\nthree"
    assert task.progress is not None
    assert (task.progress.text, task.progress.fraction, task.progress.at) == ("all", None, harness.clock.now)
    await harness.record(claim, EMPTY)
    ended = await harness.get(claim.id)
    assert (ended.details, ended.progress) == (task.details, task.progress)


async def test_details_told_again_after_a_lost_answer_are_not_doubled(harness: Harness):
    claim = await harness.run_one()
    for _ in range(2):
        await _tell(harness, claim, lines=((1, "one"), (2, "two")))
    assert (await harness.get(claim.id)).details == "one\ntwo"


async def test_details_of_each_attempt_follow_each_other(harness: Harness):
    claim = await harness.run_one(max_attempts=2)
    await _tell(harness, claim, lines=((1, "first attempt"),))
    await harness.record(claim, Retrying("OSError", "", 0))
    (again,) = await harness.claim()
    await _tell(harness, again, lines=((1, "second attempt"),))
    assert (await harness.get(claim.id)).details == "first attempt\nsecond attempt"


async def test_a_run_that_lost_its_claim_tells_nothing(harness: Harness):
    claim = await harness.run_one()
    await harness.record(claim, RELEASED)
    assert await _tell(harness, claim, progress=("half", 0.5), lines=((1, "one"),)) == {claim.id}
    task = await harness.get(claim.id)
    assert (task.progress, task.details) == (None, "")
    await harness.delete(claim.id)
    assert await _tell(harness, claim) == {claim.id}


async def test_outcomes_and_tellings_of_the_same_tasks_from_many_sides_do_not_deadlock(harness: Harness):
    rows = [new_task(max_attempts=9) for _ in range(60)]
    await harness.database.write(lambda: harness.tasks.enqueue(rows))
    claims = await harness.claim(60)
    notes = [Note(claim.id, claim.fence, ("x", None), (Line(1, "x"),)) for claim in reversed(claims)]
    ended: list[tuple[ClaimKey, Outcome]] = [(claim, FAILED) for claim in claims]
    ids = [claim.id for claim in claims]
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(harness.database.write(lambda: harness.tasks.report(notes)))
            group.create_task(harness.database.write(lambda: harness.tasks.record(ended)))
            group.create_task(harness.database.write(lambda: harness.tasks.cancel(ids[::-1], "why", force=False)))
    statuses = {await harness.status(claim.id) for claim in claims}
    assert statuses <= {TaskStatus.FAILED, TaskStatus.CANCELLED}


async def _tell(
    harness: Harness,
    claim: Claim,
    progress: tuple[str, float | None] | None = ("half", 0.5),
    lines: tuple[tuple[int, str], ...] = ((1, "one"),),
) -> frozenset[UUID]:
    note = Note(claim.id, claim.fence, progress, tuple(Line(*line) for line in lines))
    return (await harness.database.write(lambda: harness.tasks.report([note]))).lost
