"""An e-mail that is retried, a reminder for later and a daily digest, with Celery."""

from celery import Celery
from celery.schedules import crontab

app = Celery("shop", broker="redis://", backend="redis://")
app.conf.timezone = "Europe/Sofia"

busy = {"welcome"}  # what the mail server refuses once


def deliver(text: str, address: str) -> None:
    """Stand in for the mail server. Threads print at the same time, so each line is one piece."""
    if text in busy:
        busy.remove(text)
        print("the mail server is busy\n", end="")
        raise ConnectionError("the mail server is busy")
    print(f"{text} sent to {address}\n", end="")


@app.task(autoretry_for=(ConnectionError,), max_retries=3, default_retry_delay=0.1)
def send_welcome(address: str) -> str:
    deliver("welcome", address)
    return f"{address} is welcome"


@app.task
def remind(address: str) -> None:
    deliver("reminder", address)


@app.task
def send_digest() -> None:
    deliver("digest", "staff@example.org")


app.conf.beat_schedule = {"digest": {"task": send_digest.name, "schedule": crontab(hour=7, minute=0)}}


def main() -> None:
    app.conf.task_always_eager = True  # without a broker, as tests do: each task runs where it is sent
    welcome = send_welcome.delay("ada@example.org")
    remind.apply_async(["ada@example.org"], countdown=0.1)
    for entry in app.conf.beat_schedule.values():  # what beat does at seven
        app.tasks[entry["task"]].delay()
    print(welcome.get(timeout=60))


if __name__ == "__main__":
    main()
