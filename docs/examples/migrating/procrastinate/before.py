"""An e-mail that is retried, a reminder for later and a daily digest, with procrastinate."""

import asyncio
import time

from procrastinate import App, RetryStrategy
from procrastinate.testing import InMemoryConnector

app = App(connector=InMemoryConnector())  # elsewhere: PsycopgConnector(conninfo="postgresql://…")

busy = {"welcome"}  # what the mail server refuses once


def deliver(text: str, address: str) -> None:
    """Stand in for the mail server."""
    if text in busy:
        busy.remove(text)
        print("the mail server is busy")
        raise ConnectionError("the mail server is busy")
    print(f"{text} sent to {address}")


@app.task(name="send_welcome", retry=RetryStrategy(max_attempts=3, retry_exceptions={ConnectionError}))
async def send_welcome(address: str) -> str:
    deliver("welcome", address)
    return f"{address} is welcome"


@app.task(name="remind")
async def remind(address: str) -> None:
    deliver("reminder", address)


@app.periodic(cron="0 7 * * *")
@app.task(name="send_digest")
async def send_digest(timestamp: int) -> None:
    deliver("digest", "staff@example.org")


async def main() -> None:
    async with app.open_async():
        await send_welcome.defer_async(address="ada@example.org")
        await remind.configure(schedule_in={"milliseconds": 100}).defer_async(address="ada@example.org")
        await app.configure_task("send_digest").defer_async(timestamp=int(time.time()))  # what a worker does at seven
        await asyncio.sleep(0.2)  # past the delay: this worker leaves when nothing is due
        await app.run_worker_async(wait=False, install_signal_handlers=False)


if __name__ == "__main__":
    asyncio.run(main())
