"""One flush in flight; what arrives meanwhile goes together in the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from math import inf

import pytest

from aiotaskstore.errors import TaskStoreError
from aiotaskstore.mechanics.batching import Batcher
from tests.helpers import LIMIT


class Sink:
    """A flush that a test lets through, one at a time."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.gate = asyncio.Event()
        self.answers: dict[int, BaseException] = {}
        self.error: BaseException | None = None

    async def flush(self, items: list[int]) -> list[int | BaseException]:
        self.batches.append(list(items))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self.gate.wait()
        finally:
            self.in_flight -= 1
        if self.error is not None:
            raise self.error
        return [self.answers.get(item, item * 10) for item in items]

    async def sent(self, count: int) -> None:
        while len(self.batches) < count:  # noqa: ASYNC110 - turns of the loop are what is counted
            await asyncio.sleep(0)


@asynccontextmanager
async def batching(most: int = 100, wait_limit: float = inf) -> AsyncIterator[tuple[Sink, Batcher[int, int]]]:
    sink = Sink()
    batcher: Batcher[int, int] = Batcher(sink.flush, most=most, wait_limit=wait_limit)
    running = asyncio.get_running_loop().create_task(batcher.run())
    try:
        yield sink, batcher
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def start(batcher: Batcher[int, int], *items: int) -> list[asyncio.Task[int]]:
    return [asyncio.get_running_loop().create_task(batcher.submit(item)) for item in items]


async def resolved(*tasks: asyncio.Task[int]) -> list[int | BaseException | str]:
    await asyncio.wait(tasks)
    return ["cancelled" if task.cancelled() else task.exception() or task.result() for task in tasks]


async def test_a_lone_item_goes_at_once_and_is_answered():
    async with batching() as (sink, batcher):
        sink.gate.set()
        assert await batcher.submit(1) == 10
        assert sink.batches == [[1]]
        assert batcher.backlog == 0


async def test_what_arrives_while_one_flies_goes_together_in_the_next():
    async with batching() as (sink, batcher):
        first = start(batcher, 1)
        await sink.sent(1)
        later = start(batcher, 2, 3, 4)
        await asyncio.sleep(0.01)
        assert sink.batches == [[1]]
        assert (batcher.backlog, batcher.unanswered) == (4, [1, 2, 3, 4])
        sink.gate.set()
        assert await resolved(*first, *later) == [10, 20, 30, 40]
        assert sink.batches == [[1], [2, 3, 4]]
        assert sink.most_in_flight == 1


async def test_items_that_arrive_in_one_turn_of_the_loop_share_a_flush():
    async with batching() as (sink, batcher):
        sink.gate.set()
        assert await resolved(*start(batcher, *range(50))) == [number * 10 for number in range(50)]
        assert len(sink.batches) == 1


async def test_no_batch_is_larger_than_the_most():
    async with batching(most=3) as (sink, batcher):
        sink.gate.set()
        await resolved(*start(batcher, *range(8)))
        assert sink.batches == [[0, 1, 2], [3, 4, 5], [6, 7]]


async def test_no_batch_is_heavier_than_the_heaviest_unless_one_item_alone_is():
    sink = Sink()
    sink.gate.set()
    batcher: Batcher[int, int] = Batcher(sink.flush, most=100, heaviest=10, weigh=lambda item: item)
    for item in (4, 6, 1, 25, 3, 3, 3, 3):
        batcher.put(item)
    while batcher.backlog:
        await batcher.flush_once()
    assert sink.batches == [[4, 6], [1], [25], [3, 3, 3], [3]]


async def test_a_waiter_cancelled_before_its_batch_is_sent_leaves_it():
    async with batching() as (sink, batcher):
        first = start(batcher, 1)
        await sink.sent(1)
        second, third = start(batcher, 2, 3)
        await asyncio.sleep(0)
        second.cancel()
        sink.gate.set()
        assert await resolved(*first, second, third) == [10, "cancelled", 30]
        assert sink.batches == [[1], [3]]


async def test_a_batch_that_everybody_left_is_not_sent():
    async with batching() as (sink, batcher):
        first = start(batcher, 1)
        await sink.sent(1)
        others = start(batcher, 2, 3)
        await asyncio.sleep(0)
        for one in others:
            one.cancel()
        sink.gate.set()
        await resolved(*first, *others)
        await batcher.drain()
        assert sink.batches == [[1]]
        assert await batcher.submit(4) == 40
        assert sink.batches == [[1], [4]]


async def test_a_waiter_cancelled_after_its_batch_was_sent_is_written_all_the_same():
    async with batching() as (sink, batcher):
        first, second = start(batcher, 1, 2)
        await sink.sent(1)
        first.cancel()
        await asyncio.sleep(0)
        assert first.cancelled()
        sink.gate.set()
        assert await second == 20
        assert sink.batches == [[1, 2]]


async def test_each_is_answered_with_its_own_exception():
    async with batching() as (sink, batcher):
        sink.gate.set()
        broken = ValueError("two is bad")
        sink.answers[2] = broken
        assert await resolved(*start(batcher, 1, 2, 3)) == [10, broken, 30]


async def test_a_flush_that_raises_answers_everybody_and_the_next_one_goes_on():
    async with batching() as (sink, batcher):
        sink.gate.set()
        sink.error = OSError("gone")
        assert await resolved(*start(batcher, 1, 2)) == [sink.error, sink.error]
        sink.error = None
        assert await batcher.submit(3) == 30


async def test_items_nobody_waits_for_are_flushed_too():
    async with batching() as (sink, batcher):
        sink.gate.set()
        batcher.put(1)
        batcher.put(2)
        sink.answers[2] = ValueError("nobody hears this")
        await batcher.drain()
        assert sink.batches == [[1, 2]]
        assert batcher.backlog == 0


async def test_drain_waits_for_what_was_added_and_not_longer():
    async with batching(most=2) as (sink, batcher):
        await batcher.drain()
        for item in range(5):
            batcher.put(item)
        draining = asyncio.get_running_loop().create_task(batcher.drain())
        await sink.sent(1)
        assert not draining.done()
        sink.gate.set()
        await draining
        assert sink.batches == [[0, 1], [2, 3], [4]]


async def test_whoever_waits_when_the_loop_ends_is_not_left_waiting():
    async with batching() as (sink, batcher):
        in_flight, waiting = *start(batcher, 1), None
        await sink.sent(1)
        (waiting,) = start(batcher, 2)
        await asyncio.sleep(0)
    async with asyncio.timeout(LIMIT):
        answers = await resolved(in_flight, waiting)
    assert [type(answer) for answer in answers] == [TaskStoreError] * 2


async def test_nobody_waits_longer_than_the_patience_and_what_was_not_sent_never_is():
    async with batching(wait_limit=0.05) as (sink, batcher):
        first = start(batcher, 1)
        await sink.sent(1)
        later = start(batcher, 2)
        answers = await resolved(*first, *later)
        assert [type(answer) for answer in answers] == [TimeoutError, TimeoutError]
        sink.gate.set()
        batcher._wait_limit = LIMIT
        assert await resolved(*start(batcher, 3)) == [30]
        assert sink.batches == [[1], [3]]


async def test_each_waits_for_its_own_patience():
    async with batching(wait_limit=0.2) as (sink, batcher):
        first = start(batcher, 1)
        await sink.sent(1)
        batcher._wait_limit = LIMIT
        later = start(batcher, 2)
        assert isinstance((await resolved(*first))[0], TimeoutError)
        sink.gate.set()
        assert await resolved(*later) == [20]


async def test_a_thousand_callers_take_few_flushes_and_get_their_own_answers():
    async with batching(most=1_000) as (sink, batcher):
        sink.gate.set()

        async def caller(number: int) -> None:
            for step in range(5):
                await asyncio.sleep(0)
                assert await batcher.submit(number * 10 + step) == (number * 10 + step) * 10

        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(caller(number))
        assert sum(map(len, sink.batches)) == 1_000
        assert len(sink.batches) < 50
        assert sink.most_in_flight == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_a_flush_that_was_told_to_exit_leaves_nobody_waiting(kind):
    sink = Sink()
    sink.gate.set()
    batcher: Batcher[int, int] = Batcher(sink.flush, most=10)
    (waiting,) = start(batcher, 1)
    await asyncio.sleep(0)
    sink.error = kind()
    with pytest.raises(kind):
        await batcher.flush_once()
    async with asyncio.timeout(LIMIT):
        await asyncio.wait([waiting])


async def test_what_nobody_waits_for_is_flushed_once_more_by_whoever_runs_it_next():
    sink = Sink()
    batcher: Batcher[int, int] = Batcher(sink.flush, most=10)
    for item in (1, 2):
        batcher.put(item)
    running = asyncio.get_running_loop().create_task(batcher.run())
    await sink.sent(1)
    batcher.put(3)
    running.cancel()
    await asyncio.wait([running])
    assert batcher.unanswered == [1, 2, 3]
    sink.gate.set()
    running = asyncio.get_running_loop().create_task(batcher.run())
    await batcher.drain()
    batcher.close()
    await running
    assert sink.batches == [[1, 2], [1, 2, 3]]
    assert batcher.backlog == 0
