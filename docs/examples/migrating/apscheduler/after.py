"""The same with aiotaskstore."""

import asyncio

from aiotaskstore import TaskStore

store = TaskStore("sqlite:///tasks.db")  # or postgresql://…, mysql://…

busy = {"welcome"}  # what the mail server refuses once


def deliver(text: str, address: str) -> None:
    """Stand in for the mail server."""
    if text in busy:
        busy.remove(text)
        print("the mail server is busy")
        raise ConnectionError("the mail server is busy")
    print(f"{text} sent to {address}")


@store.task(max_attempts=4, backoff=0.1, retry_on=ConnectionError)
async def send_welcome(address: str) -> str:
    deliver("welcome", address)
    return f"{address} is welcome"


@store.task
async def remind(address: str) -> None:
    deliver("reminder", address)


@store.task
async def send_digest() -> None:
    deliver("digest", "staff@example.org")


send_digest.schedule("0 7 * * *", timezone="Europe/Sofia")


async def main() -> None:
    async with store:
        welcome = await send_welcome.enqueue("ada@example.org")
        reminder = await remind.options(delay=0.1).enqueue("ada@example.org")
        digest = await store.schedules.run_now("send_digest")  # what a dispatcher does at seven
        async with store.dispatcher():  # elsewhere the command: aiotaskstore --app shop:store worker
            result = await welcome.result(timeout=60)
            await reminder.wait(timeout=60)
            await digest.wait(timeout=60)
    print(result)


if __name__ == "__main__":
    asyncio.run(main())
