"""Enqueuing what cannot be: refused before it is sent, whatever the database, and whoever shares its batch."""

# ruff: noqa: E501 - a table of refusals reads by its rows
from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from aiotaskstore import (
    ConfigurationError,
    DuplicateTaskError,
    InvalidQueryError,
    PayloadError,
    Retention,
    TaskHandle,
    TaskOptions,
    TaskRouter,
    TaskStatus,
    TaskStore,
    TaskStoreError,
    UnknownAliasError,
)
from tests.bad_input.refusals import Refusal, judge, refusal_of, together
from tests.helpers import LIMIT, eventually

router = TaskRouter()
RELEASE: dict[str, asyncio.Event] = {}


@router.task
async def add(a: int, b: int = 1) -> int:
    return a + b


@router.task
async def anything(value: Any) -> Any:
    return value


@router.task(queue="slow")
async def waits(key: str) -> str:
    await RELEASE[key].wait()
    return "waited"


@router.task(external_id=lambda key: key)
async def keyed(key: Any) -> None:
    pass


NAN = float("nan")
NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001 - the point
LOOP: list[Any] = []
LOOP.append(LOOP)
FAR: Any = {"value": 1}


def options(**chosen: Any) -> Any:
    return lambda _store: add.options(**chosen).enqueue(1)


PAYLOADS: list[Refusal] = [
    Refusal("a missing argument", PayloadError, r"a: Field required.*Expected \(a: 'int'", lambda _: cast("Any", add).enqueue()),
    Refusal("a wrong type", PayloadError, "a: Input should be a valid integer", lambda _: add.enqueue(cast("Any", "x"))),
    Refusal("an unknown argument", PayloadError, "z: Extra inputs", lambda _: cast("Any", add).enqueue(1, z=1)),
    Refusal("too many arguments", PayloadError, "3 positional arguments", lambda _: cast("Any", add).enqueue(1, 2, 3)),
    Refusal("a wrong type by alias", PayloadError, "a: Input should be", lambda store: store.enqueue("add", {"a": "x"})),
    Refusal("no mapping", PayloadError, r"must be arguments by name.*not \[1\]", lambda store: store.enqueue("add", cast("Any", [1]))),
    Refusal("an object", PayloadError, "cannot be written as JSON.*Use types", lambda _: anything.enqueue(object())),
    Refusal("a value within itself", PayloadError, "cannot be written as JSON", lambda _: anything.enqueue(LOOP)),
    Refusal("NaN", PayloadError, "contains NaN or infinity, which JSON cannot carry", lambda _: anything.enqueue(NAN)),
    Refusal("NaN deep within", PayloadError, "contains NaN", lambda _: anything.enqueue({"a": [None, {"b": (1, NAN)}]})),
    Refusal("infinity", PayloadError, "contains NaN or infinity", lambda _: anything.enqueue([-float("inf")])),
    Refusal("NUL", PayloadError, "contains a NUL character", lambda _: anything.enqueue("a\0b")),
    Refusal("NUL in a key", PayloadError, "contains a NUL character", lambda _: anything.enqueue({"a\0": 1})),
    Refusal("a lone surrogate", PayloadError, "cannot be written as JSON", lambda _: anything.enqueue(["\ud800"])),
    Refusal("a lone surrogate in a key", PayloadError, "cannot be written", lambda _: anything.enqueue({"\udfff": 1})),
    Refusal(
        "over a mebibyte", PayloadError, r"is 1,048,588 bytes of JSON, and the limit is 1,048,576.*reference",
        lambda _: anything.enqueue("x" * 2**20),
    ),
    Refusal("an unreadable number", PayloadError, "read back|digits", lambda _: anything.enqueue(10**5000)),
    Refusal("NaN for another service", PayloadError, "NaN", lambda store: store.enqueue("far", {"a": NAN}, unchecked=True)),
    Refusal("NUL for another service", PayloadError, "NUL", lambda store: store.enqueue("far", {"a": "\0"}, unchecked=True)),
    Refusal("a surrogate for another service", PayloadError, "JSON", lambda store: store.enqueue("far", {"a": "\ud800"}, unchecked=True)),
    Refusal("too much for another service", PayloadError, "limit", lambda store: store.enqueue("far", {"a": "x" * 2**20}, unchecked=True)),
    Refusal("an object for another service", PayloadError, "JSON", lambda store: store.enqueue("far", {"a": object()}, unchecked=True)),
]  # fmt: skip

ALIASES: list[Refusal] = [
    Refusal("an alias misspelt", UnknownAliasError, r'No task is registered as "anythin"\. Did you mean "anything"\?', lambda store: store.enqueue("anythin", FAR)),
    Refusal("an alias from nowhere", UnknownAliasError, 'registered as "zzz". Known: add, anything', lambda store: store.enqueue("zzz")),
    Refusal("an alias with NUL", ConfigurationError, "An alias must not contain a NUL", lambda store: store.enqueue("a\0", unchecked=True)),
    Refusal("an alias with a surrogate", ConfigurationError, "An alias must be valid Unicode", lambda store: store.enqueue("\ud800", unchecked=True)),
    Refusal("an alias too long", ConfigurationError, "An alias may have at most 100", lambda store: store.enqueue("x" * 101, unchecked=True)),
    Refusal("an empty alias", ConfigurationError, "An alias", lambda store: store.enqueue("", unchecked=True)),
    Refusal("an alias that is no text", ConfigurationError, "An alias must be text", lambda store: store.enqueue(cast("Any", add))),
]  # fmt: skip

OPTIONS: list[Refusal] = [
    Refusal("an unknown option", ConfigurationError, "There is no task option prio. Known: delay", options(prio=1)),
    Refusal("an unknown option by alias", ConfigurationError, "no task option prio", lambda store: cast("Any", store).enqueue("add", {"a": 1}, prio=1)),
    Refusal("delay and run_at", ConfigurationError, "delay and run_at.*one of them", options(delay=1, run_at=datetime.now().astimezone())),
    Refusal("a naive run_at", ConfigurationError, r"run_at must be a datetime with a timezone, such as datetime.now\(UTC\), not datetime.datetime\(2030", options(run_at=NAIVE)),
    Refusal("a negative delay", ConfigurationError, "delay must be zero or more, but it is -1", options(delay=-1)),
    Refusal("a NaN delay", ConfigurationError, "delay must be zero or more, but it is nan", options(delay=NAN)),
    Refusal("an infinite delay", ConfigurationError, "delay must be at most a hundred years, but it is inf", options(delay=float("inf"))),
    Refusal("a queue too long", ConfigurationError, "A queue name may have at most 100 characters", options(queue="q" * 101)),
    Refusal("a queue with NUL", ConfigurationError, "A queue name must not contain a NUL", options(queue="\0")),
    Refusal("a queue with a surrogate", ConfigurationError, "A queue name must be valid Unicode", options(queue="\ud800")),
    Refusal("an id that is no UUID", ConfigurationError, "id must be a UUID of your own.*not 'order-1'.*external_id", options(id="order-1")),
    Refusal("an id that is empty", ConfigurationError, "id must be a UUID of your own", options(id="")),
    Refusal("an id that is a number", ConfigurationError, "id must be a UUID of your own.*not 42", options(id=cast("Any", 42))),
    Refusal("an id that is nobody's", ConfigurationError, "id must be a UUID of your own", options(id=UUID(int=0))),
    Refusal("a priority too large", ConfigurationError, "priority must be a whole number", options(priority=2**31)),
    Refusal("no attempts", ConfigurationError, "max_attempts must be a whole number of at least 1, but it is 0", options(max_attempts=0)),
    Refusal("attempts without end", ConfigurationError, "max_attempts must be a whole number", options(max_attempts=2**31)),
    Refusal("no time", ConfigurationError, "timeout must be above zero", options(timeout=0)),
    Refusal("an external id too long", ConfigurationError, "external_id may have at most 255 characters", options(external_id="x" * 256)),
    Refusal("an empty external id", ConfigurationError, "external_id must not be empty; leave it out", options(external_id="")),
    Refusal("an external id with NUL", ConfigurationError, "external_id must not contain a NUL", options(external_id="\0")),
    Refusal("an external id with a surrogate", ConfigurationError, "external_id must be valid Unicode", options(external_id="\ud800")),
    Refusal("an external id made empty", ConfigurationError, "external_id must not be empty", lambda _: keyed.enqueue("")),
    Refusal("an external id made of something else", ConfigurationError, "external_id must be text, not 5", lambda _: keyed.enqueue(5)),
    Refusal("an owner with NUL", ConfigurationError, "owner id must not contain a NUL", options(owner=("user", "\0"))),
    Refusal("an owner with a surrogate", ConfigurationError, "owner type must be valid Unicode", options(owner=("\ud800", "1"))),
    Refusal("an owner that is no pair", ConfigurationError, r'owner must be \("type", "id"\)', options(owner="user")),
    Refusal("a source with NUL", ConfigurationError, "source must not contain a NUL", options(source="\0")),
    Refusal("a source with a surrogate", ConfigurationError, "source must be valid Unicode", options(source="\ud800")),
    Refusal("metadata that is no JSON", ConfigurationError, "metadata cannot be written as JSON", options(metadata={"a": object()})),
    Refusal("metadata with NaN", ConfigurationError, "metadata contains NaN", options(metadata={"a": [NAN]})),
    Refusal("metadata with NUL", ConfigurationError, "metadata contains a NUL", options(metadata={"a": "\0"})),
    Refusal("metadata with a surrogate", ConfigurationError, "metadata cannot be written as JSON", options(metadata={"a": "\ud800"})),
    Refusal("metadata too large", ConfigurationError, r"metadata is 70,008 bytes of JSON, and the limit is 65,536", options(metadata={"a": "x" * 70_000})),
    Refusal("metadata that is no mapping", ConfigurationError, "metadata must be a mapping with text keys", options(metadata=[1])),
    Refusal("a retention that is none", ConfigurationError, "retention must be a Retention, such as Retention", options(retention="failed")),
    Refusal("a retention that cannot be", ConfigurationError, "Retention keep must be", lambda _: add.options(retention=Retention(keep=cast("Any", "some"))).enqueue(1)),
    Refusal("unique while what", ConfigurationError, "unique_while must be one of kept, live, not 'ever'", options(unique_while="ever")),
    Refusal("on conflict what", ConfigurationError, "on_conflict must be one of raise, return", options(on_conflict="ignore")),
]  # fmt: skip

MANY: list[Refusal] = [
    Refusal("what is no draft", ConfigurationError, r"takes drafts, such as .*\.draft\(", lambda store: store.enqueue_many(cast("Any", [add.draft(1), {"a": 1}]))),
    Refusal("coroutines for drafts", ConfigurationError, "takes drafts", lambda store: store.enqueue_many(cast("Any", [add]))),
    Refusal("one unknown alias among good ones", UnknownAliasError, 'Did you mean "add"', lambda store: store.enqueue_many([add.draft(1), store.draft("ad", {"a": 1}), add.draft(2)])),
    Refusal("one external id twice", DuplicateTaskError, r'drafts\[0\] and drafts\[2\] have the same external id "twice" for "add".*on_conflict="return"', lambda store: store.enqueue_many([add.options(external_id="twice").draft(1), add.draft(2), add.options(external_id="twice").draft(3)])),
    Refusal("a draft in the background that is none", ConfigurationError, "takes drafts", lambda store: store.enqueue_soon(cast("Any", add))),
]  # fmt: skip

ASKING: list[Refusal] = [
    Refusal("a wait for no time", ConfigurationError, "timeout must be zero or more", lambda store: store.tasks.wait(uuid4(), -1)),
    Refusal("a wait for NaN", ConfigurationError, "timeout must be zero or more", lambda store: store.handle(uuid4()).result(NAN)),
    Refusal("a cancel of nothing", InvalidQueryError, "Say which task: an id, or where=", lambda store: cast("Any", store.tasks).cancel()),
    Refusal("a retry of nothing", InvalidQueryError, "Say which task", lambda store: cast("Any", store.tasks).retry()),
    Refusal("a delete of nothing", InvalidQueryError, "Say which task", lambda store: cast("Any", store.tasks).delete()),
    Refusal("a cancel of both", InvalidQueryError, "an id or where=, not both", lambda store: cast("Any", store.tasks).cancel(uuid4(), where={"alias": "add"})),
    Refusal("a retry of both", InvalidQueryError, "an id or where=, not both", lambda store: cast("Any", store.tasks).retry(uuid4(), where={"alias": "add"})),
    Refusal("a delete of both", InvalidQueryError, "an id or where=, not both", lambda store: cast("Any", store.tasks).delete(uuid4(), where={"alias": "add"})),
    Refusal("a notice to a queue that cannot be", ConfigurationError, "A queue name may have", lambda store: store.notify("x" * 101)),
]  # fmt: skip


@asynccontextmanager
async def a_running_task(store: TaskStore) -> AsyncIterator[None]:
    """Have a task run while the block lasts, and see that it succeeds afterwards."""
    key = uuid4().hex
    RELEASE[key] = asyncio.Event()
    handle = await waits.enqueue(key)
    async with store.dispatcher(queues=["slow"]):
        await eventually(lambda: _runs(handle))
        try:
            yield
        finally:
            RELEASE.pop(key).set()
        assert await handle.result(timeout=LIMIT) == "waited"
    await store.tasks.delete(handle.id)


async def _runs(handle: TaskHandle[str]) -> bool:
    return await handle.status() is TaskStatus.RUNNING


@pytest.fixture
async def open_store(store: TaskStore) -> AsyncIterator[TaskStore]:
    store.include(router)
    yield store
    for definition in router.handlers:
        definition._stores._stores.clear()


@pytest.mark.parametrize(
    "refusals", [PAYLOADS, ALIASES, OPTIONS, MANY, ASKING], ids=["payloads", "aliases", "options", "many", "asking"]
)
@pytest.mark.acceptance("A106")
async def test_each_is_refused_alone_and_nothing_of_it_is_stored(open_store: TaskStore, refusals: list[Refusal]):
    """Each is called in one group with good ones: those share a batch, and all of them are stored."""
    store = open_store
    wrong: list[str] = []
    async with a_running_task(store):
        for refusal in refusals:
            before = await store.tasks.count()
            refused = refusal_of(partial(refusal.call, store))
            answers = await together(add.enqueue(1), add.enqueue(2), refused, add.enqueue(3))
            stored = await store.tasks.count() - before
            try:
                judge(answers.pop(2), refusal.kind, refusal.words)
                assert all(isinstance(answer, TaskHandle) for answer in answers), f"others were disturbed: {answers}"
                assert stored == 3, f"{stored} were stored instead of 3"
            except AssertionError as failure:
                wrong.append(f"{refusal.name}: {failure}")
    assert not wrong, "\n".join(wrong)


async def test_the_good_neighbours_run(open_store: TaskStore):
    store = open_store
    async with store.dispatcher():
        for _ in range(5):
            bad = (anything.enqueue(NAN), store.enqueue("ad"), anything.enqueue("\0"))
            first, *refused, last = await together(add.enqueue(1), *bad, add.enqueue(2))
            assert all(isinstance(one, TaskStoreError) for one in refused)
            assert [await first.result(timeout=LIMIT), await last.result(timeout=LIMIT)] == [2, 3]


@pytest.mark.parametrize("batch", [1, 2, 7, 40])
async def test_a_row_that_the_database_itself_refuses_fails_its_own_caller_alone(open_store: TaskStore, batch: int):
    """What slips through every check of ours still takes nobody with it."""
    store = open_store
    bad = replace(add.draft(0), alias=None)  # type: ignore[arg-type] # no row may be without one
    calls = [store.enqueue_draft(add.draft(number), None) for number in range(batch)]
    calls[len(calls) // 2 : len(calls) // 2] = [store.enqueue_draft(bad, None)]
    first, *answers = await together(
        store.enqueue_draft(add.draft(99), None), *calls
    )  # the first flies, the others share the next
    assert isinstance(first, TaskHandle)
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert [type(error) for error in refused] == [TaskStoreError]
    assert "refused a statement" in str(refused[0])
    assert await store.tasks.count(alias="add") == await store.tasks.count() == batch + 1


@pytest.mark.parametrize("batch", [1, 2, 7])
async def test_a_row_with_an_external_id_that_the_database_refuses_fails_alone_too(open_store: TaskStore, batch: int):
    store = open_store
    draft = add.options(external_id="bad").draft(0)
    bad = replace(draft, options={**draft.options, "priority": None})  # no row may be without one
    calls = [
        store.enqueue_draft(add.options(external_id=f"good-{number}").draft(number), None) for number in range(batch)
    ]
    calls[len(calls) // 2 : len(calls) // 2] = [store.enqueue_draft(bad, None)]
    first, *answers = await together(store.enqueue_draft(add.options(external_id="first").draft(99), None), *calls)
    assert isinstance(first, TaskHandle)
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(refused) == 1, refused
    assert isinstance(refused[0], TaskStoreError)
    assert await store.tasks.count() == batch + 1
    await store.enqueue_draft(draft, None)  # the id was not taken by what was refused
    assert await store.tasks.count() == batch + 2


async def test_an_external_id_that_is_taken_names_the_task_that_has_it(open_store: TaskStore):
    existing = await add.options(external_id="order-1").enqueue(1)
    refused = await refusal_of(lambda: add.options(external_id="order-1").enqueue(2))
    judge(refused, DuplicateTaskError, f'"order-1" exists already: {existing.id}. Use on_conflict="return"')
    assert isinstance(refused, DuplicateTaskError)
    assert refused.existing_id == existing.id
    assert await open_store.tasks.count() == 1


async def test_the_background_tells_on_error_and_goes_on(url: str):
    told: list[tuple[str | None, BaseException]] = []
    async with TaskStore(url, on_error=lambda queue, _id, error: told.append((queue, error))) as store:
        store.include(router)
        try:
            store.enqueue_soon(store.draft("ad", {"a": 1}, queue="emails"))
            store.enqueue_soon(add.draft(1))
            await store.flush()
            assert [(queue, type(error)) for queue, error in told] == [("emails", UnknownAliasError)]
            assert await store.tasks.count() == 1
        finally:
            for definition in router.handlers:
                definition._stores._stores.clear()


@pytest.mark.acceptance("A135")
async def test_a_large_payload_is_stored_and_warned_about(open_store: TaskStore, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        handle = await anything.enqueue("x" * 110_000)
    assert '"anything" is 110,012 bytes of JSON; a reference to the data would serve better' in caplog.text
    assert len((await handle.task()).payload["value"]) == 110_000


async def test_the_longest_of_everything_fits(open_store: TaskStore):
    """What is allowed is allowed on every database, in characters and not in bytes."""
    store = open_store
    handle = await store.enqueue(
        "𝕒" * 100, {"𝕡": "𝕧"}, unchecked=True, queue="𝕢" * 100, external_id="𝕩" * 255, owner=("𝕠" * 100, "𝕚" * 255),
        source="𝕤" * 100, metadata={"𝕞": "𝕞" * 10_000}, priority=-(2**31), max_attempts=2**31 - 1,
        timeout=timedelta(days=36500), retention=Retention("failed", timedelta(days=36500, microseconds=-1), "failed"),
        delay=timedelta(days=36500),
    )  # fmt: skip
    task = await handle.task()
    assert (task.alias, task.queue, task.external_id) == ("𝕒" * 100, "𝕢" * 100, "𝕩" * 255)
    assert (task.owner, task.source, task.metadata) == (("𝕠" * 100, "𝕚" * 255), "𝕤" * 100, {"𝕞": "𝕞" * 10_000})
    assert (task.priority, task.max_attempts, task.timeout) == (-(2**31), 2**31 - 1, timedelta(days=36500))
    assert task.retention == Retention("failed", timedelta(days=36500, microseconds=-1), "failed")
    assert task.payload == {"𝕡": "𝕧"}
    cancelled = await store.tasks.cancel(handle.id, "𝕣" * 10_000)
    assert cancelled.cancel_reason == "𝕣" * 10_000
    assert [one.id for one in await store.tasks.list(queue="𝕢" * 100, owner=("𝕠" * 100, "𝕚" * 255))] == [handle.id]


@pytest.mark.parametrize("far", [datetime(1000, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)])
async def test_the_farthest_instants_are_stored_and_read(open_store: TaskStore, far: datetime):
    handle = await add.options(run_at=far).enqueue(1)
    assert (await handle.task()).run_at == far
    for hours in (-23, 23):
        far.astimezone(timezone(timedelta(hours=hours)))
    async with open_store.dispatcher(concurrency=2**31 - 1):
        assert await (await add.options(timeout=timedelta(days=36500)).enqueue(2)).result(timeout=LIMIT) == 3
        if far.year == 1000:
            assert await handle.result(timeout=LIMIT) == 2
    assert await open_store.tasks.count(created_from=datetime.min.replace(tzinfo=UTC)) == 2
    assert await open_store.tasks.count(created_to=datetime.max.replace(tzinfo=UTC)) == 2
    assert await open_store.tasks.count(created_from=datetime.max.replace(tzinfo=UTC)) == 0
    assert len(await open_store.tasks.list(order_by="run_at")) == 2


@pytest.mark.parametrize(
    "far",
    [
        datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), datetime(1, 1, 2, tzinfo=UTC),
        datetime(999, 12, 31, tzinfo=UTC), datetime.min.replace(tzinfo=timezone(timedelta(hours=5))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
    ],
    ids=str,
)  # fmt: skip
async def test_an_instant_that_some_database_cannot_hold_is_refused_at_once(open_store: TaskStore, far: datetime):
    calls: list[Any] = [
        lambda: add.options(run_at=far).enqueue(1), lambda: open_store.enqueue("add", {"a": 1}, run_at=far),
        lambda: open_store.enqueue_many([add.options(run_at=far).draft(1)]),
        lambda: open_store.enqueue_soon(add.options(run_at=far).draft(1)),
    ]  # fmt: skip
    for call in calls:
        judge(await refusal_of(call), ConfigurationError, "run_at must lie (between 1000-01-02 and 9999-12-30|within)")

    async def delayed(delay: Any) -> None:
        await add.options(delay=delay).enqueue(1)

    for delay in (1e300, 10**400, timedelta.max, timedelta.min, float("inf"), True, "5"):
        judge(await refusal_of(partial(delayed, delay)), ConfigurationError, "delay must")
    assert await open_store.tasks.list() == []


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("\0", "reason must not contain a NUL"),
        ("\ud800", "reason must be valid Unicode"),
        ("x" * 10_001, "reason may have at most 10000 characters"),
        (5, "reason must be text"),
    ],
)
async def test_a_reason_that_cannot_be_stored_cancels_nothing(open_store: TaskStore, reason: Any, words: str):
    handle = await add.options(delay=60).enqueue(1)
    for call in (
        lambda: handle.cancel(reason),
        lambda: open_store.tasks.cancel(handle.id, reason),
        lambda: open_store.tasks.cancel(where={"alias": "add"}, reason=reason),
    ):
        judge(await refusal_of(call), ConfigurationError, words)
    assert await handle.status() is TaskStatus.SCHEDULED


async def test_what_is_refused_is_shown_shortened(open_store: TaskStore):
    long: Any = "x" * 100_000
    calls: list[Any] = [
        *(
            partial(open_store.enqueue, "add", {"a": 1}, **{name: long})
            for name in TaskOptions.__annotations__
            if name != "source"
        ),
        *(
            partial(open_store.tasks.list, **{name: long})
            for name in ("status", "limit", "order_by", "created_from", "id")
        ),
        lambda: TaskStore("sqlite://", prefix=long),
    ]
    for call in calls:
        error = await refusal_of(call)
        assert isinstance(error, ConfigurationError | InvalidQueryError)
        assert len(str(error)) < 1_000
