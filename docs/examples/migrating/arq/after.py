"""The same with aiotaskstore."""

import asyncio
from collections.abc import AsyncIterator

from aiotaskstore import TaskContext, TaskStore

store = TaskStore("sqlite:///tasks.db")  # or postgresql://…, mysql://…


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


@store.lifespan
async def open_clients() -> AsyncIterator[MailServer]:
    yield MailServer()  # what comes after the yield closes it


@store.task(max_attempts=4, backoff=0.1, retry_on=ConnectionError)
async def send_welcome(context: TaskContext, address: str) -> str:
    context.state_as(MailServer).deliver("welcome", address)
    return f"{address} is welcome"


@store.task
async def remind(context: TaskContext, address: str) -> None:
    context.state_as(MailServer).deliver("reminder", address)


@store.task
async def send_digest(context: TaskContext) -> None:
    context.state_as(MailServer).deliver("digest", "staff@example.org")


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
