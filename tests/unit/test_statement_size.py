"""No statement carries too much: every step is split, and its parts stay one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import pytest

from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.storage import statement_size
from aiotaskstore.storage.database import fields_of
from aiotaskstore.storage.operation import BEGIN, Batch, Begin, Call, Row, Rows, Step, Steps
from aiotaskstore.storage.statement_size import MOST_CHARACTERS, MOST_ROWS, split_steps, weight
from aiotaskstore.task import NewTask
from tests.storage.harness import new_task


def carried_out(operation: Steps[object], most: int = MOST_CHARACTERS) -> tuple[list[Step], object]:
    """Return the steps that reach the database, which answers each row with itself, and the result."""
    steps: list[Step] = []
    split = split_steps(operation, most)
    try:
        step = next(split)
        while True:
            steps.append(step)
            step = split.send(_answer(step))
    except StopIteration as stop:
        return steps, stop.value


def _answer(step: Step) -> Rows:
    if isinstance(step, Batch):
        return step.rows
    return [(one,) for one in step.params.get("ids", ())] if isinstance(step, Call) else ()


def one_batch(rows: Sequence[Row], fields: tuple[str, ...] = ("a",), *, begins: bool = False) -> Steps[Rows]:
    if begins:
        yield BEGIN
    return (yield Batch("any", fields, rows))


def one_list(ids: Sequence[UUID]) -> Steps[Rows]:
    return (yield Call("any", {"ids": ids, "reason": "same"}))


def test_what_fits_goes_as_it_is_and_in_no_transaction():
    rows = [("x" * 100,)] * MOST_ROWS
    steps, answer = carried_out(one_batch(rows))
    assert steps == [Batch("any", ("a",), rows)]
    assert answer == rows


@pytest.mark.parametrize("begins", [False, True])
def test_the_parts_of_a_step_are_one_transaction(begins: bool):
    rows = [(f"{number}",) for number in range(2 * MOST_ROWS + 1)]
    steps, answer = carried_out(one_batch(rows, begins=begins))
    assert [isinstance(step, Begin) for step in steps] == [True, False, False, False]
    assert [len(step.rows) for step in steps if isinstance(step, Batch)] == [MOST_ROWS, MOST_ROWS, 1]
    assert answer == rows


def test_a_thousand_results_of_a_mebibyte_are_a_thousand_statements():
    result = "x" * 2**20  # one text, a thousand times: 1 GiB for the database
    steps, _ = carried_out(one_batch([("id", result)] * 1_000, ("id", "result")))
    assert [len(step.rows) for step in steps if isinstance(step, Batch)] == [1] * 1_000


def test_every_text_of_a_row_weighs_and_not_the_payload_alone():
    row = new_task(payload="p" * 10, metadata="m" * 100, owner_id="o" * 1_000, source="s" * 10_000, external_id="é")
    assert weight(row) == 11_111 + len("defaultwork")
    for field in ("payload", "metadata", "owner_id", "source", "external_id", "serialization_key", "retention"):
        rows = [new_task(**{field: "x" * 1_000}) for _ in range(100)]
        steps, answer = carried_out(one_batch(rows, fields_of(NewTask)), most=10_500)
        batches = [step for step in steps if isinstance(step, Batch)]
        assert max(sum(map(weight, step.rows)) for step in batches) <= 10_500, field
        assert len(batches) >= 10
        assert answer == rows


def test_a_row_that_is_too_heavy_stands_alone():
    rows = [("x",), ("y" * 50,), ("z",)]
    steps, _ = carried_out(one_batch(rows), most=10)
    assert [step.rows for step in steps if isinstance(step, Batch)] == [[row] for row in rows]


def test_a_list_of_450_000_ids_is_split_and_its_answers_put_together():
    ids = [new_id() for _ in range(1_000)] * 450
    steps, answer = carried_out(one_list(ids))
    calls = [step for step in steps if isinstance(step, Call)]
    assert isinstance(steps[0], Begin)
    assert max(len(step.params["ids"]) for step in calls) <= 10_000
    assert {step.params["reason"] for step in calls} == {"same"}
    assert answer == [(one,) for one in ids]


def test_a_list_of_external_ids_is_split_by_its_characters_too():
    keys = ["k" * 255] * 9_000

    def ask() -> Steps[Rows]:
        return (yield Call("any", {"aliases": ["work"], "external_ids": keys}))

    steps, _ = carried_out(ask())
    assert len(steps) == 3
    assert sum(len(step.params["external_ids"]) for step in steps if isinstance(step, Call)) == len(keys)


def test_an_operation_that_is_stopped_is_closed():
    closed = []

    def operation() -> Steps[None]:
        try:
            yield Call("any")
        finally:
            closed.append(1)

    split = split_steps(operation())
    next(split)
    split.close()
    assert closed == [1]
    assert statement_size.MOST_ROWS == MOST_ROWS
