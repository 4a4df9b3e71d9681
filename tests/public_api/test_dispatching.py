"""Dispatchers: what they run, how much at once, when they start and stop."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pytest

from aiotaskstore import (
    ConfigurationError,
    DispatcherStarted,
    DispatcherStopped,
    Queue,
    Retry,
    Snooze,
    TaskClaimed,
    TaskFailedError,
    TaskFinished,
    TaskRetried,
    TaskStatus,
    TaskStore,
)
from tests.helpers import LIMIT, ended, expect, lasting_heartbeats


class Meter:
    """Counts how many are inside at once, by name."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    def enter(self, name: str) -> None:
        self.now[name] += 1
        self.most[name] = max(self.most[name], self.now[name])

    def leave(self, name: str) -> None:
        self.now[name] -= 1


@pytest.mark.acceptance("A33")
async def test_every_queue_keeps_to_its_own_slots_and_fills_them(store: TaskStore):
    meter, crowded = Meter(), asyncio.Event()
    slots = {"one": 1, "three": 3, "five": 5}

    @store.task
    async def work(queue: str) -> None:
        meter.enter(queue)
        if all(meter.now[name] == most for name, most in slots.items()):
            crowded.set()
        await crowded.wait()
        await asyncio.sleep(0)
        meter.leave(queue)

    drafts = [work.options(queue=queue).draft(queue) for queue in slots for _ in range(20)]
    ids = await store.enqueue_many(drafts)
    async with store.dispatcher(queues=slots):
        await ended(store, ids)
    assert meter.most == slots


@pytest.mark.acceptance("A33")
async def test_a_queue_that_names_no_slots_has_the_dispatchers_concurrency(url: str):
    store = TaskStore(url, queues=[Queue("wide", concurrency=4)])
    meter, crowded = Meter(), asyncio.Event()
    wanted = {"default": 2, "other": 2, "wide": 4}

    @store.task
    async def work(queue: str) -> None:
        meter.enter(queue)
        if all(meter.now[name] == most for name, most in wanted.items()):
            crowded.set()
        await crowded.wait()
        meter.leave(queue)

    async with store:
        ids = await store.enqueue_many([work.options(queue=queue).draft(queue) for queue in wanted for _ in range(8)])
        async with store.dispatcher(concurrency=2):
            await ended(store, ids)
    assert meter.most == wanted


async def test_def_handlers_fill_the_slots_of_every_queue(store: TaskStore):
    barrier = threading.Barrier(6)

    @store.task
    def work() -> None:
        barrier.wait(LIMIT)

    ids = await store.enqueue_many([work.options(queue=queue).draft() for queue in "abc" for _ in range(2)])
    async with store.dispatcher(concurrency=2):
        assert {task.status for task in await ended(store, ids)} == {TaskStatus.SUCCEEDED}


@pytest.mark.acceptance("A43")
async def test_only_the_queues_named_are_served(store: TaskStore):
    @store.task
    async def work() -> None: ...

    left = await work.options(queue="other").enqueue()
    done = await work.options(queue="mine").enqueue()
    for queues in ("mine", ["mine"], {"mine": 1}, [Queue("mine", concurrency=2)]):
        assert await store.dispatcher(queues=queues).run_once() == (1 if queues == "mine" else 0)
    assert await done.status() is TaskStatus.SUCCEEDED
    assert await left.status() is TaskStatus.PENDING


async def test_a_task_in_a_queue_that_nobody_has_named_is_found(store: TaskStore, url: str):
    @store.task
    async def work() -> None: ...

    async with store.dispatcher(poll_interval=0.1), TaskStore(url) as elsewhere:
        late = await elsewhere.enqueue("work", queue="brand new ⚙")
        await store.handle(late.id).wait(timeout=LIMIT)
        own = await work.options(queue="another new one").enqueue()
        await own.wait(timeout=LIMIT)


@pytest.mark.acceptance("A44")
async def test_an_alias_without_a_handler_is_left_to_others(store: TaskStore, url: str):
    @store.task
    async def known() -> None: ...

    other = TaskStore(url)

    @other.task
    async def unknown() -> str:
        return "elsewhere"

    foreign = await store.enqueue("unknown", unchecked=True)
    mine = await known.enqueue()
    async with store.dispatcher():
        await mine.wait(timeout=LIMIT)
        assert await foreign.status() is TaskStatus.PENDING
        async with other, other.dispatcher():
            assert await foreign.result(timeout=LIMIT) == "elsewhere"


@pytest.mark.acceptance("A44")
async def test_on_missing_fail_fails_what_no_handler_is_here_for(store: TaskStore):
    @store.task
    async def known() -> None: ...

    foreign = await store.enqueue("unknown", unchecked=True)
    mine = await known.enqueue()
    async with store.dispatcher(on_missing="fail"):
        await mine.wait(timeout=LIMIT)
        task = await foreign.wait(timeout=LIMIT)
    assert (task.status, task.finish_reason) == (TaskStatus.FAILED, "missing")
    assert "unknown" in (task.error or "")


async def test_a_former_alias_still_finds_its_handler(store: TaskStore):
    @store.task(former_aliases=["old_name"])
    async def new_name(n: int) -> int:
        return n

    handle = await store.enqueue("old_name", {"n": 3}, unchecked=True)
    assert await store.dispatcher().run_once() == 1
    assert await handle.result() == 3


async def test_a_task_declared_while_a_dispatcher_runs_is_served(store: TaskStore):
    @store.task
    async def first() -> None: ...

    async with store.dispatcher():
        await (await first.enqueue()).wait(timeout=LIMIT)

        @store.task
        async def second() -> int:
            return 2

        assert await (await second.enqueue()).result(timeout=LIMIT) == 2


@pytest.mark.acceptance("A31")
async def test_run_once_runs_everything_due_and_counts_it(store: TaskStore):
    order = []

    @store.task
    async def work(n: int) -> None:
        order.append(n)

    @store.task
    async def parent() -> None:
        await work.enqueue(99)

    dispatcher = store.dispatcher(concurrency=1)
    assert await dispatcher.run_once() == 0
    await store.enqueue_many([work.options(priority=n).draft(n) for n in (3, 1, 2)])
    await work.options(delay=3600).enqueue(4)
    assert await dispatcher.run_once() == 3
    assert order == [1, 2, 3]
    await parent.enqueue()
    assert await dispatcher.run_once() == 2, "what a run enqueues is due too"
    assert not dispatcher.running


@pytest.mark.parametrize("call", ["run_once", "start"])
async def test_a_task_of_run_once_that_would_wait_for_its_own_end_is_told_so(store: TaskStore, call: str):
    @store.task
    async def waits_for_itself() -> None:
        await getattr(dispatcher, call)()

    dispatcher = store.dispatcher(grace=0.1)
    handle = await waits_for_itself.enqueue()
    async with asyncio.timeout(LIMIT):
        assert await dispatcher.run_once() == 1
    with pytest.raises(TaskFailedError, match=r"ConfigurationError.*its own end"):
        await handle.result(timeout=LIMIT)


async def test_run_once_with_a_limit_runs_no_more_than_that(store: TaskStore):
    done = []

    @store.task
    async def work(n: int) -> None:
        done.append(n)

    await store.enqueue_many([work.options(queue=f"q{n % 2}").draft(n) for n in range(4)])
    dispatcher = store.dispatcher(concurrency=9)
    for already in range(4):
        assert await dispatcher.run_once(limit=1) == 1
        assert len(done) == already + 1
    assert await dispatcher.run_once(limit=1) == 0
    await store.enqueue_many([work.draft(n) for n in range(5)])
    assert await dispatcher.run_once(limit=3) == 3
    assert await store.tasks.count(status="pending") == 2
    with pytest.raises(ConfigurationError, match="limit"):
        await dispatcher.run_once(limit=0)


async def test_run_once_runs_a_retry_that_is_due_at_once_and_leaves_one_that_is_not(store: TaskStore):
    @store.task(max_attempts=3)
    async def flaky(delay: float) -> None:
        raise Retry(delay=delay)

    @store.task
    async def sleepy() -> None:
        raise Snooze(3600)

    at_once, later, snoozed = await flaky.enqueue(0), await flaky.enqueue(3600), await sleepy.enqueue()
    assert await store.dispatcher().run_once() == 5
    assert await at_once.status() is TaskStatus.FAILED
    assert await later.status() is TaskStatus.SCHEDULED
    assert await snoozed.status() is TaskStatus.SCHEDULED


async def test_a_run_once_that_is_cancelled_leaves_no_task_claimed(store: TaskStore):
    @store.task
    async def quick() -> None:
        await asyncio.sleep(0)

    for turns in range(0, 120, 6):
        await store.enqueue_many([quick.draft() for _ in range(10)])
        run = asyncio.ensure_future(store.dispatcher(concurrency=3).run_once())  # noqa: TID251
        for _ in range(turns):
            await asyncio.sleep(0)
        run.cancel()
        await asyncio.wait([run])
        assert await store.tasks.count(status="running") == 0, f"cancelled after {turns} turns of the loop"
    assert {task.attempt for task in await store.tasks.list(status="pending")} <= {0}


async def test_run_once_is_refused_while_running(store: TaskStore):
    @store.task
    async def work() -> None: ...

    async with store.dispatcher() as dispatcher:
        with pytest.raises(ConfigurationError, match="running"):
            await dispatcher.run_once()


async def test_a_dispatcher_without_a_task_to_run_is_refused(store: TaskStore):
    for start in (store.dispatcher().start, store.dispatcher().run_once):
        with pytest.raises(ConfigurationError, match="No task is registered"):
            await start()


@pytest.mark.acceptance("A35")
async def test_a_second_start_and_a_repeated_stop_do_nothing(store: TaskStore):
    @store.task
    async def work() -> None: ...

    dispatcher = store.dispatcher()
    assert await dispatcher.stop() is True
    async with expect(store, DispatcherStarted) as started:
        await dispatcher.start()
        identity = dispatcher.id
        await dispatcher.start()
    assert (len(started), dispatcher.id, dispatcher.running) == (1, identity, True)
    async with expect(store, DispatcherStopped) as stopped:
        assert await dispatcher.stop() is True
        assert await dispatcher.stop() is True
    assert (len(stopped), dispatcher.running, dispatcher.id) == (1, False, None)


async def test_starts_and_stops_from_many_tasks_at_once_end_in_order(store: TaskStore):
    @store.task
    async def work() -> None: ...

    dispatcher = store.dispatcher()
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(dispatcher.start())
    assert dispatcher.running
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(dispatcher.stop())
    assert not dispatcher.running
    assert not lasting_heartbeats()


async def test_a_dispatcher_may_be_started_and_stopped_by_different_tasks(store: TaskStore):
    @store.task
    async def work() -> int:
        return 1

    dispatcher = store.dispatcher()
    await asyncio.ensure_future(dispatcher.__aenter__())  # noqa: TID251
    assert await (await work.enqueue()).result(timeout=LIMIT) == 1
    await asyncio.ensure_future(dispatcher.__aexit__(None, None, None))  # noqa: TID251
    assert not dispatcher.running


async def test_a_dispatcher_may_be_started_again_under_a_new_identity(store: TaskStore):
    @store.task
    async def work(n: int) -> int:
        return n

    dispatcher = store.dispatcher(name="mine")
    identities = set()
    for n in range(3):
        async with dispatcher:
            identities.add(dispatcher.id)
            assert await (await work.enqueue(n)).result(timeout=LIMIT) == n
    assert len(identities) == 3


async def test_a_start_that_is_cancelled_leaves_nothing_behind(store: TaskStore):
    @store.task
    async def work() -> None: ...

    for turns in range(0, 60, 3):
        dispatcher = store.dispatcher()
        start = asyncio.ensure_future(dispatcher.start())  # noqa: TID251
        for _ in range(turns):
            await asyncio.sleep(0)
        start.cancel()
        await asyncio.wait([start])
        if start.cancelled():
            assert not dispatcher.running
            assert not lasting_heartbeats(), f"cancelled after {turns} turns of the loop"
        else:
            await dispatcher.stop()


async def test_a_closed_store_has_no_dispatcher_to_start(url: str):
    store = TaskStore(url)

    @store.task
    async def work() -> None: ...

    with pytest.raises(ConfigurationError, match="closed"):
        await store.dispatcher().start()


async def test_two_dispatchers_share_the_work_and_run_each_task_once(store: TaskStore, url: str):
    ran: Counter[int] = Counter()
    where: set[object] = set()
    shared = asyncio.Event()
    other = TaskStore(url)

    async def work(n: int) -> None:
        ran[n] += 1
        if len(where) == 2:
            shared.set()
        await shared.wait()

    task = store.task(work)
    other.task(work)
    store.on(TaskClaimed, lambda event: where.add(event.dispatcher_id))
    other.on(TaskClaimed, lambda event: where.add(event.dispatcher_id))
    ids = await store.enqueue_many([store.draft(task.alias, {"n": n}) for n in range(200)])
    async with other, store.dispatcher(concurrency=5), other.dispatcher(concurrency=5):
        await ended(store, ids)
    assert ran == Counter(range(200))
    assert len(where) == 2


async def test_smaller_priorities_run_first(store: TaskStore):
    order = []

    @store.task
    async def work(n: int) -> None:
        order.append(n)

    for n in (5, -5, 0, 2**31 - 1, -(2**31)):
        await work.options(priority=n).enqueue(n)
    await store.dispatcher(concurrency=1).run_once()
    assert order == sorted(order)


@pytest.mark.acceptance("A29")
async def test_a_delayed_task_runs_when_it_is_due_without_anybody_asking(store: TaskStore):
    @store.task
    async def work() -> None: ...

    async with store.dispatcher(poll_interval=50):
        handle = await work.options(delay=0.3).enqueue()
        task = await handle.wait(timeout=LIMIT)
    assert task.run_at > task.created_at
    assert task.started_at is not None
    assert task.started_at >= task.run_at


@pytest.mark.acceptance("A41")
async def test_an_idle_dispatcher_is_woken_by_an_enqueue_of_its_own_process(store: TaskStore):
    @store.task
    async def work() -> None: ...

    async with store.dispatcher(poll_interval=50):
        for _ in range(3):
            await (await work.enqueue()).wait(timeout=LIMIT)


@pytest.mark.acceptance("A41")
async def test_an_idle_dispatcher_is_woken_by_another_store(store: TaskStore, url: str):
    if url.startswith("mysql"):
        return  # nothing travels between processes there but the poll

    @store.task
    async def work() -> None: ...

    async with store.dispatcher(poll_interval=50), TaskStore(url) as elsewhere:
        for _ in range(3):
            handle = await elsewhere.enqueue("work")
            await store.handle(handle.id).wait(timeout=LIMIT)


@pytest.mark.acceptance("A134")
async def test_a_memory_store_runs_its_tasks(sqlite_url: str):
    async with TaskStore("sqlite://") as store:

        @store.task
        async def work(n: int) -> int:
            return n + 1

        async with store.dispatcher():
            handles = [await work.enqueue(n) for n in range(20)]
            assert [await handle.result(timeout=LIMIT) for handle in handles] == list(range(1, 21))


async def test_events_of_a_run_come_in_order(store: TaskStore):
    @store.task(max_attempts=2, backoff=0)
    async def flaky() -> None:
        raise ValueError("again")

    received = []
    for kind in (TaskClaimed, TaskRetried, TaskFinished):
        store.on(kind, lambda event: received.append((type(event).__name__, event.attempt)))
    await flaky.enqueue()
    await store.dispatcher().run_once()
    by_attempt = sorted(received, key=lambda one: one[1])  # an answer may come after the next attempt is claimed
    assert by_attempt == [("TaskClaimed", 1), ("TaskRetried", 1), ("TaskClaimed", 2), ("TaskFinished", 2)]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 1.5}, "concurrency"),
        ({"concurrency": True}, "concurrency"),
        ({"queues": {}}, "queues"),
        ({"queues": {"a": 0}}, "slots"),
        ({"queues": 7}, "queues"),
        ({"queues": ["x" * 101]}, "queue name"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"heartbeat": -1}, "heartbeat"),
        ({"heartbeat": 5, "lease": 6}, "lease"),
        ({"grace": -1}, "grace"),
        ({"stuck_grace": "long"}, "stuck_grace"),
        ({"on_missing": "ignore"}, "on_missing"),
        ({"healer": 0}, "healer"),
        ({"cleaner": -1}, "cleaner"),
        ({"name": "a\0b"}, "name"),
    ],
)
def test_a_dispatchers_option_that_cannot_work_is_refused_at_once(options, word: str):
    with pytest.raises(ConfigurationError, match=word):
        TaskStore("sqlite://").dispatcher(**options)
