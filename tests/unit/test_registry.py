"""Who has which alias, and what a handler must look like to get one."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest

from aiotaskstore import (
    ConfigurationError,
    DuplicateHandlerError,
    TaskContext,
    TaskDefinition,
    TaskRouter,
    TaskStore,
    noop,
)
from aiotaskstore.registry import Registry


async def one() -> None:
    pass


async def two() -> None:
    pass


def definition(handler: Any = one, **options: Any) -> TaskDefinition[..., Any]:
    made: TaskDefinition[..., Any] = TaskRouter().task(**options)(handler)
    return made


def registry(*definitions: TaskDefinition[..., Any]) -> Registry:
    made = Registry()
    for each in definitions:
        made.add(each)
    return made


# ── aliases ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_functions_name_is_the_alias_unless_one_is_given():
    assert definition().alias == "one"
    assert definition(alias="emails.welcome").alias == "emails.welcome"


@pytest.mark.parametrize("other", ["send-welcome", "Send_Welcome", "sendwelcome", "SENDWELCOME", "send_welcome_"])
@pytest.mark.acceptance("A45")
def test_an_alias_that_only_looks_different_is_taken(other):
    taken = registry(definition(one, alias="send_welcome"))
    with pytest.raises(DuplicateHandlerError, match=f'"{other}" is taken by "send_welcome".*another alias') as refused:
        taken.add(definition(two, alias=other))
    assert refused.value.alias == other
    assert taken.aliases == ["send_welcome"]


def test_the_same_handler_again_is_a_no_op():
    first, again = definition(one), definition(one)
    kept = Registry()
    assert kept.add(first) is True
    assert kept.add(first) is False
    assert kept.add(again) is False
    assert list(kept) == [first]


def test_a_refused_definition_leaves_nothing_behind():
    kept = registry(definition(one, alias="taken"))
    with pytest.raises(DuplicateHandlerError):
        kept.add(definition(two, alias="free", former_aliases=["old", "TAKEN"]))
    assert kept.aliases == ["taken"]
    kept.add(definition(two, alias="free", former_aliases=["old"]))
    assert kept.aliases == ["taken", "free", "old"]


def test_a_former_alias_finds_the_definition_that_took_it_over():
    renamed = definition(one, alias="new_name", former_aliases=["old_name", "older-name"])
    kept = registry(renamed)
    assert kept.get("new_name") is kept.get("old_name") is kept.get("older-name") is renamed
    assert kept.get("older_name") is None
    assert kept.aliases == ["new_name", "old_name", "older-name"]


def test_a_former_alias_may_not_be_taken_nor_taken_again():
    kept = registry(definition(one, alias="new", former_aliases=["old"]))
    with pytest.raises(DuplicateHandlerError):
        kept.add(definition(two, alias="OLD"))
    with pytest.raises(DuplicateHandlerError):
        kept.add(definition(two, alias="other", former_aliases=["o-l-d"]))
    with pytest.raises(DuplicateHandlerError):
        kept.add(definition(two, alias="other", former_aliases="new"))


@pytest.mark.parametrize("alias", ["list", "LIST", "l-i-s-t", "_list_"])
@pytest.mark.acceptance("A125")
def test_reserved_aliases_are_refused_at_decoration(alias):
    with pytest.raises(ConfigurationError, match=f'"{alias}" is reserved for the command line; choose another one'):
        definition(alias=alias)


@pytest.mark.parametrize("alias", ["", "x" * 101, "a\0b", "\ud800", 42, b"x", ["x"]])
@pytest.mark.acceptance("A45")
def test_aliases_that_cannot_be_stored_are_refused_at_decoration(alias):
    with pytest.raises(ConfigurationError):
        definition(alias=alias)
    with pytest.raises(ConfigurationError):
        definition(former_aliases=[alias])


@pytest.mark.parametrize(
    "naming",
    [
        {"title": "\0"},
        {"title": "x" * 101},
        {"title": 5},
        {"description": "\0"},
        {"description": "\ud800"},
        {"description": 5},
    ],
)
def test_titles_and_descriptions_that_cannot_be_stored_are_refused_at_decoration(naming):
    with pytest.raises(ConfigurationError, match=r"|".join(naming)):
        definition(**naming)


def test_title_and_description_come_from_name_and_docstring():
    async def send_welcome_mail() -> None:
        """Send the welcome
        e-mail.

        More about it.
        """

    made = definition(send_welcome_mail)
    assert (made.title, made.description) == ("Send welcome mail", "Send the welcome e-mail.")
    made = definition(send_welcome_mail, title="Welcome", description="Says hello")
    assert (made.title, made.description) == ("Welcome", "Says hello")
    assert made.__doc__ == send_welcome_mail.__doc__


def test_any_docstring_can_be_stored():
    async def odd() -> None:
        pass

    odd.__doc__ = "nul \0 and surrogate \ud800 " + "x" * 200_000
    made = definition(odd)
    made.description.encode()
    assert "\0" not in made.description
    assert len(made.description) <= 10_000


# ── handlers ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_handlers_that_cannot_work_are_refused_at_decoration():
    async def with_args(*args: int) -> None:
        pass

    async def generates() -> AsyncIterator[int]:
        yield 1

    def yields() -> Iterator[int]:
        yield 1

    async def context_second(a: int, context: TaskContext) -> None:
        pass

    async def context_by_keyword(*, context: TaskContext) -> None:
        pass

    for handler, words in (
        (with_args, r'"with_args" takes \*args, but a payload stores arguments by name. Take a list'),
        (generates, '"generates" is a generator, and a task has one result. Return a list'),
        (yields, '"yields" is a generator'),
        (context_second, 'takes its TaskContext as "context", but only a first parameter is injected'),
        (context_by_keyword, "only a first parameter is injected"),
        (42, "A handler is a function, not 42"),
        ("send", "A handler is a function, not 'send'"),
        (None, "A handler is a function, not None"),
        (lambda: None, "A task needs an alias: name the function, or pass alias="),
        (functools.partial(one), "A task needs an alias"),
        (max, "max.*signature"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            TaskRouter().task()(cast("Any", handler))
        with pytest.raises(ConfigurationError, match=words):
            TaskRouter().task(cast("Any", handler))


def test_a_partial_with_an_alias_is_a_handler():
    async def add(a: int, b: int) -> int:
        return a + b

    made = definition(functools.partial(add, 1), alias="add_one")
    assert made.payload.encode((), {"b": 2}, 1000) == '{"b":2}'


async def test_a_definition_is_the_function_it_was_made_of():
    async def add(a: int, b: int = 1) -> int:
        return a + b

    def slow(a: int) -> int:
        return a * 2

    assert await definition(add)(1, b=2) == 3
    assert await definition(slow)(21) == 42
    assert definition(add).__wrapped__ is add
    assert repr(definition(add)) == "<TaskDefinition \"add\" (a: 'int', b: 'int' = 1)>"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quue": "x"}, "@task has no option quue. Known: alias, backoff"),
        ({"queue": "x" * 101}, "A queue name may have at most 100 characters"),
        ({"queue": "a\0"}, "NUL"),
        ({"queue": 5}, "A queue name must be text"),
        ({"queue": 0}, "A queue name must be text"),
        ({"priority": "high"}, "priority must be a whole number"),
        ({"priority": 2**31}, "priority must be a whole number"),
        ({"priority": True}, "priority must be a whole number"),
        ({"max_attempts": 0}, "max_attempts must be a whole number of at least 1, but it is 0"),
        ({"max_attempts": 2**31}, "max_attempts must be a whole number"),
        ({"max_attempts": 1.5}, "max_attempts must be a whole number"),
        ({"timeout": 0}, "timeout must be above zero"),
        ({"timeout": float("nan")}, "timeout must be"),
        ({"timeout": "30s"}, "timeout must be a timedelta or a number of seconds"),
        ({"backoff": -1}, "backoff must be zero or more"),
        ({"backoff": two}, "backoff must be a plain function of .attempt, error., not async"),
        ({"backoff": "exponential"}, "backoff must be a timedelta or a number of seconds"),
        ({"retry_on": "sometimes"}, 'retry_on must be "any", "retryable" or exception types'),
        ({"retry_on": ()}, "retry_on must be"),
        ({"retry_on": (OSError, "x")}, "retry_on must be"),
        ({"retry_on": int}, "retry_on must be"),
        ({"retention": "all"}, "retention must be a Retention"),
        ({"on_stuck": "explode"}, "on_stuck must be retry, fail or interrupt, not 'explode'"),
        ({"on_stuck": ["retry"]}, "on_stuck must be"),
        ({"on_decode_error": "explode"}, "on_decode_error must be retry, cancel or fail"),
        ({"on_decode_error": None}, "on_decode_error must be"),
        ({"external_id": "order-1"}, "external_id must be a function of the arguments"),
        ({"former_aliases": [5]}, "A former alias must be text"),
        ({"former_aliases": 5}, "former_aliases must be"),
    ],
)
def test_options_that_cannot_work_are_refused_at_decoration(options, words):
    router = TaskRouter()
    with pytest.raises(ConfigurationError, match=words):
        router.task(**options)(one)
    assert router.handlers == []


# ── routers and stores ────────────────────────────────────────────────────────────────────────────────────────


def test_a_store_takes_routers_and_single_tasks():
    router = TaskRouter()
    task = router.task(one)
    store = TaskStore("sqlite://")
    store.include(router)
    store.include(router)
    store.include(noop)
    assert [each.alias for each in store.handlers] == ["one", "noop"]
    assert task.store is store


def test_a_router_that_does_not_fit_is_not_taken_in_by_half():
    store, router = TaskStore("sqlite://"), TaskRouter()
    store.task(alias="taken")(one)
    router.task(alias="free")(two)
    router.task(alias="taken")(two)
    with pytest.raises(DuplicateHandlerError, match='"taken" is taken'):
        store.include(router)
    assert [each.alias for each in store.handlers] == ["taken"]


@pytest.mark.parametrize("thing", [one, "one", None, TaskRouter])
def test_a_store_takes_nothing_else(thing):
    with pytest.raises(ConfigurationError, match="takes a TaskRouter or a task, not"):
        TaskStore("sqlite://").include(thing)


async def test_a_task_without_a_store_and_one_with_several_open_ones_say_so():
    router = TaskRouter()
    task = router.task(one)
    with pytest.raises(ConfigurationError, match=r'"one" is declared on a router.*store.include\(router\)'):
        _ = task.store
    first, second = TaskStore("sqlite://"), TaskStore("sqlite://")
    first.include(router)
    second.include(router)
    assert task.store is second  # none is open: the one that included it last
    async with first:
        assert task.store is first
        async with second:
            with pytest.raises(ConfigurationError, match=r'"one" is included in 2 open stores. Say which'):
                _ = task.store


def test_the_smallest_limit_of_its_stores_is_a_tasks_payload_limit():
    router = TaskRouter()
    task = router.task(one)
    stores = [TaskStore("sqlite://", payload_limit=limit) for limit in (1000, 10)]
    for store in stores:
        store.include(router)
    assert task.payload_limit == 10
