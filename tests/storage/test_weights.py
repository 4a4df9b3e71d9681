"""However much is to be written at once: no statement is too large, and nothing is half written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest

from aiotaskstore import PayloadError
from aiotaskstore.finish_reason import FinishReason
from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.outcome import Failed, Outcome, Succeeded
from aiotaskstore.storage.database import Database
from aiotaskstore.storage.external_ids import KeyedRow, Taken
from aiotaskstore.storage.listing import Listing, matching, page, total
from aiotaskstore.storage.mysql.database import MySQLDatabase
from aiotaskstore.storage.tasks import ClaimKey, Line, Note
from aiotaskstore.task import TaskStatus
from tests.storage.harness import Harness, harness_on, new_task

ESCAPED = "\x01"
"""A letter that MySQL's statement carries as seven bytes."""


async def test_heavy_metadata_is_cut_as_payloads_are(harness: Harness):
    metadata = json.dumps({"m": "x" * 50_000})
    rows = [new_task(metadata=metadata) for _ in range(400)]  # 20 MB: more than MariaDB's packet
    await harness.database.write(lambda: harness.tasks.enqueue(rows))
    assert (await harness.sql("SELECT count(*) FROM aiotaskstore_tasks"))[0][0] == len(rows)
    assert (await harness.get(rows[-1].id)).metadata == {"m": "x" * 50_000}


async def test_what_is_cut_into_statements_is_stored_all_or_not_at_all(harness: Harness):
    heavy = json.dumps("x" * 900_000)
    rows = [new_task(payload=heavy) for _ in range(5)]
    rows.append(rows[0])
    with pytest.raises(Exception, match=r"(?i)duplicate|unique"):
        await harness.database.write(lambda: harness.tasks.enqueue(rows))
    assert (await harness.sql("SELECT count(*) FROM aiotaskstore_tasks"))[0][0] == 0


async def test_long_errors_of_many_tasks_are_written_together(harness: Harness):
    rows = [new_task() for _ in range(850)]
    await harness.database.write(lambda: harness.tasks.enqueue(rows))
    failed = Failed("ValueError", "ж" * 10_000, FinishReason.ERROR, "ж" * 2_000)  # 37 MB with the history's copy
    ended: list[tuple[ClaimKey, Outcome]] = [(claim, failed) for claim in await harness.claim(850)]
    recorded = await harness.database.write(lambda: harness.tasks.record(ended))
    assert recorded.lost == frozenset()
    task = await harness.get(rows[-1].id)
    assert (task.status, len(task.errors[0].message)) == (TaskStatus.FAILED, 10_000)


async def test_results_above_one_statements_weight_are_written_together(harness: Harness):
    rows = [new_task() for _ in range(12)]
    await harness.database.write(lambda: harness.tasks.enqueue(rows))
    heavy = Succeeded(json.dumps("x" * 900_000))
    ended: list[tuple[ClaimKey, Outcome]] = [(claim, heavy) for claim in await harness.claim(12)]
    recorded = await harness.database.write(lambda: harness.tasks.record(ended))
    assert recorded.lost == frozenset()
    assert (await harness.sql("SELECT count(*) FROM aiotaskstore_tasks"))[0][0] == 0
    assert (await harness.sql("SELECT count(*) FROM aiotaskstore_history"))[0][0] == 12


async def test_details_of_many_runs_above_one_statements_weight_are_written_together(harness: Harness):
    rows = [new_task() for _ in range(40)]
    await harness.database.write(lambda: harness.tasks.enqueue(rows))
    lines = tuple(Line(number, "ж" * 9_000) for number in range(1, 26))  # 18 MB in all
    notes = [Note(claim.id, claim.fence, ("p" * 9_000, 0.5), lines) for claim in await harness.claim(40)]
    assert not (await harness.database.write(lambda: harness.tasks.report(notes))).lost
    assert len((await harness.get(rows[-1].id)).details) == 25 * 9_001 - 1


async def test_more_external_ids_than_one_statement_takes_are_taken_together(harness: Harness):
    keyed = [KeyedRow(new_task(external_id=f"{number:06d}" + "ж" * 240), live_only=False) for number in range(1_500)]
    assert await harness.database.write(lambda: harness.tasks.enqueue_keyed(keyed)) == Taken({})
    again = [KeyedRow(one.row._replace(id=new_id()), live_only=False) for one in keyed]
    taken = await harness.database.write(lambda: harness.tasks.enqueue_keyed(again))
    assert [taken.owners[one.row.id] for one in again] == [one.row.id for one in keyed]


async def test_lists_of_very_many_ids_are_asked_in_parts(harness: Harness):
    task_id = await harness.add()
    ids = [*(new_id() for _ in range(25_000)), task_id]
    assert await harness.database.read(lambda: harness.tasks.stored_among(ids)) == {task_id}
    assert (await harness.database.read(lambda: harness.tasks.side_rows(ids))).errors == {}


@pytest.mark.parametrize("order", ["id", "priority", "queue"])
async def test_a_filter_by_very_many_ids_finds_counts_and_orders_as_any_other(harness: Harness, order: str):
    rows = [new_task(priority=number % 3, queue=f"q{number % 4}") for number in range(9)]
    strangers = [new_id() for _ in range(15_000)]
    rows += [new_task(priority=number % 3, queue=f"q{number % 4}") for number in range(9)]
    await harness.database.write(lambda: harness.tasks.enqueue(rows))
    ids = [*(row.id for row in rows), *strangers]
    until = harness.clock.now
    for paged in ({}, {"limit": 5, "offset": 3}, {"descending": False, "limit": 4}):
        few = Listing.parse({"id_in": [row.id for row in rows], "order_by": order, **paged})  # type: ignore[typeddict-item]
        many = Listing.parse({"id_in": ids, "order_by": order, **paged})  # type: ignore[typeddict-item]
        wanted = [task.id for task in await harness.database.read(lambda few=few: page(harness.tasks, few))]  # type: ignore[misc]
        assert [task.id for task in await harness.database.read(lambda many=many: page(harness.tasks, many))] == wanted  # type: ignore[misc]
    assert await harness.database.read(lambda: total(many)) == 18
    found: list[UUID] = [UUID(int=0)]
    while more := await harness.database.read(
        lambda beyond=found[-1]: matching(harness.tasks, many, 7, beyond, until)  # type: ignore[misc]
    ):
        found += more
    assert found[1:] == [row.id for row in rows]


async def test_a_row_that_no_statement_can_carry_is_refused_for_what_it_is(mysql_url: str):
    async with harness_on(mysql_url) as harness:
        with small_packets(harness.database, 200_000):
            with pytest.raises(PayloadError, match="max_allowed_packet"):
                await harness.database.write(
                    lambda: harness.tasks.enqueue([new_task(payload=json.dumps("x" * 200_000))])
                )
            small = [new_task(payload=json.dumps(ESCAPED * 2_000), metadata='{"a": "\\\\"}') for _ in range(300)]
            await harness.database.write(lambda: harness.tasks.enqueue(small))
        assert (await harness.get(small[0].id)).payload == ESCAPED * 2_000


@contextmanager
def small_packets(database: Database, size: int) -> Iterator[None]:
    """Have a MySQL server that takes less, as far as we know."""
    assert isinstance(database, MySQLDatabase)
    known, characters = database.packets._packet, database.packets.most_characters
    database.packets._packet, database.packets.most_characters = size, size // 8
    try:
        yield
    finally:
        database.packets._packet, database.packets.most_characters = known, characters
