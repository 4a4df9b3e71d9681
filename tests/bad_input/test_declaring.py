"""Tasks, stores and dispatchers that cannot work: refused when they are declared, while others go on working.

tests/unit has every option of each; here each kind of mistake is made beside a store at work on a real database.
"""
# ruff: noqa: E501 - a table reads by its rows

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, cast

import pytest

from aiotaskstore import ConfigurationError, DuplicateHandlerError, Queue, Retention, TaskContext, TaskRouter, TaskStore
from tests.bad_input.refusals import judge, refusal_of
from tests.helpers import LIMIT


async def with_args(*args: int) -> None:
    raise AssertionError("not run")


async def generates() -> AsyncIterator[int]:
    yield 1


async def context_second(n: int, context: TaskContext) -> None:
    raise AssertionError("not run")


async def sound(n: int) -> int:
    return n


def another(n: int) -> int:
    return n


def declared(handler: Any = sound, **options: Any) -> Callable[[TaskStore], Any]:
    return lambda store: store.task(**options)(handler)


MISTAKES: list[tuple[str, type[ConfigurationError], str, Callable[[TaskStore], Any]]] = [
    ("*args", ConfigurationError, r'"with_args" takes \*args.*Take a list instead', declared(with_args)),
    ("an async generator", ConfigurationError, '"generates" is a generator.*Return a list', declared(generates)),
    ("a context that is not first", ConfigurationError, "only a first parameter is injected", declared(context_second)),
    ("no function", ConfigurationError, "A handler is a function, not 5", declared(5)),
    ("a duplicate alias", DuplicateHandlerError, '"innocent" is taken by "innocent"', declared(alias="innocent")),
    ("an alias that looks the same", DuplicateHandlerError, '"Inno-Cent" is taken by "innocent"', declared(alias="Inno-Cent")),
    ("a former alias that is taken", DuplicateHandlerError, '"innocent" is taken', declared(former_aliases=["innocent"])),
    ("a reserved alias", ConfigurationError, '"list" is reserved for the command line; choose another', declared(alias="list")),
    ("an alias with NUL", ConfigurationError, "An alias must not contain a NUL", declared(alias="a\0")),
    ("an unknown option", ConfigurationError, "@task has no option prio. Known: alias", declared(prio=1)),
    ("no attempts", ConfigurationError, "max_attempts must be a whole number of at least 1", declared(max_attempts=0)),
    ("attempts without end", ConfigurationError, "max_attempts must be", declared(max_attempts=2**31)),
    ("a priority out of range", ConfigurationError, "priority must be", declared(priority=2**31)),
    ("a queue name too long", ConfigurationError, "A queue name may have at most 100", declared(queue="q" * 101)),
    ("a retention that is none", ConfigurationError, "retention must be a Retention", declared(retention="all")),
    ("a retention that cannot be", ConfigurationError, "Retention keep must be", lambda _: Retention(keep=cast("Any", "x"))),
    (
        "a queue twice", ConfigurationError, "queues names x more than once",
        lambda _: TaskStore("sqlite://", queues=[Queue("x"), Queue("y"), Queue("x", concurrency=3)]),
    ),
    ("a queue without slots", ConfigurationError, 'concurrency of queue "x"', lambda _: Queue("x", concurrency=0)),
    ("a dispatcher without slots", ConfigurationError, "concurrency must be", lambda store: store.dispatcher(concurrency=0)),
    ("a queue's slots below one", ConfigurationError, 'slots of queue "x"', lambda store: store.dispatcher(queues={"x": -1})),
    ("a lease too short", ConfigurationError, "at least two heartbeats", lambda store: store.dispatcher(lease=9)),
    ("an unknown scheme", ConfigurationError, "not one of ours. Write postgresql://", lambda _: TaskStore("oracle://u@h/d")),
    ("a pool that is none", ConfigurationError, "opened on a URL", lambda _: TaskStore(object())),
]  # fmt: skip


async def test_a_mistake_is_refused_at_once_and_a_store_at_work_goes_on(store: TaskStore):
    @store.task
    async def innocent(n: int) -> int:
        return n

    wrong: list[str] = []
    async with store.dispatcher():
        for number, (name, kind, words, call) in enumerate(MISTAKES):
            before = [definition.alias for definition in store.handlers]
            try:
                judge(await refusal_of(partial(call, store)), kind, words)
                assert [definition.alias for definition in store.handlers] == before, "it was registered"
                assert await (await innocent.enqueue(number)).result(LIMIT) == number
            except AssertionError as failure:
                wrong.append(f"{name}: {failure}")
    assert not wrong, "\n".join(wrong)
    assert await store.tasks.count() == len(MISTAKES)


async def test_options_of_a_run_are_refused_before_the_store_opens(url: str):
    store = TaskStore(url)
    store.task(sound)
    judge(await refusal_of(lambda: store.run(concurrency=0)), ConfigurationError, "concurrency must be")
    with pytest.raises(TypeError, match="slots"):
        await store.run(slots=5)  # type: ignore[call-arg]
    assert not store.is_open
    with pytest.raises(TypeError, match="slots"):
        store.dispatcher(slots=5)  # type: ignore[call-arg]


async def test_a_router_that_conflicts_leaves_the_store_as_it_was(store: TaskStore):
    store.task(alias="taken")(sound)
    router = TaskRouter()
    router.task(alias="free")(another)
    router.task(alias="taken")(another)
    judge(
        await refusal_of(lambda: cast("Any", store).include(router)),
        DuplicateHandlerError,
        '"taken" is taken by "taken"',
    )
    assert [definition.alias for definition in store.handlers] == ["taken"]
    handle = await store.enqueue("taken", {"n": 5})
    assert await store.dispatcher().run_once() == 1
    assert await handle.result(5) == 5
