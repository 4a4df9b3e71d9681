"""No operation makes a transition that `task.TRANSITIONS` does not have; every one it has is made by one that may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from uuid import UUID

import pytest

from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.outcome import EMPTY, RELEASED, Cancelled, Failed, Outcome, Retrying, Snoozed
from aiotaskstore.retention import Retention
from aiotaskstore.storage.rows import ON_STUCK
from aiotaskstore.task import FINISHED, TRANSITIONS, Claim, TaskStatus
from tests.storage.harness import Harness

KEPT = Retention(period=60).dump()
OUTCOMES: list[Outcome] = [
    EMPTY, Failed("E", "", FinishReason.ERROR), Retrying("E", "", 0), Retrying("E", "", 60), Snoozed(60), RELEASED,
    Cancelled(FinishReason.HANDLER),
]  # fmt: skip
BY_DEATH = [(TaskStatus.RUNNING, "interrupt"), (TaskStatus.RUNNING, "fail"), (TaskStatus.FAILED, "fail")]
"""The status of a task that must not run twice, before and after its dispatcher has died."""
ENDS: dict[TaskStatus, Outcome] = {
    TaskStatus.SUCCEEDED: EMPTY,
    TaskStatus.FAILED: Failed("E", "", FinishReason.ERROR),
    TaskStatus.CANCELLED: Cancelled(FinishReason.HANDLER),
}
AHEAD = {(status, TaskStatus.WAITING) for status in TaskStatus}
AHEAD |= {(status, TaskStatus.SCHEDULED) for status in FINISHED}
"""Transitions that nothing here makes: no task has a serialization key, and a retry makes a task due at once."""


@pytest.mark.timeout(600)  # thousands of statements, one after the other
async def test_no_operation_makes_a_transition_that_is_not_in_the_table(harness: Harness):
    made: set[tuple[TaskStatus, TaskStatus]] = set()
    for status, policy in [*((status, "retry") for status in TaskStatus), *BY_DEATH]:
        for name, act in _operations(harness).items():
            claim = await _bring_to(harness, status, policy)
            await act(claim)
            after = await harness.status(claim.id)
            if after is None and name == "soft delete":
                assert (await harness.get(claim.id)).status is status, "a soft-deleted task keeps its status"
            elif after is None:
                gone_by = {"delete", "forced delete"} | ({"clean"} if status in FINISHED else set())
                assert name in gone_by, f"{name} took a {status} task away"
            elif after is not status:
                assert after in TRANSITIONS[status], f"{name} moved a task from {status} to {after}"
                made.add((status, after))
            await harness.delete(claim.id, force=True)
    listed = {(before, after) for before, afters in TRANSITIONS.items() for after in afters if before is not after}
    assert listed - made <= AHEAD, "transitions in the table that no operation makes"


def test_the_table_of_transitions_has_every_status_and_an_end_leads_only_to_a_success_or_what_an_operator_says():
    assert set(TRANSITIONS) == set(TaskStatus)
    for status in FINISHED:
        marked = {TaskStatus.FAILED} if status is TaskStatus.INTERRUPTED else set()
        assert TRANSITIONS[status] & FINISHED <= {TaskStatus.SUCCEEDED} | marked
        assert TaskStatus.RUNNING not in TRANSITIONS[status]


def _operations(harness: Harness) -> dict[str, Callable[[Claim], Awaitable[object]]]:
    async def rescue(_claim: Claim) -> None:
        await harness.rescue(harness.dispatcher)

    async def clean(_claim: Claim) -> None:
        harness.clock.advance(3600)
        await harness.clean()

    async def promote(_claim: Claim) -> None:
        harness.clock.advance(3600)
        await harness.promote()

    operations: dict[str, Callable[[Claim], Awaitable[object]]] = {
        "claim": lambda _claim: harness.claim(100),
        "promote": promote,
        "rescue": rescue,
        "clean": clean,
        "cancel": lambda claim: harness.cancel(claim.id),
        "forced cancel": lambda claim: harness.cancel(claim.id, force=True),
        "retry": lambda claim: harness.retry(claim.id),
        "forced retry": lambda claim: harness.retry(claim.id, force=True),
        "delete": lambda claim: harness.delete(claim.id),
        "forced delete": lambda claim: harness.delete(claim.id, force=True),
        "pause": lambda claim: harness.pause(claim.id),
        "resume": lambda claim: harness.resume(claim.id),
        "reschedule to later": lambda claim: harness.reschedule(claim.id, 60),
        "reschedule to now": lambda claim: harness.reschedule(claim.id, 0),
        "reschedule and resume": lambda claim: _in_turn(harness.reschedule(claim.id, 60), harness.resume(claim.id)),
        "soft delete": lambda claim: harness.soft_delete(claim.id),
        "soft delete and restore": lambda claim: _in_turn(harness.soft_delete(claim.id), harness.restore(claim.id)),
        "mark succeeded": lambda claim: harness.mark(claim.id, succeeded=True),
        "mark failed": lambda claim: harness.mark(claim.id, succeeded=False),
        "update": lambda claim: harness.update(claim.id, priority=3),
        "clone": lambda claim: _clone_and_delete(harness, claim.id),
    }
    for outcome in OUTCOMES:
        for again in (False, True):
            for older in (0, 1):
                operations[f"{outcome} {again=} {older=}"] = partial(_record, harness, outcome, again, older)
    return operations


async def _record(harness: Harness, outcome: Outcome, again: bool, older: int, claim: Claim) -> None:
    await harness.record(claim._replace(fence=claim.fence - older), outcome, again=again)


async def _in_turn(*calls: Awaitable[object]) -> None:
    for call in calls:
        await call


async def _clone_and_delete(harness: Harness, task_id: UUID) -> None:
    clone = await harness.clone(task_id)
    assert clone is not None
    assert await harness.status(clone) is TaskStatus.PENDING
    await harness.delete(clone)


async def _bring_to(harness: Harness, status: TaskStatus, policy: str) -> Claim:
    """Make a task of a status that has been claimed once; return the claim as the row still knows it."""
    policy = "interrupt" if status is TaskStatus.INTERRUPTED else policy
    task_id = await harness.add(retention=KEPT, max_attempts=9, on_stuck=ON_STUCK.index(policy))
    (claim,) = await harness.claim(100)
    assert claim.id == task_id
    match status:
        case TaskStatus.RUNNING:
            return claim
        case TaskStatus.SUCCEEDED | TaskStatus.FAILED | TaskStatus.CANCELLED if policy == "retry":
            await harness.record(claim, ENDS[status])
        case _:
            await harness.rescue(harness.dispatcher)
            if status is TaskStatus.SCHEDULED:
                (claim,) = await harness.claim(by=new_id())
                await harness.record(claim, Snoozed(60))
                claim = claim._replace(fence=claim.fence + 1)
            elif status in {TaskStatus.PAUSED, TaskStatus.WAITING}:
                await harness.force_status(task_id, status)
    assert await harness.status(task_id) is status
    return claim
