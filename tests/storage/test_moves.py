"""No operation makes a move that `task.MOVES` does not have; every move it has is made by one that may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from aiotaskstore.ids import new_id
from aiotaskstore.outcome import EMPTY, RELEASED, Cancelled, Failed, Outcome, Retrying, Snoozed
from aiotaskstore.retention import Retention
from aiotaskstore.storage.rows import ON_STUCK
from aiotaskstore.task import FINISHED, MOVES, Claim, TaskStatus
from tests.storage.bench import Bench

KEPT = Retention(period=60).dump()
OUTCOMES: list[Outcome] = [
    EMPTY, Failed("E", "", "error"), Retrying("E", "", 0), Retrying("E", "", 60), Snoozed(60), RELEASED,
    Cancelled("handler"),
]  # fmt: skip
BY_DEATH = [(TaskStatus.RUNNING, "interrupt"), (TaskStatus.RUNNING, "fail"), (TaskStatus.FAILED, "fail")]
"""Where a task stands that must not run twice, before and after its dispatcher has died."""
ENDS: dict[TaskStatus, Outcome] = {
    TaskStatus.SUCCEEDED: EMPTY,
    TaskStatus.FAILED: Failed("E", "", "error"),
    TaskStatus.CANCELLED: Cancelled("handler"),
}
AHEAD = {(status, TaskStatus.WAITING) for status in TaskStatus}
AHEAD |= {(status, TaskStatus.SCHEDULED) for status in TaskStatus if status is not TaskStatus.RUNNING}
"""Moves that nothing makes yet: serialization keys, reschedule and resume come in later issues."""


async def test_no_operation_makes_a_move_that_is_not_in_the_table(bench: Bench):
    made: set[tuple[TaskStatus, TaskStatus]] = set()
    for status, policy in [*((status, "retry") for status in TaskStatus), *BY_DEATH]:
        for name, act in _operations(bench).items():
            claim = await _bring_to(bench, status, policy)
            await act(claim)
            after = await bench.status(claim.id)
            if after is None:
                gone_by = {"delete", "forced delete"} | ({"clean"} if status in FINISHED else set())
                assert name in gone_by, f"{name} took a {status} task away"
            elif after is not status:
                assert after in MOVES[status], f"{name} moved a task from {status} to {after}"
                made.add((status, after))
            await bench.delete(claim.id, force=True)
    listed = {(before, after) for before, afters in MOVES.items() for after in afters if before is not after}
    assert listed - made <= AHEAD, "moves in the table that no operation makes"


def test_the_table_of_moves_has_every_status_and_no_end_leads_to_another_end_but_success():
    assert set(MOVES) == set(TaskStatus)
    for status in FINISHED:
        assert MOVES[status] & FINISHED <= {TaskStatus.SUCCEEDED}
        assert TaskStatus.RUNNING not in MOVES[status]


def _operations(bench: Bench) -> dict[str, Callable[[Claim], Awaitable[object]]]:
    async def rescue(_claim: Claim) -> None:
        await bench.rescue(bench.dispatcher)

    async def clean(_claim: Claim) -> None:
        bench.clock.advance(3600)
        await bench.clean()

    async def promote(_claim: Claim) -> None:
        bench.clock.advance(3600)
        await bench.promote()

    operations: dict[str, Callable[[Claim], Awaitable[object]]] = {
        "claim": lambda _claim: bench.claim(100),
        "promote": promote,
        "rescue": rescue,
        "clean": clean,
        "cancel": lambda claim: bench.cancel(claim.id),
        "forced cancel": lambda claim: bench.cancel(claim.id, force=True),
        "retry": lambda claim: bench.retry(claim.id),
        "forced retry": lambda claim: bench.retry(claim.id, force=True),
        "delete": lambda claim: bench.delete(claim.id),
        "forced delete": lambda claim: bench.delete(claim.id, force=True),
    }
    for outcome in OUTCOMES:
        for again in (False, True):
            for older in (0, 1):
                operations[f"{outcome} {again=} {older=}"] = partial(_record, bench, outcome, again, older)
    return operations


async def _record(bench: Bench, outcome: Outcome, again: bool, older: int, claim: Claim) -> None:
    await bench.record(claim._replace(fence=claim.fence - older), outcome, again=again)


async def _bring_to(bench: Bench, status: TaskStatus, policy: str) -> Claim:
    """Make a task of a status that has been claimed once; gives the claim as the row still knows it."""
    policy = "interrupt" if status is TaskStatus.INTERRUPTED else policy
    task_id = await bench.add(retention=KEPT, max_attempts=9, on_stuck=ON_STUCK.index(policy))
    (claim,) = await bench.claim(100)
    assert claim.id == task_id
    match status:
        case TaskStatus.RUNNING:
            return claim
        case TaskStatus.SUCCEEDED | TaskStatus.FAILED | TaskStatus.CANCELLED if policy == "retry":
            await bench.record(claim, ENDS[status])
        case _:
            await bench.rescue(bench.dispatcher)
            if status is TaskStatus.SCHEDULED:
                (claim,) = await bench.claim(by=new_id())
                await bench.record(claim, Snoozed(60))
                claim = claim._replace(fence=claim.fence + 1)
            elif status in {TaskStatus.PAUSED, TaskStatus.WAITING}:
                await bench.force_status(task_id, status)
    assert await bench.status(task_id) is status
    return claim
