"""An e-mail that is retried, a reminder for later and a daily digest, with PgQueuer."""

import asyncio
import json
from datetime import timedelta

from pgqueuer import PgQueuer
from pgqueuer.errors import RetryRequested
from pgqueuer.models import Job, Schedule
from pgqueuer.types import QueueExecutionMode

busy = {"welcome"}  # what the mail server refuses once


def deliver(text: str, address: str) -> None:
    """Stand in for the mail server."""
    if text in busy:
        busy.remove(text)
        print("the mail server is busy")
        raise ConnectionError("the mail server is busy")
    print(f"{text} sent to {address}")


def declare(pgq: PgQueuer) -> PgQueuer:
    @pgq.entrypoint("send_welcome")
    async def send_welcome(job: Job) -> None:
        try:
            deliver("welcome", json.loads(job.payload or b"{}")["address"])
        except ConnectionError as error:
            if job.attempts < 3:
                raise RetryRequested(delay=timedelta(seconds=0.1), reason=str(error)) from error
            raise

    @pgq.entrypoint("remind")
    async def remind(job: Job) -> None:
        deliver("reminder", json.loads(job.payload or b"{}")["address"])

    @pgq.entrypoint("send_digest")
    async def send_digest(job: Job) -> None:
        deliver("digest", "staff@example.org")

    @pgq.schedule("daily", "0 7 * * *")
    async def daily(schedule: Schedule) -> None:
        await pgq.qm.queries.enqueue("send_digest", None)

    return pgq


async def main() -> None:
    pgq = declare(PgQueuer.in_memory())  # elsewhere: PgQueuer.from_asyncpg_pool(…)
    address = json.dumps({"address": "ada@example.org"}).encode()
    await pgq.qm.queries.enqueue("send_welcome", address)
    await pgq.qm.queries.enqueue("remind", address, execute_after=timedelta(seconds=0.1))
    await pgq.qm.queries.enqueue("send_digest", None)  # what the schedule does at seven
    await pgq.qm.run(mode=QueueExecutionMode.drain)


if __name__ == "__main__":
    asyncio.run(main())
