"""Serialization keys from the public face: one at a time, in order, and nobody else is held up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from aiotaskstore import (
    Cancel,
    ConfigurationError,
    DatabaseUnavailableError,
    Fail,
    Retry,
    Snooze,
    TaskContext,
    TaskHandle,
    TaskHandler,
    TaskRouter,
    TaskStatus,
    TaskStore,
)
from tests.helpers import LIMIT, ended, eventually


class Gate:
    """A handler that says that it has begun, and ends when told to."""

    def __init__(self, store: TaskStore) -> None:
        self.begun: list[str] = []
        self.running: set[str] = set()
        self.most = 0
        self.doors: dict[str, asyncio.Event] = {}
        self.raises: dict[str, BaseException] = {}
        self.task = store.task(alias="gate", max_attempts=5)(self.handle)

    async def handle(self, name: str) -> str:
        self.begun.append(name)
        self.running.add(name)
        self.most = max(self.most, len(self.running))
        try:
            await self.door(name).wait()
            if name in self.raises:
                raise self.raises.pop(name)
        finally:
            self.running.remove(name)
        return name

    def door(self, name: str) -> asyncio.Event:
        return self.doors.setdefault(name, asyncio.Event())

    def open(self, *names: str) -> None:
        for name in names:
            self.door(name).set()

    async def has_begun(self, name: str) -> None:
        await eventually(lambda: name in self.begun)

    async def enqueue(self, *names: str, **options: Any) -> list[TaskHandle[str]]:
        options = {"serialization_key": "k", **options}
        return [await self.task.options(**options).enqueue(name) for name in names]


@pytest.fixture
def gate(store: TaskStore) -> Gate:
    return Gate(store)


async def statuses(*handles: TaskHandle[Any]) -> list[str]:
    return [str(await handle.status()) for handle in handles]


@pytest.mark.acceptance("A81")
async def test_tasks_with_one_key_run_one_at_a_time_and_in_order(store: TaskStore, gate: Gate):
    first, second, third = await gate.enqueue("first", "second", "third")
    assert await statuses(first, second, third) == ["pending", "waiting", "waiting"]
    assert [task.serialization_key for task in await store.tasks.list(serialization_key="k")] == ["k"] * 3
    async with store.dispatcher():
        await gate.has_begun("first")
        assert await statuses(first, second, third) == ["running", "waiting", "waiting"]
        gate.open("first", "second", "third")
        assert [await handle.result(LIMIT) for handle in (first, second, third)] == ["first", "second", "third"]
    assert (gate.begun, gate.most) == (["first", "second", "third"], 1)


@pytest.mark.acceptance("A82")
async def test_a_waiting_task_takes_no_slot_and_holds_up_no_other_key(store: TaskStore, gate: Gate):
    handles = await gate.enqueue(*(f"k{n}" for n in range(5)))
    other = await gate.enqueue("other", serialization_key="o")
    without = [await gate.task.enqueue("without")]
    async with store.dispatcher(concurrency=3):
        for name in ("k0", "other", "without"):
            await gate.has_begun(name)
        assert gate.running == {"k0", "other", "without"}
        assert await store.tasks.count(status="waiting") == 4
        gate.open("other", "without")
        await ended(store, [handle.id for handle in (*other, *without)])
        assert gate.running == {"k0"}
        gate.open(*(f"k{n}" for n in range(5)))
        await ended(store, [handle.id for handle in handles])
    assert [name for name in gate.begun if name.startswith("k")] == [f"k{n}" for n in range(5)]


@pytest.mark.acceptance("A84")
@pytest.mark.parametrize(
    ("serialization", "order"),
    [("loose", ["first", "second", "first"]), ("strict", ["first", "first", "second"])],
)
async def test_a_loose_retry_lets_the_next_pass_and_a_strict_one_does_not(
    store: TaskStore, gate: Gate, serialization: Any, order: list[str]
):
    """However slow the machine is: the second was due before the first is due again."""
    gate.raises["first"] = Retry("once more", delay=0.1)
    first, second = await gate.enqueue("first", "second", serialization=serialization)
    gate.open("first", "second")
    async with store.dispatcher():
        await ended(store, [first.id, second.id])
    assert gate.begun == order


ENDS: dict[str, BaseException | None] = {
    "success": None,
    "error": ValueError("no"),
    "Fail": Fail("no"),
    "Cancel": Cancel("no"),
    "Retry": Retry("later", delay=3600),
    "Snooze": Snooze(3600),
}


async def test_however_a_holder_ends_the_next_runs(store: TaskStore, gate: Gate):
    """Each kind of end under a key of its own, all at once."""
    task = gate.task
    successors = []
    for name, error in ENDS.items():
        if error is not None:
            gate.raises[name] = error
        retried = 1 if name == "error" else 5
        await task.options(serialization_key=name, max_attempts=retried).enqueue(name)
        successors.append(await task.options(serialization_key=name).enqueue(f"after {name}"))
    gate.open(*ENDS, *(f"after {name}" for name in ENDS))
    async with store.dispatcher():
        await ended(store, [handle.id for handle in successors])
    assert sorted(gate.begun) == sorted([*ENDS, *(f"after {name}" for name in ENDS)])


Aside = Callable[[TaskStore, Any], Any]

ASIDE: dict[str, Aside] = {
    "cancel": lambda store, id_: store.tasks.cancel(id_),
    "delete": lambda store, id_: store.tasks.delete(id_),
    "pause": lambda store, id_: store.tasks.pause(id_),
    "reschedule": lambda store, id_: store.tasks.reschedule(id_, delay=3600),
    "soft_delete": lambda store, id_: store.tasks.soft_delete(id_),
    "mark_failed": lambda store, id_: store.tasks.mark_failed(id_, "no"),
    "mark_succeeded": lambda store, id_: store.tasks.mark_succeeded(id_),
}


@pytest.mark.parametrize("serialization", ["loose", "strict"])
async def test_a_holder_that_is_set_aside_before_it_runs_frees_its_key(
    store: TaskStore, gate: Gate, serialization: str
):
    for name, aside in ASIDE.items():
        first, second, third = await gate.enqueue(
            "first", "second", "third", serialization_key=name, serialization=serialization
        )
        await aside(store, second.id)
        assert await statuses(first, third) == ["pending", "waiting"], name
        await aside(store, first.id)
        assert await third.status() == "pending", name


async def test_what_comes_back_waits_for_its_key_again(store: TaskStore, gate: Gate):
    for name, aside, back in (
        ("pause", store.tasks.pause, store.tasks.resume),
        ("soft_delete", store.tasks.soft_delete, store.tasks.restore),
        ("cancel", store.tasks.cancel, store.tasks.retry),
    ):
        first, second = await gate.enqueue("first", "second", serialization_key=name)
        await aside(first.id)
        await back(first.id)
        assert await statuses(first, second) == ["waiting", "pending"], name
        await store.tasks.delete(second.id)
        assert await first.status() == "pending", name


async def test_a_clone_waits_for_the_key_of_its_original(store: TaskStore, gate: Gate):
    (first,) = await gate.enqueue("first")
    copy = await store.tasks.clone(first.id)
    assert copy.id != first.id
    assert (copy.status, copy.serialization_key) == ("waiting", "k")
    await store.tasks.cancel(first.id)
    assert await store.tasks.status(copy.id) == "pending"


async def test_a_running_holder_that_is_deleted_by_force_frees_its_key(store: TaskStore, gate: Gate):
    first, second = await gate.enqueue("first", "second")
    async with store.dispatcher(stuck_grace=1):
        await gate.has_begun("first")
        await store.tasks.delete(first.id, force=True)
        assert await second.status() != "waiting"
        gate.open("first", "second")
        assert await second.result(LIMIT) == "second"


async def test_a_pending_holder_in_a_paused_queue_keeps_its_key(store: TaskStore, gate: Gate):
    (first,) = await gate.enqueue("first", queue="paused")
    (second,) = await gate.enqueue("second")
    await store.queues.pause("paused")
    gate.open("first", "second")
    assert await store.dispatcher().run_once() == 0
    assert await statuses(first, second) == ["pending", "waiting"]
    await store.queues.resume("paused")
    assert await store.dispatcher().run_once() == 2
    assert gate.begun == ["first", "second"]


async def test_one_pass_runs_all_tasks_of_a_key(store: TaskStore, gate: Gate):
    names = [f"task {n}" for n in range(12)]
    await store.enqueue_many([gate.task.options(serialization_key="k").draft(name) for name in names])
    gate.open(*names)
    assert await store.dispatcher().run_once() == len(names)
    assert (gate.begun, gate.most) == (names, 1)


async def test_what_a_stop_returns_to_the_queue_keeps_its_key_and_its_place(store: TaskStore, gate: Gate):
    first, second = await gate.enqueue("first", "second")
    async with store.dispatcher(grace=0):
        await gate.has_begun("first")
    assert await statuses(first, second) == ["pending", "waiting"]
    gate.open("first", "second")
    assert await store.dispatcher().run_once() == 2
    assert gate.begun == ["first", "first", "second"]


async def test_the_definitions_function_makes_the_key_of_the_arguments_and_an_option_wins(store: TaskStore):
    @store.task(serialization_key=lambda account, amount=0: f"account {account}" if account else None)
    async def charge(account: int, amount: int = 0) -> None: ...

    async def key_of(handle: TaskHandle[Any]) -> str | None:
        return (await handle.task()).serialization_key

    assert await key_of(await charge.enqueue(7, amount=3)) == "account 7"
    assert await key_of(await charge.options(serialization_key="mine").enqueue(7)) == "mine"
    assert await key_of(await store.enqueue("charge", {"account": 8})) == "account 8"
    assert await key_of(await charge.enqueue(0)) is None
    (task_id,) = await store.enqueue_many([charge.draft(9)])
    assert (await store.tasks.require(task_id)).serialization_key == "account 9"


async def test_what_a_caller_leaves_out_is_the_handlers_default_for_the_definitions_functions_too(store: TaskStore):
    @store.task(
        serialization_key=lambda account, amount: f"{account} {amount}",
        external_id=lambda account, *, currency, **_: f"{account} {currency}",
    )
    async def charge(account: int, amount: int = 5, *, currency: str = "EUR") -> None: ...

    made = [
        await store.enqueue("charge", {"account": 1}), await charge.enqueue(account=2),
        await charge.options(serialization_key="chosen", external_id="mine").enqueue(3, currency="USD"),
    ]  # fmt: skip
    with pytest.raises(ConfigurationError, match=r'external_id of "charge" raised TypeError'):
        await charge.enqueue(4, 6)
    tasks = [await handle.task() for handle in made]
    assert [task.serialization_key for task in tasks] == ["1 5", "2 5", "chosen"]
    assert [task.external_id for task in tasks] == ["1 EUR", "2 EUR", "mine"]


async def test_a_class_handler_has_a_key_and_its_serialization_as_attributes(store: TaskStore, gate: Gate):
    class Charge(TaskHandler):
        serialization_key = staticmethod(lambda account: f"account {account}")
        serialization = "strict"

        async def handle(self, context: TaskContext, account: int) -> None:
            gate.begun.append(f"{account}, attempt {context.attempt}")
            if context.attempt == 1:
                raise Retry("once more", delay=0.1)

    store.include(Charge())
    handles = [await store.enqueue("Charge", {"account": 7}, max_attempts=2) for _ in range(2)]
    assert await statuses(*handles) == ["pending", "waiting"]
    async with store.dispatcher():
        await ended(store, [handle.id for handle in handles])
    assert gate.begun == ["7, attempt 1", "7, attempt 2"] * 2


async def test_by_alias_a_key_that_a_function_makes_elsewhere_must_be_named(url: str):
    async with TaskStore(url) as service:

        @service.task(serialization_key=lambda account: f"account {account}")
        async def charge(account: int) -> None: ...

        @service.task
        async def plain() -> None: ...

        await charge.enqueue(1)  # makes its definition known
        await plain.enqueue()
    async with TaskStore(url) as store:
        with pytest.raises(ConfigurationError, match=r'"charge" by alias needs serialization_key='):
            await store.enqueue("charge", {"account": 7})
        assert await store.tasks.count() == 2
        handle = await store.enqueue("charge", {"account": 7}, serialization_key="account 7")
        assert (await handle.task()).serialization_key == "account 7"
        await store.enqueue("plain")


async def test_in_the_callers_transaction_a_key_is_wanted_only_after_the_commit(store: TaskStore, gate: Gate):
    await gate.enqueue("first")
    async with store.transaction():
        (second,) = await gate.enqueue("second")
        assert await second.status() == "scheduled"
    with pytest.raises(ZeroDivisionError):
        async with store.transaction():
            (third,) = await gate.enqueue("third")
            raise ZeroDivisionError
    gate.open("first", "second")
    async with store.dispatcher():
        assert await second.result(LIMIT) == "second"
    assert gate.begun == ["first", "second"]
    assert await third.status() is None


async def test_a_holder_that_is_cancelled_in_the_callers_transaction_frees_its_key_after_the_commit(
    store: TaskStore, gate: Gate
):
    first, second = await gate.enqueue("first", "second")
    async with store.transaction():
        await store.tasks.cancel(first.id)
    gate.open("second")
    async with store.dispatcher(poll_interval=0.1):
        assert await second.result(LIMIT) == "second"


async def test_what_a_handlers_transaction_commits_frees_the_keys_of_its_own_task_and_of_those_it_cancels(
    store: TaskStore, gate: Gate
):
    @store.task(serialization_key=lambda cancels: "k")
    async def work(context: TaskContext, cancels: str) -> None:
        async with context.transaction():
            await store.tasks.cancel(cancels)

    (held,) = await gate.enqueue("held", serialization_key="other", queue="unserved")
    (next_of_held,) = await gate.enqueue("next of held", serialization_key="other")
    await work.enqueue(str(held.id))
    (next_of_work,) = await gate.enqueue("next of work")
    assert await statuses(held, next_of_held, next_of_work) == ["pending", "waiting", "waiting"]
    gate.open("next of held", "next of work")
    async with store.dispatcher(queues="default", poll_interval=3600):  # no sweep comes in time
        await ended(store, [next_of_held.id, next_of_work.id])
    assert await held.status() == "cancelled"


async def test_a_grant_that_nobody_made_is_made_by_the_sweep(store: TaskStore, gate: Gate, monkeypatch: Any):
    """As if the process had died between the commit and the grant."""
    granter = store._require_open().granter

    async def nothing(_keys: Any) -> None: ...

    with monkeypatch.context() as patch:
        patch.setattr(granter, "grant", nothing)
        first, second = await gate.enqueue("first", "second")
    assert await statuses(first, second) == ["waiting", "waiting"]
    gate.open("first", "second")
    async with store.dispatcher(poll_interval=0.1):
        await ended(store, [first.id, second.id])
    assert gate.begun == ["first", "second"]
    with monkeypatch.context() as patch:
        patch.setattr(granter, "grant", nothing)
        (third,) = await gate.enqueue("third")
    gate.open("third")
    assert await store.dispatcher().run_once() == 1, "a single pass sweeps, too"
    assert await third.status() == "succeeded"


async def test_the_next_of_a_key_is_pending_where_the_dispatcher_that_freed_it_cannot_run_it(
    store: TaskStore, gate: Gate
):
    await gate.enqueue("first of a", serialization_key="a")
    await gate.enqueue("first of b", serialization_key="b")
    await gate.enqueue("blocks", serialization_key="c", queue="full")
    no_slot, unserved = [
        (await gate.enqueue(f"next of {key}", serialization_key=key, queue=queue))[0]
        for key, queue in (("a", "full"), ("b", "unserved"))
    ]
    async with store.dispatcher(queues={"default": 5, "full": 1}, poll_interval=3600):  # no sweep comes in time
        for name in ("first of a", "first of b", "blocks"):
            await gate.has_begun(name)
        gate.open("first of a", "first of b", "next of a")
        for handle in (no_slot, unserved):
            await eventually(partial(_is, handle, "pending"))
        gate.open("blocks")
        assert await no_slot.result(LIMIT) == "next of a"
    assert await unserved.status() == "pending"


async def _is(handle: TaskHandle[Any], status: str) -> bool:
    return await handle.status() == status


async def test_the_next_of_a_key_is_pending_where_nothing_may_be_claimed(store: TaskStore, gate: Gate):
    first, second = await gate.enqueue("first", "second")
    async with store.dispatcher(poll_interval=3600):  # no sweep comes in time
        await gate.has_begun("first")
        await store.queues.pause("default")
        gate.open("first", "second")
        await eventually(partial(_is, second, "pending"))
        assert await first.status() == "succeeded"
        await store.queues.resume("default")
        assert await second.result(LIMIT) == "second"


async def test_a_claim_that_fails_loses_no_key(store: TaskStore, gate: Gate, monkeypatch: Any):
    tasks = store._require_open().storage.tasks
    claim_granting = tasks.claim_granting
    failed: list[Any] = []

    def fails_once(*given: Any) -> Any:
        if not failed:
            failed.append(given)
            raise DatabaseUnavailableError("gone")
        return claim_granting(*given)

    monkeypatch.setattr(tasks, "claim_granting", fails_once)
    names = [f"task {n}" for n in range(3)]
    handles = await gate.enqueue(*names)
    gate.open(*names)
    async with store.dispatcher(poll_interval=3600):
        await ended(store, [handle.id for handle in handles])
    assert failed
    assert gate.begun == names


async def test_many_keys_and_tasks_without_one_are_stored_and_run_together(store: TaskStore):
    running: set[str] = set()
    order: dict[str, list[int]] = {}

    @store.task
    async def step(key: str, number: int) -> None:
        assert key not in running
        running.add(key)
        order.setdefault(key, []).append(number)
        await asyncio.sleep(0)
        running.discard(key)

    keys = [f"key {n}" for n in range(20)]
    drafts = [step.options(serialization_key=key).draft(key, n) for n in range(10) for key in keys]
    drafts += [step.draft(f"none {n}", n) for n in range(50)]
    many = await store.enqueue_many(drafts)
    calls = [step.options(serialization_key=key).enqueue(key, 10 + n) for n in range(3) for key in keys]
    single = [handle.id for handle in await asyncio.gather(*calls)]  # noqa: TID251 - as callers do
    async with store.dispatcher(concurrency=50):
        tasks = await ended(store, [*many, *single])
    assert {task.status for task in tasks} == {TaskStatus.SUCCEEDED}
    assert all(order[key][:10] == list(range(10)) for key in keys)
    assert all(sorted(order[key]) == list(range(13)) for key in keys)


async def test_five_dispatchers_never_run_two_tasks_of_a_key_at_once(store: TaskStore):
    running: set[str] = set()

    @store.task(max_attempts=5)
    async def step(context: TaskContext, key: str, fails: bool) -> None:
        assert key not in running
        running.add(key)
        await asyncio.sleep(0.001)
        running.discard(key)
        if fails and context.attempt == 1:
            raise Retry("once more", delay=0.01)

    drafts = [
        step.options(serialization_key=f"k{n % 4}", serialization="strict" if n % 3 else "loose").draft(
            f"k{n % 4}", n % 5 == 0
        )
        for n in range(60)
    ]
    ids = await store.enqueue_many(drafts)
    async with (
        store.dispatcher(concurrency=3),
        store.dispatcher(concurrency=3),
        store.dispatcher(concurrency=3),
        store.dispatcher(concurrency=3),
        store.dispatcher(concurrency=3),
    ):
        tasks = await ended(store, ids)
    assert {task.status for task in tasks} == {TaskStatus.SUCCEEDED}


def test_bad_keys_are_refused_where_they_are_given():
    router = TaskRouter()

    async def work(number: int) -> None: ...

    for options, words in (
        ({"serialization_key": "text"}, "serialization_key must be a function of the arguments"),
        ({"serialization_key": 5}, "serialization_key must be a function of the arguments"),
        ({"serialization_key": work}, "async"),
        ({"serialization": "tight"}, "serialization must be loose or strict"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            router.task(**options)(work)
    task = router.task(work)
    for chosen, words in (
        ({"serialization_key": ""}, "serialization_key must not be empty"),
        ({"serialization_key": 5}, "serialization_key must be text"),
        ({"serialization_key": "x" * 256}, "at most 255"),
        ({"serialization": "tight"}, "serialization must be one of loose, strict"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            task.options(**chosen)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda number: 1 / 0, 'serialization_key of "work" raised ZeroDivisionError'),
        (lambda: "k", 'serialization_key of "work" raised TypeError'),
        (lambda number: number, "serialization_key must be text"),
        (lambda number: "", "serialization_key must not be empty"),
    ],
    ids=["raises", "takes no argument", "returns a number", "returns nothing"],
)
async def test_a_function_that_makes_no_key_is_refused_and_nothing_is_stored(store: TaskStore, function, words):
    @store.task(serialization_key=function)
    async def work(number: int) -> None: ...

    for call in (partial(work.enqueue, 1), partial(store.enqueue, "work", {"number": 1})):
        with pytest.raises(ConfigurationError, match=words):
            await call()
    assert await store.tasks.count() == 0
