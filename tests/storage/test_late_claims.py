"""A claim whose reply took long is compared with the restrictions of its own time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import pytest

from aiotaskstore.dispatch.claim_sender import ClaimSender
from aiotaskstore.dispatch.freed_keys import FreedKeys
from aiotaskstore.dispatch.restriction_reader import RestrictionReader
from aiotaskstore.errors import DatabaseUnavailableError
from aiotaskstore.hooks import Hooks
from aiotaskstore.mechanics.hint import RESTRICTIONS_CHANGED
from aiotaskstore.outcome import RELEASED
from aiotaskstore.registry import Registry
from aiotaskstore.storage.operation import Steps
from aiotaskstore.storage.restrictions import Restrictions
from aiotaskstore.task import Claim, TaskStatus
from tests.storage.harness import Harness


class Sender:
    """A claim sender whose claims take as long as the test says, while something happens."""

    def __init__(self, harness: Harness, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.harness, self.now, self.released = harness, 0.0, list[UUID]()
        reader = RestrictionReader(harness.storage, Hooks(), wake=lambda _hint: None, clock=self.clock)
        self.reader = reader
        no_keys: Any = None
        self.sender = ClaimSender(
            harness.dispatcher, harness.storage, Registry(), restrictions=reader, release=self.release,
            freed_keys=FreedKeys(no_keys, receive=lambda _hint: None, stopping=lambda: False), clock=self.clock,
        )  # fmt: skip
        self.sender._missing = {"work", "other"}
        self.meanwhile: Callable[[], Steps[Any]] | None = None
        write = harness.database.write

        async def slow(operation: Callable[[], Steps[Any]], **options: Any) -> Any:
            if (meanwhile := self.meanwhile) is not None:
                self.meanwhile, self.now = None, self.now + seconds
                await write(meanwhile)
            return await write(operation, **options)

        monkeypatch.setattr(harness.database, "write", slow)

    def clock(self) -> float:
        return self.now

    async def release(self, claims: Sequence[Claim]) -> None:
        self.released += [claim.id for claim in claims]
        await self.harness.database.write(lambda: self.harness.tasks.record([(claim, RELEASED) for claim in claims]))

    async def claim(self) -> list[UUID]:
        await self.sender.paused_queues()
        return [claim.id for claim in await self.sender.claim([("a", 9), ("b", 9)])]


async def test_a_queue_that_was_paused_during_a_long_claim_begins_no_run(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
):
    paused, other = [await harness.add(queue=queue) for queue in ("a", "b")]
    sender = Sender(harness, monkeypatch, 4)
    await sender.reader.latest()
    sender.meanwhile = lambda: harness.storage.queues.pause("a", "stop")
    assert await sender.claim() == [other]
    assert sender.released == [paused]
    task = await harness.get(paused)
    assert (task.status, task.attempt) == (TaskStatus.PENDING, 0)
    assert sender.sender.replied.is_set()


@pytest.mark.parametrize("known", ["by a hint", "by a read"])
async def test_a_pause_that_is_known_before_the_reply_counts_however_short_the_claim_was(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, known: str
):
    paused, other = [await harness.add(queue=queue) for queue in ("a", "b")]
    sender = Sender(harness, monkeypatch, 0)
    await sender.reader.latest()

    def pause() -> Steps[Any]:
        yield from harness.storage.queues.pause("a", "stop")
        if known == "by a hint":
            sender.reader.receive(RESTRICTIONS_CHANGED)
        else:
            sender.reader.current = Restrictions(paused_queues=frozenset({"a"}))

    sender.meanwhile = pause
    assert await sender.claim() == [other]
    assert sender.released == [paused]


async def test_a_definition_that_was_cancelled_during_a_long_claim_begins_no_run(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
):
    cancelled, other = [await harness.add(queue="a", alias=alias) for alias in ("work", "other")]
    sender = Sender(harness, monkeypatch, 4)
    await sender.reader.latest()
    sender.meanwhile = lambda: harness.storage.queues.pause("unused", "")
    read = harness.database.read

    async def reading(operation: Any, **options: Any) -> Any:
        found = await read(operation, **options)
        return found._replace(cancelled_aliases=frozenset({"work"}))

    monkeypatch.setattr(harness.database, "read", reading)
    assert [claim.id for claim in await sender.sender.claim([("a", 9)])] == [other]
    assert sender.released == [cancelled]


async def test_what_a_long_claim_took_is_released_if_the_restrictions_cannot_be_read(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
):
    task_id = await harness.add(queue="a")
    sender = Sender(harness, monkeypatch, 4)
    await sender.reader.latest()
    sender.meanwhile = lambda: harness.storage.queues.pause("unused", "")

    async def away(*_: Any, **__: Any) -> Any:
        raise DatabaseUnavailableError("away")

    with monkeypatch.context() as patch:
        patch.setattr(harness.database, "read", away)
        with pytest.raises(DatabaseUnavailableError):
            await sender.sender.claim([("a", 9)])
    assert sender.released == [task_id]
    assert sender.sender.replied.is_set()


async def test_restrictions_that_are_older_than_promised_are_read_before_a_claim(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
):
    sender = Sender(harness, monkeypatch, 0)
    await sender.reader.latest()
    await harness.database.write(lambda: harness.storage.queues.pause("a", "stop"))
    assert await sender.sender.paused_queues() == set()
    sender.now += 1.5
    assert await sender.sender.paused_queues() == {"a"}
