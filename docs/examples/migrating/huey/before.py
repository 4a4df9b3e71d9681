"""An e-mail that is retried, a reminder for later and a daily digest, with huey."""

import time
from datetime import datetime

from huey import SqliteHuey, crontab

huey = SqliteHuey(filename="huey.db", store_none=True, store_intermediate_errors=False)

busy = {"welcome"}  # what the mail server refuses once


def deliver(text: str, address: str) -> None:
    """Stand in for the mail server. Threads print at the same time, so each line is one piece."""
    if text in busy:
        busy.remove(text)
        print("the mail server is busy\n", end="")
        raise ConnectionError("the mail server is busy")
    print(f"{text} sent to {address}\n", end="")


@huey.task(retries=3, retry_delay=1)
def send_welcome(address: str) -> str:
    deliver("welcome", address)
    return f"{address} is welcome"


@huey.task()
def remind(address: str) -> None:
    deliver("reminder", address)


@huey.periodic_task(crontab(hour="7", minute="0"))
def send_digest() -> None:
    deliver("digest", "staff@example.org")


def main() -> None:
    consumer = huey.create_consumer(workers=2)  # elsewhere the command huey_consumer
    consumer.start()
    welcome = send_welcome("ada@example.org")
    reminder = remind.schedule(("ada@example.org",), delay=1)
    for task in huey.read_periodic(datetime(2030, 1, 1, 7, 0)):  # what the consumer does at seven
        huey.enqueue(task)
    result = welcome.get(blocking=True, timeout=60)
    reminder.get(blocking=True, timeout=60)
    while huey.pending_count():
        time.sleep(0.1)
    consumer.stop(graceful=True)
    print(result)


if __name__ == "__main__":
    main()
