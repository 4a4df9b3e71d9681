"""Bring over what waits in PgQueuer: in one transaction, so that each task is in one system or the other."""

import asyncio
import json
import os

from aiotaskstore import Draft, TaskOptions, TaskStore

store = TaskStore(os.environ["DATABASE_URL"])


@store.task
async def remind(address: str) -> None:
    print(f"reminder sent to {address}")


MOVED = [remind.alias]  # the tasks whose producers have been switched
WAITING = """
    DELETE FROM pgqueuer WHERE status = 'queued' AND entrypoint = ANY($1)
    RETURNING id, entrypoint, payload, priority, execute_after, dedupe_key
"""


async def move() -> int:
    drafts: list[Draft[object]] = []
    async with store.transaction() as connection:  # asyncpg's
        for row in sorted(await connection.fetch(WAITING, MOVED), key=lambda row: row["id"]):
            options = TaskOptions(priority=-row["priority"], run_at=row["execute_after"])
            if row["dedupe_key"] is not None:
                options |= TaskOptions(external_id=row["dedupe_key"], unique_while="live", on_conflict="return")
            drafts.append(store.draft(row["entrypoint"], json.loads(row["payload"] or b"{}"), **options))
        await store.enqueue_many(drafts)
    return len(drafts)


async def main() -> None:
    async with store:
        print(await move())


if __name__ == "__main__":
    asyncio.run(main())
