"""What a run says that has lost its claim: a success counts where the run was given up, and nothing else does."""

from __future__ import annotations

import pytest

from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.outcome import RELEASED, Cancelled, Failed, Outcome, Retrying, Snoozed, Succeeded
from aiotaskstore.retention import Retention
from aiotaskstore.storage.rows import ON_STUCK
from aiotaskstore.storage.tasks import Line, Note
from aiotaskstore.task import Claim, TaskStatus
from tests.storage.harness import Harness

SUCCESS = Succeeded('"late"')
OTHERS: list[Outcome] = [
    Failed("ValueError", "late", FinishReason.ERROR), Retrying("OSError", "late", 0), Snoozed(0), RELEASED,
    Cancelled(FinishReason.HANDLER, "late"),
]  # fmt: skip


async def rescued(harness: Harness, on_stuck: str = "retry", **fields: object) -> Claim:
    """Claim a task, and rescue it from its claimer; return the claim that is lost."""
    claim = await harness.run_one(on_stuck=ON_STUCK.index(on_stuck), **fields)
    assert await harness.rescue(harness.dispatcher)
    return claim


ENDINGS = ["pending", "scheduled", "paused", "waiting", "failed", "forced", "interrupted", "soft-deleted"]
"""Where a run was given up, and nobody has claimed, cancelled, retried or deleted the task since."""


async def given_up(harness: Harness, state: str) -> Claim:
    if state == "forced":
        claim = await harness.run_one()
        assert await harness.mark(claim.id, succeeded=False, text="no more")
        return claim
    claim = await rescued(harness, {"failed": "fail", "interrupted": "interrupt"}.get(state, "retry"))
    if state == "scheduled":
        await harness.reschedule(claim.id, 60)
    elif state == "paused":
        await harness.pause(claim.id)
    elif state == "waiting":
        await harness.force_status(claim.id, TaskStatus.WAITING)
    elif state == "soft-deleted":
        await harness.soft_delete(claim.id)
    return claim


@pytest.mark.parametrize("state", ENDINGS)
async def test_a_success_that_comes_late_counts_where_the_run_was_given_up(harness: Harness, state: str):
    claim = await given_up(harness, state)
    for outcome in OTHERS:
        before = await harness.get(claim.id)
        assert (await harness.record(claim, outcome)).lost == {claim.id}, outcome
        assert await harness.get(claim.id) == before
    older = claim._replace(fence=claim.fence - 1)
    assert (await harness.record(older, SUCCESS)).lost == {claim.id}, "of a claim before that"
    assert not (await harness.record(claim, SUCCESS)).lost
    task = await harness.get(claim.id)
    assert (task.status, task.result, task.finish_reason, task.error) == (TaskStatus.SUCCEEDED, "late", "ok", None)
    assert (task.deleted_at is not None) == (state == "soft-deleted")
    assert await harness.claim(9) == []


async def test_nothing_that_comes_late_counts_where_somebody_decided_otherwise(harness: Harness):
    async def cancel(claim: Claim) -> None:
        await harness.cancel(claim.id)

    async def cancel_by_force(claim: Claim) -> None:
        (again,) = await harness.claim()
        await harness.cancel(again.id, force=True)
        assert claim.id == again.id

    async def retry(claim: Claim) -> None:
        await harness.retry(claim.id)

    async def claim_again(_claim: Claim) -> None:
        assert len(await harness.claim()) == 1

    async def mark(claim: Claim) -> None:
        await harness.mark(claim.id, succeeded=True, text='"the operator\'s"')

    async def mark_and_retry(claim: Claim) -> None:
        await harness.mark(claim.id, succeeded=False)
        await harness.retry(claim.id)

    for decide in (cancel, cancel_by_force, retry, claim_again, mark, mark_and_retry):
        claim = await rescued(harness)
        await decide(claim)
        before = await harness.get(claim.id)
        for outcome in (SUCCESS, *OTHERS):
            assert (await harness.record(claim, outcome)).lost == {claim.id}, decide.__name__
        notes = [Note(claim.id, claim.fence, ("late", None), (Line(1, "late"),))]
        told = await harness.database.write(lambda notes=notes: harness.tasks.report(notes))  # type: ignore[misc]
        assert told.lost == {claim.id}
        assert await harness.get(claim.id) == before, decide.__name__
        await harness.delete(claim.id, force=True)
        assert (await harness.record(claim, SUCCESS)).lost == {claim.id}, "deleted"


@pytest.mark.parametrize("state", ENDINGS)
async def test_no_success_of_a_former_payload_counts(harness: Harness, state: str):
    claim = await given_up(harness, state)
    if state == "soft-deleted":
        await harness.restore(claim.id)
    assert await harness.update(claim.id, priority=5)
    assert await harness.update(claim.id, '{"n": 2}')
    before = await harness.get(claim.id)
    assert before.payload == {"n": 2}
    for again in (False, True):
        await harness.record(claim, SUCCESS, again=again)
        assert await harness.get(claim.id) == before
    assert (await harness.record(claim, SUCCESS)).lost == {claim.id}


async def test_another_payload_of_what_has_succeeded_leaves_its_success_known(harness: Harness):
    claim = await harness.run_one()
    await harness.record(claim, SUCCESS)
    assert await harness.update(claim.id, '{"n": 2}')
    assert not (await harness.record(claim, SUCCESS, again=True)).lost


async def test_other_changed_values_leave_a_late_success_its_worth(harness: Harness):
    claim = await rescued(harness)
    assert await harness.update(claim.id, queue="other", priority=5, timeout=9.0, keep_timeout=False)
    assert not (await harness.record(claim, SUCCESS)).lost
    assert await harness.status(claim.id) is TaskStatus.SUCCEEDED


async def test_a_late_success_follows_the_retention_of_its_task(harness: Harness):
    kept = Retention(keep="all", period=60, payload="failed")
    claim = await rescued(harness, "fail", retention=kept.dump())
    harness.clock.advance(30)
    await harness.record(claim, SUCCESS)
    task = await harness.get(claim.id)
    assert task.payload is None
    assert task.finished_at == harness.clock.now
    assert task.expires_at is not None
    assert (task.expires_at - task.finished_at).total_seconds() == 60
    claim = await rescued(harness, "fail", retention=Retention(keep="failed").dump(), external_id="one")
    assert not (await harness.record(claim, SUCCESS)).lost
    assert await harness.status(claim.id) is None
    assert await harness.side_rows(claim.id) == 0
