"""Claims where SKIP LOCKED skips nothing, as on TiDB, which takes the words and no lock."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from uuid import UUID

from aiotaskstore.mechanics.ids import new_id
from aiotaskstore.outcome import EMPTY
from aiotaskstore.storage import migrations
from aiotaskstore.storage.connect import connect
from aiotaskstore.storage.mysql.database import MySQLDatabase
from aiotaskstore.storage.storage import Storage
from aiotaskstore.task import NewTask

CLAIMERS, TASKS = 4, 1_000


def new_task() -> NewTask:
    nothing = (None,) * 8
    return NewTask(new_id(), "q", "noop", 0, None, None, "{}", 1, None, 0, *nothing[:7], False, None, None)


async def opened(url: str) -> tuple[Storage, MySQLDatabase]:
    storage = connect(url)
    await storage.database.open()
    assert isinstance(storage.database, MySQLDatabase)
    return storage, storage.database


async def test_a_server_that_skips_locked_rows_is_known_by_its_behaviour(mysql_url: str):
    storage, database = await opened(mysql_url)
    await migrations.migrate(database)
    database.skips_locked = False
    await database.probe()
    assert database.skips_locked
    await storage.database.close()


async def test_the_probe_needs_no_second_place_in_the_pool(mysql_url: str):
    storage = connect(mysql_url, pool_size=1)
    await storage.database.open()
    await migrations.migrate(storage.database)
    await storage.database.probe()
    await storage.database.close()


async def test_competing_claims_take_every_task_once(mysql_url: str):
    storages = [await opened(mysql_url) for _ in range(CLAIMERS)]
    await migrations.migrate(storages[0][1])
    rows = [new_task() for _ in range(TASKS)]
    first, database = storages[0]
    await database.write(lambda: first.tasks.enqueue(rows))
    taken: Counter[UUID] = Counter()
    lost: list[UUID] = []

    async def drain(storage: Storage, database: MySQLDatabase) -> None:
        database.skips_locked = False
        me = new_id()
        while len(taken) < TASKS:
            claims = await database.write(lambda: storage.tasks.claim(me, [("q", 20)], ["noop"]))
            taken.update(claim.id for claim in claims)
            if claims:
                ended = [(one, EMPTY) for one in claims]
                recorded = await database.write(partial(storage.tasks.record, ended))
                lost.extend(recorded.lost)

    async with asyncio.TaskGroup() as group:
        for storage, own in storages:
            group.create_task(drain(storage, own))
    assert max(taken.values()) == 1
    assert lost == []
    counts = await database.read(first.counts)
    assert [(count.status, count.tasks) for count in counts] == [("succeeded", TASKS)]
    for storage, _ in storages:
        await storage.database.close()


async def test_competing_claims_that_grant_serialization_keys_run_the_tasks_of_a_key_in_order(mysql_url: str):
    storages = [await opened(mysql_url) for _ in range(CLAIMERS)]
    await migrations.migrate(storages[0][1])
    rows = [new_task()._replace(serialization_key=f"key {n % 5}") for n in range(100)]
    first, database = storages[0]
    await database.write(lambda: first.tasks.enqueue(rows))
    keys = [f"key {n}" for n in range(5)]
    taken: dict[str, list[UUID]] = {key: [] for key in keys}

    async def drain(storage: Storage, database: MySQLDatabase) -> None:
        database.skips_locked = False
        me = new_id()
        while sum(map(len, taken.values())) < len(rows):
            claims, _ = await database.write(lambda: storage.tasks.claim_granting(me, [("q", 2)], ["noop"], keys))
            for claim in claims:
                taken[str(claim.serialization_key)].append(claim.id)
            if claims:
                recorded = await database.write(partial(storage.tasks.record, [(one, EMPTY) for one in claims]))
                assert not recorded.lost

    async with asyncio.TaskGroup() as group:
        for storage, own in storages:
            group.create_task(drain(storage, own))
    assert taken == {f"key {n}": [row.id for row in rows[n::5]] for n in range(5)}
    for storage, _ in storages:
        await storage.database.close()
