"""An e-mail that is retried, a reminder for later and a daily digest, with taskiq."""

import asyncio

from taskiq import InMemoryBroker, SimpleRetryMiddleware, TaskiqScheduler
from taskiq.schedule_sources import LabelScheduleSource

broker = InMemoryBroker().with_middlewares(SimpleRetryMiddleware())  # elsewhere: RedisStreamBroker, AioPikaBroker …
scheduler = TaskiqScheduler(broker, sources=[LabelScheduleSource(broker)])

busy = {"welcome"}  # what the mail server refuses once


def deliver(text: str, address: str) -> None:
    """Stand in for the mail server."""
    if text in busy:
        busy.remove(text)
        print("the mail server is busy")
        raise ConnectionError("the mail server is busy")
    print(f"{text} sent to {address}")


@broker.task(retry_on_error=True, max_retries=4)
async def send_welcome(address: str) -> str:
    deliver("welcome", address)
    return f"{address} is welcome"


@broker.task
async def remind(address: str) -> None:
    deliver("reminder", address)


@broker.task(schedule=[{"cron": "0 7 * * *", "cron_offset": "Europe/Sofia"}])
async def send_digest() -> None:
    deliver("digest", "staff@example.org")


async def main() -> None:
    await broker.startup()
    await scheduler.startup()
    for source in scheduler.sources:
        await source.startup()
    welcome = await send_welcome.kiq("ada@example.org")
    await remind.kicker().with_labels(delay=0.1).kiq("ada@example.org")  # in memory it does not wait
    for source in scheduler.sources:
        for task in await source.get_schedules():  # what the scheduler's process does at seven
            await scheduler.on_ready(source, task)
    print((await welcome.wait_result(timeout=60)).return_value)
    await broker.wait_all()
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
