"""Bring over what waits in procrastinate: in one transaction, so that each task is in one system or the other."""

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
    UPDATE procrastinate_jobs SET status = 'cancelled' WHERE status = 'todo' AND task_name = ANY($1)
    RETURNING id, task_name, args, queue_name, priority, scheduled_at, lock, queueing_lock
"""


async def move() -> int:
    drafts: list[Draft[object]] = []
    async with store.transaction() as connection:  # asyncpg's
        for row in sorted(await connection.fetch(WAITING, MOVED), key=lambda row: row["id"]):
            options = TaskOptions(queue=row["queue_name"], priority=-row["priority"])
            if row["scheduled_at"] is not None:
                options["run_at"] = row["scheduled_at"]
            if row["lock"] is not None:
                options |= TaskOptions(serialization_key=row["lock"], serialization="strict")
            if row["queueing_lock"] is not None:
                options |= TaskOptions(external_id=row["queueing_lock"], unique_while="live", on_conflict="return")
            drafts.append(store.draft(row["task_name"], json.loads(row["args"]), **options))
        await store.enqueue_many(drafts)
    return len(drafts)


async def main() -> None:
    async with store:
        print(await move())


if __name__ == "__main__":
    asyncio.run(main())
