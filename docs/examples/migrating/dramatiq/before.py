"""An e-mail that is retried, a reminder for later and a daily digest, with dramatiq."""

import dramatiq
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from dramatiq.brokers.stub import StubBroker
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend

broker = StubBroker()  # elsewhere: RabbitmqBroker or RedisBroker
broker.add_middleware(Results(backend=StubBackend()))
dramatiq.set_broker(broker)

busy = {"welcome"}  # what the mail server refuses once


def deliver(text: str, address: str) -> None:
    """Stand in for the mail server. Threads print at the same time, so each line is one piece."""
    if text in busy:
        busy.remove(text)
        print("the mail server is busy\n", end="")
        raise ConnectionError("the mail server is busy")
    print(f"{text} sent to {address}\n", end="")


@dramatiq.actor(max_retries=3, min_backoff=100, store_results=True)
def send_welcome(address: str) -> str:
    deliver("welcome", address)
    return f"{address} is welcome"


@dramatiq.actor
def remind(address: str) -> None:
    deliver("reminder", address)


@dramatiq.actor
def send_digest() -> None:
    deliver("digest", "staff@example.org")


scheduler = BackgroundScheduler(timezone="Europe/Sofia")
scheduler.add_job(send_digest.send, CronTrigger.from_crontab("0 7 * * *"), id="digest")


def main() -> None:
    worker = dramatiq.Worker(broker, worker_timeout=100)
    worker.start()
    welcome = send_welcome.send("ada@example.org")
    remind.send_with_options(args=("ada@example.org",), delay=100)
    for entry in scheduler.get_jobs():  # what the scheduler's process does at seven
        entry.func()
    result = welcome.get_result(block=True, timeout=60_000)
    broker.join("default")
    worker.join()
    worker.stop()
    print(result)


if __name__ == "__main__":
    main()
