"""An e-mail that is retried, a reminder for later and a daily digest, with APScheduler."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger

scheduler = AsyncIOScheduler(timezone="Europe/Sofia")

delivered: list[str] = []
busy = {"welcome"}  # what the mail server refuses once


def deliver(text: str, address: str) -> None:
    """Stand in for the mail server."""
    if text in busy:
        busy.remove(text)
        print("the mail server is busy")
        raise ConnectionError("the mail server is busy")
    print(f"{text} sent to {address}")
    delivered.append(text)


async def send_welcome(address: str, attempt: int = 1) -> None:
    try:
        deliver("welcome", address)
    except ConnectionError:
        if attempt == 4:
            raise
        later(0.1, send_welcome, address, attempt + 1)


async def remind(address: str) -> None:
    deliver("reminder", address)


async def send_digest() -> None:
    deliver("digest", "staff@example.org")


def later(delay: float, function: Callable[..., Awaitable[None]], *arguments: object) -> None:
    at = datetime.now(UTC) + timedelta(seconds=delay)
    scheduler.add_job(function, "date", run_date=at, args=arguments, misfire_grace_time=3600)


async def main() -> None:
    scheduler.add_job(send_digest, CronTrigger.from_crontab("0 7 * * *"), id="digest", misfire_grace_time=3600)
    scheduler.start()
    later(0, send_welcome, "ada@example.org")
    later(0.1, remind, "ada@example.org")
    scheduler.modify_job("digest", next_run_time=datetime.now(UTC))  # for once, now
    while len(delivered) < 3:
        await asyncio.sleep(0.05)
    scheduler.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
