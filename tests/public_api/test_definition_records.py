"""`store.definitions`: the records of definitions, and the kill switch."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest

from aiotaskstore import (
    BackgroundFailed,
    ConfigurationError,
    DatabaseUnavailableError,
    Definition,
    DefinitionInactiveError,
    DefinitionNotFoundError,
    DefinitionStatus,
    DuplicateAliasError,
    DuplicateHandlerError,
    InvalidQueryError,
    TaskFinished,
    TaskStore,
    UnknownAliasError,
)
from aiotaskstore.manage import known_definitions
from aiotaskstore.mechanics.ids import new_id
from tests.helpers import answers_lost, eventually, expect


async def _work(n: int = 0) -> None: ...


# ── the record ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.acceptance("A03")
async def test_a_new_definition_is_active_and_says_nothing(store: TaskStore):
    unstored = Definition(alias="report")
    created = await store.definitions.create("report")
    for one in (unstored, created):
        assert isinstance(one.id, UUID)
        assert (one.alias, one.title, one.description, one.memo) == ("report", "", "", "")
        assert (one.status, one.active, one.cancelled, one.deleted) == ("active", True, False, False)
        assert one.created_at == one.updated_at
        assert one.created_at.utcoffset() == timedelta(0)
        assert one.deleted_at is None


@pytest.mark.acceptance("A04")
async def test_a_definition_is_found_by_its_id_and_by_its_alias(store: TaskStore):
    created = await store.definitions.create("report", title="Report", description="Writes it", memo="ask Ann")
    assert await store.definitions.get(created.id) == created
    assert await store.definitions.get(str(created.id)) == created
    assert await store.definitions.get_by_alias("report") == created
    assert await store.definitions.require("report") == await store.definitions.require(created.id) == created
    assert (created.title, created.description, created.memo) == ("Report", "Writes it", "ask Ann")
    for absent in (uuid4(), "no uuid"):
        assert await store.definitions.get(absent) is None
    for absent in ("Report", "report ", "reports"):
        assert await store.definitions.get_by_alias(absent) is None
    for unknown in (uuid4(), "reports"):
        with pytest.raises(DefinitionNotFoundError, match="No definition"):
            await store.definitions.require(unknown)


async def test_a_definition_is_stored_as_its_value_says(store: TaskStore):
    given = Definition(alias="report", title="Report", memo="later", status=DefinitionStatus.CANCELLED)
    created = await store.definitions.create(given)
    assert created.id == given.id
    assert (created.title, created.memo, created.status) == ("Report", "later", "cancelled")
    assert created.created_at == created.updated_at
    with pytest.raises(DuplicateAliasError):
        await store.definitions.create(Definition(id=given.id, alias="other"))


@pytest.mark.acceptance("A05")
async def test_an_alias_is_unique_among_what_is_not_deleted(store: TaskStore):
    first = await store.definitions.create("report")
    with pytest.raises(DuplicateAliasError, match=f'"report" is stored already: {first.id}') as refused:
        await store.definitions.create("report")
    assert refused.value.existing_id == first.id
    assert isinstance(refused.value, DuplicateHandlerError)
    await store.definitions.soft_delete(first.id)
    second = await store.definitions.create("report")
    assert second.id != first.id
    with pytest.raises(DuplicateAliasError):
        await store.definitions.restore(first.id)
    assert await store.definitions.get(first.id) is None
    assert await store.definitions.delete(second.id)
    assert await store.definitions.restore(first.id) == await store.definitions.get_by_alias("report")


async def test_of_many_who_create_one_alias_at_once_one_does(store: TaskStore):
    async def create() -> bool:
        try:
            await store.definitions.create("report")
        except DuplicateAliasError:
            return False
        return True

    async with asyncio.TaskGroup() as group:
        created = [group.create_task(create()) for _ in range(5)]
    assert sum(one.result() for one in created) == 1
    assert await store.definitions.count(alias="report") == 1


async def test_of_many_who_restore_one_alias_at_once_one_does(store: TaskStore):
    deleted = []
    for _ in range(4):
        deleted.append(await store.definitions.create("report"))
        await store.definitions.soft_delete("report")

    async def restore(one: Definition) -> bool:
        try:
            await store.definitions.restore(one.id)
        except DuplicateAliasError:
            return False
        return True

    async with asyncio.TaskGroup() as group:
        restored = [group.create_task(restore(one)) for one in deleted]
    assert sum(one.result() for one in restored) == 1
    assert await store.definitions.count(alias="report") == 1


@pytest.mark.acceptance("A06")
async def test_an_update_writes_only_what_it_names(store: TaskStore):
    created = await store.definitions.create("report", title="Report", memo="old")
    async with asyncio.TaskGroup() as group:
        group.create_task(store.definitions.update(created.id, title="Weekly report"))
        group.create_task(store.definitions.update("report", memo="new"))
    updated = await store.definitions.require(created.id)
    assert (updated.id, updated.title, updated.memo) == (created.id, "Weekly report", "new")
    assert (updated.description, updated.status, updated.created_at) == ("", "active", created.created_at)
    assert await store.definitions.update("report", memo="") == await store.definitions.get_by_alias("report")

    async def bumped() -> bool:  # some databases count in milliseconds
        return (await store.definitions.update("report", memo="x")).updated_at > created.updated_at

    await eventually(bumped)


@pytest.mark.acceptance("A07")
async def test_a_soft_deleted_definition_is_hidden_until_it_is_restored(store: TaskStore):
    created = await store.definitions.create("report", memo="kept")
    deleted = await store.definitions.soft_delete(created.id)
    assert deleted.deleted
    assert deleted.deleted_at is not None
    assert await store.definitions.get(created.id) is None
    assert await store.definitions.get_by_alias("report") is None
    assert await store.definitions.list() == []
    assert await store.definitions.count() == 0
    assert await store.definitions.list(include_deleted=True) == [deleted]
    assert await store.definitions.count(include_deleted=True) == 1
    for call in (
        store.definitions.soft_delete(created.id), store.definitions.update(created.id, memo="x"),
        store.definitions.cancel(created.id), store.definitions.activate("report"), store.definitions.restore("other"),
    ):  # fmt: skip
        with pytest.raises(DefinitionNotFoundError):
            await call
    restored = await store.definitions.restore("report")
    assert (restored.id, restored.memo, restored.deleted_at) == (created.id, "kept", None)
    assert await store.definitions.restore(created.id) == await store.definitions.restore("report") == restored
    assert not Definition(alias="later", deleted_at=datetime.now(UTC) + timedelta(days=1)).deleted


async def test_restoring_an_alias_takes_what_was_deleted_last(store: TaskStore):
    for memo in ("first", "second"):
        await store.definitions.create("report", memo=memo)
        await store.definitions.soft_delete("report")
    assert (await store.definitions.restore("report")).memo == "second"
    await store.definitions.soft_delete("report")
    assert await store.definitions.delete("report")
    assert [one.memo for one in await store.definitions.list(include_deleted=True)] == ["first"]
    assert await store.definitions.delete("report")
    assert not await store.definitions.delete("report")


@pytest.mark.acceptance("A08")
async def test_a_deleted_definition_is_gone(store: TaskStore):
    for by_alias in (False, True):
        created = await store.definitions.create("report")
        assert await store.definitions.delete("report" if by_alias else created.id)
        assert await store.definitions.count(include_deleted=True) == 0
        assert not await store.definitions.delete(created.id)
    assert not await store.definitions.delete("report")
    with pytest.raises(InvalidQueryError):
        await store.definitions.delete("")
    hidden = await store.definitions.create("report")
    await store.definitions.soft_delete(hidden.id)
    assert await store.definitions.delete(hidden.id)
    assert await store.definitions.count(include_deleted=True) == 0


async def test_a_definition_is_written_whole(store: TaskStore):
    created = await store.definitions.create("report", title="Old")
    changed = await store.definitions.update(replace(created, title="New", memo="kept"))
    assert (changed.id, changed.title, changed.memo) == (created.id, "New", "kept")
    assert changed == await store.definitions.get(created.id)
    with pytest.raises(ConfigurationError, match="not both"):
        await store.definitions.update(changed, memo="x")


async def test_definitions_are_filtered_ordered_and_paged(store: TaskStore):
    a, b, c = [await store.definitions.create(alias, title=title) for alias, title in zip("abc", "zyx", strict=True)]
    b = await store.definitions.cancel(b.id)
    early = [one for one in (c, b, a) if one.created_at <= b.created_at]  # some databases count in milliseconds
    everything: dict[str, tuple[dict[str, Any], list[Definition]]] = {
        "newest first": ({}, [c, b, a]),
        "alias": ({"alias": "b"}, [b]),
        "aliases": ({"alias": ["a", "c", "x"]}, [c, a]),
        "status": ({"status": "cancelled"}, [b]),
        "statuses": ({"status": [DefinitionStatus.ACTIVE, "cancelled"]}, [c, b, a]),
        "id": ({"id": str(a.id)}, [a]),
        "ids": ({"id_in": [a.id, c.id, new_id()]}, [c, a]),
        "from": ({"created_from": b.created_at}, [one for one in (c, b, a) if one.created_at >= b.created_at]),
        "to": ({"created_to": b.created_at}, early),
        "elsewhere": ({"created_to": b.created_at.astimezone(timezone(timedelta(hours=5)))}, early),
        "updated": ({"updated_before": b.updated_at}, [one for one in (c, b, a) if one.updated_at <= b.updated_at]),
        "order": ({"order_by": "title"}, [a, b, c]),
        "ascending": ({"order_by": "alias", "descending": False}, [a, b, c]),
        "page": ({"limit": 1, "offset": 1}, [b]),
        "rest": ({"offset": 2}, [a]),
        "no limit": ({"limit": None}, [c, b, a]),
        "nothing": ({"alias": "a", "status": "cancelled"}, []),
    }
    for what, (filters, expected) in everything.items():
        assert await store.definitions.list(**filters) == expected, what
        if what not in {"page", "rest"}:
            assert await store.definitions.count(**filters) == len(expected), what
    assert await store.definitions.count(limit=1, offset=1) == 3, "order and page do not matter"


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"alias": ""}, "alias must be a text that is not empty"),
        ({"alias": []}, "alias is an empty list"),
        ({"alias": 5}, "alias takes one or a list"),
        ({"status": "canceled"}, "There is no status 'canceled'; take one of active, cancelled"),
        ({"status": None}, "status is None, which is no filter"),
        ({"id": ""}, "id: "),
        ({"id_in": []}, "id_in is an empty list"),
        ({"created_from": datetime(2030, 1, 1)}, "timezone"),  # noqa: DTZ001 - a naive one is what is refused
        ({"limit": -1}, "limit must be a whole number"),
        ({"offset": True}, "offset must be a whole number"),
        ({"order_by": "defaults"}, 'Definitions cannot be ordered by "defaults"; take one of alias, created_at'),
        ({"descending": 1}, "descending must be True or False"),
        ({"include_deleted": "yes"}, "include_deleted must be True or False"),
        ({"queue": "a"}, "There is no filter queue. Known: alias, created_from"),
    ],
)
async def test_a_filter_that_cannot_be_meant_is_refused(sqlite_url: str, filters: dict[str, Any], words: str):
    store = TaskStore(sqlite_url)  # closed: refused before any SQL
    for call in (store.definitions.list, store.definitions.count):
        with pytest.raises(InvalidQueryError, match=words):
            await call(**filters)


async def test_what_cannot_be_written_is_refused_and_nothing_is_stored(sqlite_url: str):
    async with TaskStore(sqlite_url) as store:
        definitions: Any = store.definitions
        for alias in ("", "list", "L-I-S-T", "x" * 101, "a\0b", 5, None):
            with pytest.raises(ConfigurationError):
                await definitions.create(alias)
        for texts in ({"title": "x" * 101}, {"memo": None}, {"description": 5}, {"memo": "\0"}):
            with pytest.raises(ConfigurationError):
                await definitions.create("report", **texts)
        with pytest.raises(ConfigurationError, match=r"colour cannot be written. Known: title"):
            await definitions.create("report", colour="red")
        bads: list[dict[str, Any]] = [{"status": "canceled"}, {"id": "5"}]
        for bad in bads:
            with pytest.raises(ConfigurationError):
                await definitions.create(Definition(alias="report", **bad))
        with pytest.raises(ConfigurationError, match="not both"):
            await definitions.create(Definition(alias="report"), title="Report")
        assert await definitions.count(include_deleted=True) == 0
        await definitions.create("report")
        for changes, words in (
            ({}, "changes what is named"), ({"title": None}, "title must be text"), ({"colour": "red"}, "Known: title"),
            ({"alias": "other"}, "former_aliases"), ({"status": "cancelled"}, "status cannot be written"),
        ):  # fmt: skip
            with pytest.raises(ConfigurationError, match=words):
                await definitions.update("report", **changes)
        for call in (
            definitions.get, definitions.get_by_alias, definitions.require, definitions.cancel, definitions.activate,
            definitions.delete, definitions.soft_delete, definitions.restore,
        ):  # fmt: skip
            for nobody in ("", None, 5):
                with pytest.raises(InvalidQueryError):
                    await call(nobody)


async def test_it_needs_an_open_store(sqlite_url: str):
    definitions = TaskStore(sqlite_url).definitions
    for call in (
        definitions.get("x"), definitions.get_by_alias("x"), definitions.list(), definitions.count(),
        definitions.create("x"), definitions.cancel("x"), definitions.delete("x"),
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match="closed"):
            await call


async def test_what_is_written_in_a_transaction_is_gone_with_its_rollback(store: TaskStore):
    await store.definitions.create("kept")
    with pytest.raises(ZeroDivisionError):
        async with store.transaction():
            await store.definitions.create("report")
            await store.definitions.cancel("kept")
            assert await store.definitions.count(status="active") == 1
            raise ZeroDivisionError
    assert [(one.alias, one.status) for one in await store.definitions.list()] == [("kept", "active")]


# ── the kill switch ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.acceptance("A20")
async def test_a_cancelled_definition_is_not_enqueued_until_it_is_active_again(store: TaskStore):
    work = store.task(alias="work")(_work)
    await work.enqueue(1)
    cancelled = await store.definitions.cancel("work")
    assert (cancelled.status, cancelled.cancelled) == (DefinitionStatus.CANCELLED, True)
    errors: list[BaseException] = []
    store.on(BackgroundFailed, lambda event: errors.append(event.error))
    for call in (work.enqueue(2), store.enqueue("work", {"n": 3}), store.enqueue_many([work.draft(4)])):
        with pytest.raises(DefinitionInactiveError, match='"work" is cancelled'):
            await call
    async with store.transaction():
        with pytest.raises(DefinitionInactiveError):
            await work.enqueue(5)
    store.enqueue_soon(work.draft(6))
    await store.flush()
    assert [type(error) for error in errors] == [DefinitionInactiveError]
    assert await store.tasks.count() == 1
    assert (await store.definitions.cancel(cancelled.id)).updated_at == cancelled.updated_at, "nothing to change"
    assert (await store.definitions.activate(cancelled.id)).active
    await work.enqueue(7)
    assert await store.tasks.count() == 2


async def test_other_processes_learn_of_a_cancelled_definition_by_themselves(url: str):
    here, there = TaskStore(url), TaskStore(url)
    work = there.task(alias="work")(_work)

    async def refused(store: TaskStore) -> bool:
        try:
            await store.enqueue("work")
        except DefinitionInactiveError:
            return True
        return False

    async with here, there:
        await work.enqueue()
        await here.enqueue("work")
        await here.definitions.cancel("work")
        assert await refused(here), "at once where it was cancelled"
        await eventually(lambda: refused(there))
        await here.definitions.activate("work")
        assert not await refused(here)
        await eventually(lambda: _not(refused(there)))


async def test_what_is_believed_of_a_definition_is_read_anew_after_a_second_and_not_before(
    store: TaskStore, monkeypatch: pytest.MonkeyPatch
):
    definitions = store._require_open().storage.definitions
    known, asked = definitions.known, 0

    def counted() -> Any:
        nonlocal asked
        asked += 1
        return known()

    work = store.task(alias="work")(_work)
    await work.enqueue()
    definitions.known = counted  # type: ignore[method-assign]
    monkeypatch.setattr(known_definitions, "BELIEVED_FOR", 1e9)
    for _ in range(20):
        await work.enqueue()
    assert asked == 0
    monkeypatch.setattr(known_definitions, "BELIEVED_FOR", 0.0)
    for _ in range(3):
        await work.enqueue()
    assert asked == 3


async def test_an_enqueue_does_not_fail_because_what_is_known_cannot_be_read_anew(
    store: TaskStore, monkeypatch: pytest.MonkeyPatch
):
    work = store.task(alias="work")(_work)
    await work.enqueue()
    definitions, asked = store._require_open().storage.definitions, 0

    def unavailable() -> Any:
        nonlocal asked
        asked += 1
        raise DatabaseUnavailableError("not now")

    definitions.known = unavailable  # type: ignore[method-assign]
    store._require_open().known_definitions.outdate()
    monkeypatch.setattr(known_definitions, "BELIEVED_FOR", 1e9)
    for _ in range(3):
        await work.enqueue()
    assert asked == 1, "and it is not tried again at once"


async def test_what_was_read_before_a_change_is_not_believed_after_it(store: TaskStore):
    """A read that is under way while a definition is cancelled returns what was true before."""
    work = store.task(alias="work")(_work)
    await work.enqueue()
    known = store._require_open().known_definitions
    calls, read = known._calls, known._calls.read
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def slow(operation: Any, joined: Any, *, limit: float | None = None) -> Any:
        result = await read(operation, joined, limit=limit)
        if operation == known._definitions.known:
            reading.set()
            await go_on.wait()
        return result

    calls.read = slow  # type: ignore[method-assign]
    known.outdate()
    async with asyncio.TaskGroup() as group:
        early = group.create_task(work.enqueue())
        await reading.wait()
        calls.read = read  # type: ignore[method-assign]
        await store.definitions.cancel("work")
        go_on.set()
    await early
    with pytest.raises(DefinitionInactiveError):
        await work.enqueue()


@pytest.mark.acceptance("A18")
async def test_a_definition_without_a_handler_here_is_enqueued_by_its_alias(store: TaskStore):
    with pytest.raises(UnknownAliasError, match='No task is registered as "report"'):
        await store.enqueue("report")
    created = await store.definitions.create("report")
    task = await (await store.enqueue("report", {"week": 7}, queue="reports")).task()
    assert (task.status, task.queue, task.definition_id) == ("pending", "reports", created.id)
    assert task.payload == {"week": 7}
    await store.definitions.soft_delete("report")
    with pytest.raises(UnknownAliasError):
        await store.enqueue("report")


async def test_a_definition_that_was_deleted_is_written_anew_by_who_has_its_handler(store: TaskStore):
    work = store.task(alias="work")(_work)
    for delete in (store.definitions.soft_delete, store.definitions.delete):
        before = await (await work.enqueue()).task()
        await delete("work")
        after = await (await work.enqueue()).task()
        record = await store.definitions.get_by_alias("work")
        assert record is not None
        assert record.active
        assert after.definition_id == record.id != before.definition_id


async def test_a_memo_and_a_status_outlive_what_dispatchers_publish(url: str):
    store = TaskStore(url)
    store.task(alias="work", title="Work")(_work)
    async with store:
        await store.definitions.update("work", title="Mine", memo="careful")
        await store.definitions.cancel("work")
        async with store.dispatcher():
            pass
        record = await store.definitions.require("work")
        assert (record.title, record.memo, record.status) == ("Work", "careful", "cancelled")


async def _not(answer: Any) -> bool:
    return not await answer


@pytest.mark.memory(False)  # where one connection sees what another has not committed
async def test_a_cancelled_definition_is_refused_also_after_a_transaction_cancelled_it(store: TaskStore):
    work = store.task(alias="work")(_work)
    await work.enqueue()
    async with store.transaction():
        await store.definitions.cancel("work")
        await work.enqueue()
    with pytest.raises(DefinitionInactiveError):
        await work.enqueue()


@pytest.mark.acceptance("A20")
async def test_what_is_stored_of_a_cancelled_definition_is_not_claimed_until_it_is_active_again(store: TaskStore):
    ran: list[int] = []

    @store.task(alias="work", former_aliases=["old"])
    async def work(n: int) -> None:
        ran.append(n)

    @store.task
    async def other() -> None:
        ran.append(0)

    await work.enqueue(1)
    await store.enqueue_draft(replace(work.draft(2), alias="old"), None)
    await other.enqueue()
    await store.definitions.cancel("work")
    assert await store.dispatcher().run_once() == 1
    assert ran == [0]
    assert await store.tasks.count(status="pending") == 2
    await store.definitions.activate("work")
    assert await store.dispatcher().run_once() == 2
    assert sorted(ran) == [0, 1, 2]


async def test_a_cancel_whose_answer_was_lost_counts_at_once_too(store: TaskStore):
    work = store.task(alias="work")(_work)
    await work.enqueue()
    record = await store.definitions.require("work")
    with answers_lost(store._require_open().storage.database), pytest.raises(DatabaseUnavailableError):
        await store.definitions.cancel(record.id)
    with pytest.raises(DefinitionInactiveError):
        await work.enqueue()


async def test_an_activation_wakes_dispatchers(store: TaskStore):
    work = store.task(alias="work")(_work)
    async with store.dispatcher(poll_interval=60):
        async with expect(store, TaskFinished):
            await work.enqueue()
        await store.definitions.cancel("work")
        await store.definitions.activate("work")
        async with expect(store, TaskFinished):
            await work.enqueue()
