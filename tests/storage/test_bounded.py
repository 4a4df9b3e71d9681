"""One task's errors and details stay few, however often it is tried and however much it reports."""

from __future__ import annotations

from itertools import count
from uuid import UUID

import pytest

from aiotaskstore.dispatch.details import Details
from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.outcome import EMPTY, Failed, Retrying
from aiotaskstore.side_row_limits import DETAILS, ERRORS
from aiotaskstore.storage.database import fields_of
from aiotaskstore.storage.operation import Batch, Steps
from aiotaskstore.storage.tasks import Note
from aiotaskstore.storage.transitions import AttemptErrorRow
from aiotaskstore.task import Claim
from tests.storage.harness import Harness, new_task


async def test_of_many_errors_the_first_and_the_newest_are_kept_and_the_others_counted(harness: Harness):
    attempts = ERRORS.first + ERRORS.newest + 30
    task_id = await harness.add(max_attempts=attempts)
    await _age(harness, task_id, 95)
    for attempt in range(96, attempts + 1):
        (claim,) = await harness.claim()
        await harness.record(claim, Retrying("OSError", f"{attempt}", 0, "Traceback"))
        if attempt == ERRORS.first + ERRORS.newest:
            assert (await harness.get(task_id)).errors_left_out == 0
    task = await harness.get(task_id)
    assert task.errors_left_out == 30
    assert [one.attempt for one in task.errors] == [
        *range(1, ERRORS.first + 1), *range(attempts - ERRORS.newest + 1, attempts + 1),
    ]  # fmt: skip
    assert task.error == f"OSError: {attempts}"
    assert await _rows(harness, "task_errors", task_id) <= ERRORS.first + ERRORS.newest + 1


async def test_long_errors_are_fewer(harness: Harness):
    task_id = await harness.add(max_attempts=50)
    for _ in range(40):
        (claim,) = await harness.claim()
        await harness.record(claim, Retrying("OSError", "m" * 10_000, 0, "t" * 4_000))
    task = await harness.get(task_id)
    assert len(task.errors) + task.errors_left_out == 40
    kept = sum(len(one.message) + len(one.traceback) for one in task.errors)
    assert kept <= ERRORS.first_characters + ERRORS.newest_characters
    assert await _rows(harness, "task_errors", task_id) == len(task.errors) + 1


async def test_many_tasks_with_many_errors_are_bounded_together(harness: Harness):
    rows = [new_task(max_attempts=200) for _ in range(5)]
    await harness.database.write(lambda: harness.tasks.enqueue(rows))
    for row in rows:
        await _age(harness, row.id, 95)
    for _ in range(ERRORS.first + ERRORS.newest + 7 - 95):
        claims = await harness.claim(5)
        ended = [(claim, Retrying("OSError", "again", 0)) for claim in claims]
        await harness.database.write(lambda ended=ended: harness.tasks.record(ended))  # type: ignore[misc]
    for row in rows:
        task = await harness.get(row.id)
        assert (len(task.errors), task.errors_left_out) == (ERRORS.first + ERRORS.newest, 7)


async def test_a_traceback_is_kept_beside_its_error(harness: Harness):
    claim = await harness.run_one(max_attempts=2)
    await harness.record(claim, Retrying("OSError", "down", 0, "Traceback: retried ⚙"))
    (again,) = await harness.claim()
    await harness.record(again, Failed("ValueError", "no good", FinishReason.ERROR, "Traceback: failed"))
    task = await harness.get(claim.id)
    assert [one.traceback for one in task.errors] == ["Traceback: retried ⚙", "Traceback: failed"]
    without = await harness.run_one()
    await harness.record(without, Failed("ValueError", "no good", FinishReason.ERROR))
    assert [one.traceback for one in (await harness.get(without.id)).errors] == [""]


async def test_of_many_lines_the_first_and_the_newest_are_kept_and_the_others_counted(harness: Harness):
    claim = await harness.run_one()
    details, numbers = Details(later_attempt=False), count(1)
    for batch in (5, 300, 3_000, 1, 499, 1_195):
        for _ in range(batch):
            details.add(f"line {next(numbers)}")
        await _tell(harness, claim, details)
        assert await _rows(harness, "task_details", claim.id) <= 2 * (DETAILS.first + DETAILS.newest)
    task = await harness.get(claim.id)
    lines = task.details.split("\n")
    assert lines[: DETAILS.first] == [f"line {n}" for n in range(1, DETAILS.first + 1)]
    assert lines[DETAILS.first] == "… 4,000 lines left out …"
    assert lines[DETAILS.first + 1 :] == [f"line {n}" for n in range(5_001 - DETAILS.newest, 5_001)]
    assert task.details_left_out == 4_000
    await harness.record(claim, EMPTY)
    assert (await harness.get(claim.id)).details == task.details
    await harness.delete(claim.id)
    assert await harness.side_rows(claim.id) == 0


async def test_lines_of_many_attempts_are_bounded_together(harness: Harness):
    task_id = await harness.add(max_attempts=30)
    for _ in range(20):
        (claim,) = await harness.claim()
        details = Details(later_attempt=claim.fence > 1)
        for number in range(150):
            details.add(f"attempt {claim.attempt}, line {number}")
        await _tell(harness, claim, details)
        await harness.record(claim, Retrying("OSError", "again", 0))
    task = await harness.get(task_id)
    lines = task.details.split("\n")
    assert lines[0] == "attempt 1, line 0"
    assert lines[-1] == "attempt 20, line 149"
    assert len(lines) == DETAILS.first + 1 + DETAILS.newest
    assert task.details_left_out == 20 * 150 - DETAILS.first - DETAILS.newest
    assert await _rows(harness, "task_details", task_id) <= 2 * (DETAILS.first + DETAILS.newest)


@pytest.mark.parametrize("length", [1_000, 10_000])
async def test_long_lines_are_fewer(harness: Harness, length: int):
    claim = await harness.run_one()
    details = Details(later_attempt=False)
    for _ in range(3):
        for _ in range(400):
            details.add("ж" * length)
        await _tell(harness, claim, details)
    task = await harness.get(claim.id)
    assert len(task.details) <= DETAILS.first_characters + DETAILS.newest_characters + 1_100
    assert task.details.count("ж") // length + task.details_left_out == 1_200


async def _age(harness: Harness, task_id: UUID, attempts: int) -> None:
    """Make a task one that has failed so often."""
    errors = [
        AttemptErrorRow(task_id, attempt, attempt, "OSError", f"{attempt}", None) for attempt in range(1, attempts + 1)
    ]

    def write() -> Steps[None]:
        yield Batch("insert_errors", fields_of(AttemptErrorRow), errors)

    await harness.database.write(write)
    sql = "UPDATE aiotaskstore_tasks SET fence = :fence, attempt = :attempt WHERE id = :id"
    await harness.sql(sql, fence=attempts, attempt=attempts, id=task_id)


async def _tell(harness: Harness, claim: Claim, details: Details) -> None:
    lines, bounding = details.take()
    note = Note(claim.id, claim.fence, None, lines, bounding)
    assert not (await harness.database.write(lambda: harness.tasks.report([note]))).lost


async def _rows(harness: Harness, table: str, task_id: UUID) -> int:
    rows = await harness.sql(f"SELECT count(*) FROM aiotaskstore_{table} WHERE task_id = :id", id=task_id)
    return int(rows[0][0])
