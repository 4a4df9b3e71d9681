"""An e-mail that is retried, a reminder for later and a daily digest, with arq."""

import asyncio
from typing import Any

from arq import Retry, create_pool, cron, func
from arq.connections import RedisSettings
from arq.worker import create_worker


class MailServer:
    """Stand in for the client of a mail server that is busy at first."""

    def __init__(self) -> None:
        self.busy = {"welcome"}

    def deliver(self, text: str, address: str) -> None:
        """Send an e-mail, unless the server is busy."""
        if text in self.busy:
            self.busy.remove(text)
            print("the mail server is busy")
            raise ConnectionError("the mail server is busy")
        print(f"{text} sent to {address}")


async def open_clients(ctx: dict[Any, Any]) -> None:
    ctx["mail"] = MailServer()


async def send_welcome(ctx: dict[Any, Any], address: str) -> str:
    try:
        ctx["mail"].deliver("welcome", address)
    except ConnectionError as error:
        raise Retry(defer=0.1) from error
    return f"{address} is welcome"


async def remind(ctx: dict[Any, Any], address: str) -> None:
    ctx["mail"].deliver("reminder", address)


async def send_digest(ctx: dict[Any, Any]) -> None:
    ctx["mail"].deliver("digest", "staff@example.org")


class WorkerSettings:
    """What the command arq reads."""

    functions = [func(send_welcome, max_tries=4), remind]
    cron_jobs = [cron(send_digest, hour=7, minute=0, run_at_startup=True)]
    on_startup = open_clients


async def main() -> None:
    redis = await create_pool(RedisSettings())
    welcome = await redis.enqueue_job("send_welcome", "ada@example.org")
    await redis.enqueue_job("remind", "ada@example.org", _defer_by=0.1)
    await create_worker(WorkerSettings, redis_pool=redis, burst=True).async_run()
    if welcome is not None:  # None is what enqueue_job returns for an id that is taken
        print(await welcome.result(timeout=60))


if __name__ == "__main__":
    asyncio.run(main())
