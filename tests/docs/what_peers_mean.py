"""Print, as JSON, what the peers mean by numbers that are written alike, found out by running them.

For each peer: how often a task runs that always fails and may be "retried" 3 times; which of the priorities 5 and -5
runs first; which day a schedule names by 1.
"""

import asyncio
import json
import logging
import os
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

os.environ["dramatiq_queue_prefetch"] = "10"  # noqa: SIM112 - its name; so that tasks wait in the worker, in order

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import arq
    import dramatiq
    import huey
    import pycron
    from apscheduler.triggers.cron import CronTrigger
    from arq.cron import next_cron
    from celery import Celery
    from celery.schedules import crontab
    from croniter import croniter
    from dramatiq.brokers.stub import StubBroker
    from fakeredis import FakeAsyncRedis
    from pgqueuer import PgQueuer
    from pgqueuer.executors import DatabaseRetryEntrypointExecutor
    from pgqueuer.models import Job
    from pgqueuer.types import QueueExecutionMode
    from procrastinate import App, RetryStrategy
    from procrastinate.testing import InMemoryConnector
    from taskiq import InMemoryBroker, SimpleRetryMiddleware

logging.disable(logging.CRITICAL)
runs: Counter[str] = Counter()
order: dict[str, list[int]] = defaultdict(list)
MONDAY, TUESDAY = datetime(2030, 1, 7), datetime(2030, 1, 8)  # noqa: DTZ001 - some peers take no other


class AlwaysError(Exception):
    pass


def fail(peer: str) -> None:
    runs[peer] += 1
    raise AlwaysError


def run_celery() -> None:
    app = Celery()
    app.conf.update(task_always_eager=True)

    @app.task(autoretry_for=(AlwaysError,), max_retries=3, default_retry_delay=0)
    def failing() -> None:
        fail("celery")

    with suppress(AlwaysError):
        failing.delay()


def run_dramatiq() -> None:
    broker = StubBroker(fail_fast_default=False)
    dramatiq.set_broker(broker)

    @dramatiq.actor(max_retries=3, min_backoff=1, max_backoff=2)
    def failing() -> None:
        fail("dramatiq")

    @dramatiq.actor
    def keep_the_thread() -> None:
        """Let the others be fetched: they are put in order within the worker."""
        while worker.work_queue.qsize() < len([larger, smaller]):
            time.sleep(0.01)

    @dramatiq.actor(priority=5)
    def larger() -> None:
        order["dramatiq"].append(5)

    @dramatiq.actor(priority=-5)
    def smaller() -> None:
        order["dramatiq"].append(-5)

    worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=1)
    worker.start()
    for one in (keep_the_thread, larger, smaller, failing):
        one.send()
    broker.join("default", timeout=30_000)
    worker.join()
    worker.stop()


def run_huey() -> None:
    queue = huey.MemoryHuey()

    @queue.task(retries=3)
    def failing() -> None:
        fail("huey")

    @queue.task()
    def note(priority: int) -> None:
        order["huey"].append(priority)

    failing()
    for priority in (-5, 5):
        queue.enqueue(note.s(priority, priority=priority))
    while (task := queue.dequeue()) is not None:
        queue.execute(task)


async def run_arq() -> None:
    async def failing(ctx: dict[Any, Any]) -> None:
        runs["arq"] += 1
        raise arq.Retry

    async def log_nothing(*_: Any) -> None:
        pass

    redis = arq.ArqRedis(FakeAsyncRedis().connection_pool)
    await redis.enqueue_job("failing")
    with patch("arq.worker.log_redis_info", log_nothing):
        worker = arq.Worker(
            [arq.func(failing, name="failing", max_tries=3)], redis_pool=redis, burst=True, poll_delay=0.01
        )
        await worker.async_run()


async def run_taskiq() -> None:
    broker = InMemoryBroker(await_inplace=True).with_middlewares(SimpleRetryMiddleware())

    @broker.task(retry_on_error=True, max_retries=3)
    async def failing() -> None:
        fail("taskiq")

    await failing.kiq()


async def run_procrastinate() -> None:
    app = App(connector=InMemoryConnector())

    @app.task(name="failing", retry=RetryStrategy(max_attempts=3))
    async def failing() -> None:
        fail("procrastinate")

    @app.task(name="note")
    async def note(priority: int) -> None:
        order["procrastinate"].append(priority)

    async with app.open_async():
        await failing.defer_async()
        for priority in (-5, 5):
            await note.configure(priority=priority).defer_async(priority=priority)
        await app.run_worker_async(wait=False, install_signal_handlers=False)


async def run_pgqueuer() -> None:
    pgq = PgQueuer.in_memory()

    def retrying(parameters: Any) -> DatabaseRetryEntrypointExecutor:
        return DatabaseRetryEntrypointExecutor(parameters, max_attempts=3, initial_delay=timedelta(0))

    @pgq.entrypoint("failing", executor_factory=retrying)
    async def failing(_: Job) -> None:
        fail("pgqueuer")

    @pgq.entrypoint("note")
    async def note(job: Job) -> None:
        order["pgqueuer"].append(job.priority)

    await pgq.qm.queries.enqueue(["failing", "note", "note"], [None] * 3, [0, -5, 5])
    await pgq.qm.run(mode=QueueExecutionMode.drain, batch_size=1)


def days() -> dict[str, str]:
    """Return which of two days, a Monday and a Tuesday, the peers' schedules call 1."""
    names: dict[str, Callable[[datetime], bool]] = {
        "apscheduler": lambda day: CronTrigger.from_crontab("* * * * 1", timezone="UTC")
        .get_next_fire_time(None, day.replace(tzinfo=UTC))
        .strftime("%F") == day.strftime("%F"),
        "arq": lambda day: next_cron(day, weekday=1).date() == day.date(),
        "celery": lambda day: day.isoweekday() % 7 in crontab(day_of_week=1).day_of_week,
        "huey": lambda day: bool(huey.crontab(day_of_week="1")(day)),
        "pgqueuer": lambda day: croniter.match("* * * * 1", day),
        "procrastinate": lambda day: croniter.match("* * * * 1", day),
        "taskiq": lambda day: pycron.is_now("* * * * 1", day),
    }  # fmt: skip
    return {
        peer: " ".join(day.strftime("%A") for day in (MONDAY, TUESDAY) if named(day)) for peer, named in names.items()
    }


async def main() -> None:
    for one in (run_celery, run_dramatiq, run_huey):
        one()
    for other in (run_arq, run_taskiq, run_procrastinate, run_pgqueuer):
        await other()
    print(json.dumps({"runs": runs, "first": {peer: first for peer, (first, _) in order.items()}, "days": days()}))


asyncio.run(main())
