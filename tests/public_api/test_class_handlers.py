"""Handlers that are classes: one object, many runs."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from aiotaskstore import (
    ConfigurationError,
    DefinitionNotFoundError,
    DuplicateHandlerError,
    HandlerReturnedFalseError,
    PayloadError,
    Retention,
    Retry,
    Task,
    TaskContext,
    TaskDefinition,
    TaskFailedError,
    TaskHandler,
    TaskRouter,
    TaskStarted,
    TaskStore,
    UnknownAliasError,
    current_context,
    exponential,
    noop,
)
from tests.helpers import LIMIT, expect


class HelloWorld(TaskHandler):
    alias = "HelloWorld"
    title = "Hello World"
    description = "Say hello"

    async def handle(self, context: TaskContext) -> bool:
        context.info(f"Hello {context.param('name') or 'World'}!")
        return True


class Answer(TaskHandler):
    """Answer as asked.

    What follows the first paragraph is for those who read the code.
    """

    async def handle(self, context: TaskContext) -> Any:
        context.output = context.param("output", None)
        return context.param("value", None)


class InThread(TaskHandler):
    def handle(self, context: TaskContext) -> bool:
        context.output = threading.current_thread().name
        return threading.current_thread() is not threading.main_thread()


class Refusing(TaskHandler):
    max_attempts = 2
    backoff = 0

    def handle(self, context: TaskContext) -> bool:
        return False


async def run(store: TaskStore, alias: str, payload: dict[str, Any] | None = None) -> Task:
    """Have a task run, and return it as it is then."""
    handle = await store.enqueue(alias, payload or {})
    await store.dispatcher().run_once()
    return await handle.task()


def only(definitions: Sequence[TaskDefinition[..., Any]]) -> TaskDefinition[..., Any]:
    (definition,) = definitions
    return definition


# ── what becomes of what it returns ───────────────────────────────────────────────────────────────────────────


async def test_a_class_handler_reads_its_parameters_and_says_how_it_goes(store: TaskStore):
    store.include(HelloWorld())
    task = await run(store, "HelloWorld", {"name": "Tom"})
    assert (task.status, task.details, task.result) == ("succeeded", "Hello Tom!", True)
    assert (await run(store, "HelloWorld")).details == "Hello World!"


@pytest.mark.acceptance("A59")
async def test_a_class_handler_that_returns_false_has_failed_and_a_function_has_not(store: TaskStore):
    store.include(Answer())
    store.include(Refusing())

    @store.task
    async def function() -> bool:
        return False

    failed = await run(store, "Answer", {"value": False, "output": "x"})
    assert (failed.status, failed.finish_reason, failed.result) == ("failed", "error", None)
    assert failed.error == "HandlerReturnedFalseError: handler returned False"
    again = await run(store, "Refusing")
    assert (again.status, again.finish_reason, again.attempt) == ("failed", "exhausted", 2)
    assert [error.message for error in again.errors] == ["handler returned False"] * 2
    succeeded = await run(store, "function")
    assert (succeeded.status, succeeded.result) == ("succeeded", False)


@pytest.mark.parametrize(
    ("payload", "result"),
    [
        ({}, None),
        ({"value": True}, True),
        ({"value": {"a": [1, None]}}, {"a": [1, None]}),
        ({"value": 0}, 0),
        ({"output": "text"}, "text"),
        ({"value": True, "output": "text"}, "text"),
        ({"value": 5, "output": "text"}, 5),
    ],
)
async def test_what_it_returns_is_its_result_or_else_its_output(sqlite_url: str, payload: dict[str, Any], result: Any):
    async with TaskStore(sqlite_url) as store:
        store.include(Answer())
        task = await run(store, "Answer", payload)
        assert (task.status, task.result) == ("succeeded", result)


async def test_a_def_runs_in_a_thread(store: TaskStore):
    store.include(InThread())
    task = await run(store, "InThread")
    assert task.status == "succeeded"
    assert task.result != threading.main_thread().name


async def test_what_it_raises_decides_as_in_a_function(store: TaskStore):
    class Insisting(TaskHandler):
        max_attempts = 2

        async def handle(self, context: TaskContext) -> bool:
            if context.attempt == 1:
                raise Retry("not yet", delay=0)
            return True

    store.include(Insisting())
    task = await run(store, "Insisting")
    assert (task.status, task.attempt) == ("succeeded", 2)


async def test_a_handle_that_returns_an_awaitable_is_awaited(sqlite_url: str):
    class Wrapped(TaskHandler):
        def handle(self, context: TaskContext) -> Any:
            async def inner() -> bool:
                return bool(context.param("ok"))

            return inner()

    async with TaskStore(sqlite_url) as store:
        store.include(Wrapped())
        assert (await run(store, "Wrapped", {"ok": True})).status == "succeeded"
        assert (await run(store, "Wrapped", {"ok": False})).status == "failed"


# ── one object, many runs ─────────────────────────────────────────────────────────────────────────────────────


async def test_runs_of_one_object_at_the_same_time_see_their_own_task_only(store: TaskStore):
    together, most, meeting = 8, 0, asyncio.Event()

    class Meeting(TaskHandler):
        async def handle(self, context: TaskContext) -> dict[str, Any]:
            nonlocal most
            context.info(f"I am {context.param('n')}")
            context.output = f"output of {context.param('n')}"
            most += 1
            if most == together:
                meeting.set()
            await meeting.wait()
            assert current_context() is context
            return {
                "n": context.param("n"), "info": context.last_info, "output": context.output,
                "id": str(context.task.id), "owner": context.metadata["n"],
            }  # fmt: skip

    store.include(Meeting())
    drafts = [store.draft("Meeting", {"n": n}, metadata={"n": n}) for n in range(together)]
    ids = await store.enqueue_many(drafts)
    async with store.dispatcher(concurrency=together):
        tasks = [await store.tasks.wait(one, timeout=LIMIT) for one in ids]
    assert [task.result for task in tasks] == [
        {"n": n, "info": f"I am {n}", "output": f"output of {n}", "id": str(task_id), "owner": n}
        for n, task_id in enumerate(ids)
    ]
    assert [task.details for task in tasks] == [f"I am {n}" for n in range(together)]


# ── parameters ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.acceptance("A66")
async def test_parameters_come_from_the_task_with_the_types_they_were_stored_with(store: TaskStore):
    class Reading(TaskHandler):
        async def handle(self, context: TaskContext) -> dict[str, Any]:
            names = ["user_id", "price", "yes", "nothing", "list", "text"]
            return {
                "params": [context.param(name) for name in names],
                "absent": [context.param("absent"), context.param("absent", 5)],
                "lists": [context.param_list(name) for name in ("absent", "empty", "one", "three", "text", "list")],
                "options": context.options,
            }

    store.include(Reading())
    payload = {
        "user_id": 123, "price": 1.5, "yes": True, "nothing": None, "list": [1, "a"], "text": "a = b",
        "empty": "", "one": "a", "three": "a; b;;c",
    }  # fmt: skip
    assert (await run(store, "Reading", payload)).result == {
        "params": [123, 1.5, True, None, [1, "a"], "a = b"],
        "absent": ["", 5],
        "lists": [[], [], ["a"], ["a", " b", "", "c"], ["a = b"], ["1", "a"]],
        "options": {},
    }


@pytest.mark.acceptance("A67")
async def test_what_a_handler_says_is_in_the_details_and_the_last_of_each_kind_is_remembered(
    store: TaskStore, caplog: pytest.LogCaptureFixture
):
    class Talking(TaskHandler):
        async def handle(self, context: TaskContext) -> list[str]:
            context.info("one")
            context.error("two")
            context.success("three")
            context.info("four")
            return [context.last_info, context.last_error, context.last_success]

    store.include(Talking())
    task = await run(store, "Talking")
    assert task.details.splitlines() == ["one", "two", "three", "four"]
    assert task.result == ["four", "two", "three"]
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="aiotaskstore.task"):
        assert await only(store.handlers)() == ["four", "two", "three"]
    assert [record.getMessage() for record in caplog.records] == ["one", "two", "three", "four"]


async def test_parameters_after_the_context_are_the_payloads_type(store: TaskStore):
    @dataclass
    class Size:
        width: int

    class Resize(TaskHandler):
        async def handle(self, context: TaskContext, path: str, /, size: Size, *, grey: bool = False) -> Size:
            return Size(size.width * 2) if path and not grey else size

    resize = await store.register(Resize(), create_if_missing=True)
    handle = await resize.enqueue("a.png", Size(5))
    await store.dispatcher().run_once()
    assert await handle.result(LIMIT) == Size(10)
    assert (await handle.task()).payload == {"path": "a.png", "size": {"width": 5}}
    for bad in ({"path": "a.png"}, {"path": "a.png", "size": {"width": "wide"}}, {"path": 1, "size": {"width": 1}}):
        with pytest.raises(PayloadError, match="Resize"):
            await store.enqueue("Resize", bad)
    assert await store.tasks.count() == 1


async def test_a_result_that_is_not_what_it_declares_fails_the_attempt(sqlite_url: str):
    class Counting(TaskHandler):
        async def handle(self, context: TaskContext) -> int:
            return "five"  # type: ignore[return-value] # as a mistake would

    async with TaskStore(sqlite_url) as store:
        store.include(Counting())
        task = await run(store, "Counting")
        assert task.status == "failed"
        assert 'The result of "Counting" does not fit' in (task.error or "")


# ── names and options ─────────────────────────────────────────────────────────────────────────────────────────


def test_its_attributes_are_its_names_and_its_options():
    class Thorough(TaskHandler):
        """Do it thoroughly,
        from the start.

        Not for users.
        """

        queue = "slow"
        priority = -5
        max_attempts = 7
        backoff = exponential(base=3)
        retry_on = (OSError,)
        timeout = timedelta(minutes=2)
        retention = Retention(keep="none")
        on_stuck = "fail"
        on_decode_error = "cancel"
        former_aliases = ["Careful"]
        serialization = "strict"
        serialization_key = staticmethod(lambda n: f"key-{n}")

        def external_id(self, **params: Any) -> str:
            return f"{type(self).__name__}-{params['n']}"

        async def handle(self, context: TaskContext) -> None: ...

    store = TaskStore("sqlite://")
    store.include(Thorough())
    made = only(store.handlers)
    assert (made.alias, made.title, made.description) == ("Thorough", "Thorough", "Do it thoroughly, from the start.")
    options = made.defaults
    assert (options.queue, options.priority, options.max_attempts, options.timeout) == ("slow", -5, 7, 120.0)
    assert (options.on_stuck, options.on_decode_error, options.former_aliases) == ("fail", "cancel", ("Careful",))
    assert options.retention == Retention(keep="none")
    backoff: Any = options.backoff
    assert backoff(1, OSError()) == 6.0
    assert options.serialization == "strict"
    draft = store.draft("Thorough", {"n": 5})
    assert (draft.options["external_id"], draft.options["serialization_key"]) == ("Thorough-5", "key-5")
    store.include(HelloWorld())
    hello = store.handlers[-1]
    assert (hello.alias, hello.title, hello.description) == ("HelloWorld", "Hello World", "Say hello")
    store.include(Refusing())
    assert store.handlers[-1].description == "", "nothing of the base class"


def test_an_object_may_choose_its_own_alias():
    class Greeting(TaskHandler):
        def __init__(self, language: str) -> None:
            self.alias = f"greet-{language}"

        async def handle(self, context: TaskContext) -> bool:
            return True

    store = TaskStore("sqlite://")
    for language in ("en", "bg"):
        store.include(Greeting(language))
    assert [one.alias for one in store.handlers] == ["greet-en", "greet-bg"]


class _Stateful(TaskHandler):
    alias = "stateful"

    def __init__(self, host: str) -> None:
        self.host = host

    async def handle(self, context: TaskContext) -> str:
        return self.host


@pytest.mark.acceptance("A45")
def test_the_same_handler_again_is_a_no_op_and_another_one_is_refused():
    store = TaskStore("sqlite://")
    kept = HelloWorld()
    for _ in range(2):
        store.include(kept)
        store.include(HelloWorld())
        store.include(_Stateful("a"))
    assert [one.alias for one in store.handlers] == ["HelloWorld", "stateful"]
    with pytest.raises(DuplicateHandlerError, match='"stateful" is taken'):
        store.include(_Stateful("b"))

    class Other(TaskHandler):
        alias = "hello_world"

        async def handle(self, context: TaskContext) -> bool:
            return True

    with pytest.raises(DuplicateHandlerError, match='"hello_world" is taken by "HelloWorld"'):
        store.include(Other())

    with pytest.raises(DuplicateHandlerError):

        @store.task(alias="hello-world")
        async def function() -> None: ...

    assert len(store.handlers) == 2


class _NoHandle(TaskHandler):
    alias = "x"


class _NoContext(TaskHandler):
    async def handle(self) -> bool:
        return True


class _KeywordContext(TaskHandler):
    async def handle(self, *, context: TaskContext) -> bool:
        return True


class _Generator(TaskHandler):
    async def handle(self, context: TaskContext) -> Any:
        yield 1


class _Args(TaskHandler):
    async def handle(self, context: TaskContext, *values: int) -> bool:
        return True


class _Unannotated(TaskHandler):
    async def handle(self, context, name: str) -> bool:
        return True


class _Reserved(TaskHandler):
    alias = "List"

    async def handle(self, context: TaskContext) -> bool:
        return True


class _BadOption(TaskHandler):
    max_attempts = 0

    async def handle(self, context: TaskContext) -> bool:
        return True


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (HelloWorld, r"HelloWorld is a class, and an object is needed.*HelloWorld\(\)"),
        (object(), "takes a TaskRouter or a task, not object.*derives from TaskHandler"),
        (None, "takes a TaskRouter or a task, not NoneType.*derives from TaskHandler"),
        (lambda: None, "takes a TaskRouter or a task, not function.*derives from TaskHandler"),
        (_NoHandle(), "_NoHandle has no method `handle"),
        (_NoContext(), "takes no context"),
        (_KeywordContext(), "takes no context"),
        (_Generator(), "is a generator"),
        (_Args(), r"takes \*args"),
        (_Reserved(), '"List" is reserved'),
        (_BadOption(), "max_attempts must be"),
    ],
)
async def test_what_is_no_handler_is_refused_and_nothing_is_stored(sqlite_url: str, handler: Any, words: str):
    async with TaskStore(sqlite_url) as store:
        with pytest.raises(ConfigurationError, match=words):
            store.include(handler)
        with pytest.raises(ConfigurationError, match=words):
            await store.register(handler, create_if_missing=True)
        assert store.handlers == []
        assert await store.definitions.count() == 0


async def test_a_context_need_not_be_annotated(sqlite_url: str):
    async with TaskStore(sqlite_url) as store:
        store.include(_Unannotated())
        assert (await run(store, "_Unannotated", {"name": "Tom"})).status == "succeeded"


# ── registering ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.acceptance("A09")
async def test_registering_writes_a_record_once(store: TaskStore):
    first = await store.register(HelloWorld(), create_if_missing=True)
    again = await store.register(HelloWorld(), create_if_missing=True)
    assert again is first
    assert await store.definitions.count() == 1
    assert len(store.handlers) == 1
    record = await store.definitions.require("HelloWorld")
    assert (record.title, record.description, record.status) == ("Hello World", "Say hello", "active")
    await store.register(noop, create_if_missing=True)
    assert await store.definitions.count() == 2
    assert (await run(store, "HelloWorld")).definition_id == record.id


@pytest.mark.acceptance("A10")
async def test_registering_what_has_no_record_is_refused_unless_it_is_to_be_written(store: TaskStore):
    for _ in range(2):
        with pytest.raises(UnknownAliasError, match=r'"HelloWorld" is stored.*create_if_missing=True') as refused:
            await store.register(HelloWorld())
        assert isinstance(refused.value, DefinitionNotFoundError)
        assert store.handlers == []
    record = await store.definitions.create("HelloWorld", title="Theirs", memo="careful")
    await store.register(HelloWorld())
    assert [one.alias for one in store.handlers] == ["HelloWorld"]
    assert await store.definitions.list() == [record], "and it stays as it is"
    await store.definitions.soft_delete("HelloWorld")
    with pytest.raises(UnknownAliasError):
        await store.register(HelloWorld())
    await store.register(HelloWorld(), create_if_missing=True)
    assert (await store.definitions.require("HelloWorld")).id != record.id


async def test_registering_another_handler_writes_nothing(store: TaskStore):
    store.include(_Stateful("a"))
    with pytest.raises(DuplicateHandlerError):
        await store.register(_Stateful("b"), create_if_missing=True)
    assert await store.definitions.count() == 0


async def test_registering_needs_an_open_store(sqlite_url: str):
    store = TaskStore(sqlite_url)
    with pytest.raises(ConfigurationError, match="closed"):
        await store.register(HelloWorld(), create_if_missing=True)
    assert store.handlers == []


async def test_a_running_dispatcher_runs_what_is_registered_later(store: TaskStore):
    await store.register(noop, create_if_missing=True)
    async with store.dispatcher():
        hello = await store.register(HelloWorld(), create_if_missing=True)
        async with expect(store, TaskStarted, alias="HelloWorld"):
            handle = await hello.enqueue(name="Tom")
        assert await handle.result(LIMIT) is True


async def test_what_is_included_is_recorded_when_the_store_opens(url: str):
    store = TaskStore(url)
    store.include(HelloWorld())
    async with store:
        record = await store.definitions.require("HelloWorld")
        assert (record.title, record.description) == ("Hello World", "Say hello")


# ── former aliases ────────────────────────────────────────────────────────────────────────────────────────────


async def test_tasks_stored_under_a_former_alias_are_run_by_the_handler_of_today(url: str):
    before = TaskStore(url)

    @before.task
    async def say_hello(name: str) -> str:
        return f"before: {name}"

    async with before:
        old = await say_hello.enqueue("Tom")
        after = TaskStore(url)

        @after.task(alias="greet", former_aliases=["say_hello", "welcome"])
        async def greet(name: str) -> str:
            return f"after: {name}"

        async with after, TaskStore(url) as elsewhere:
            by_former = await after.enqueue("say_hello", {"name": "Ann"})
            published = await elsewhere.enqueue("welcome", {"name": "Joe"})
            recorded = await elsewhere.enqueue("say_hello", {"name": "Sue"})
            await after.dispatcher().run_once()
            handles = (old, by_former, published, recorded)
            assert [await one.result(LIMIT) for one in handles] == [f"after: {n}" for n in ("Tom", "Ann", "Joe", "Sue")]
            aliases = [(await one.task()).alias for one in handles]
            assert aliases == ["say_hello", "greet", "greet", "say_hello"]
            with pytest.raises(UnknownAliasError):
                await elsewhere.enqueue("hallo", {"name": "x"})


def test_a_former_alias_belongs_to_one_handler():
    store = TaskStore("sqlite://")

    async def one() -> None: ...
    async def two() -> None: ...

    store.task(alias="new", former_aliases=["old", "new"])(one)
    clashes: list[dict[str, Any]] = [
        {"alias": "OLD"},
        {"alias": "other", "former_aliases": ["o-l-d"]},
        {"alias": "other", "former_aliases": ["New"]},
    ]
    for options in clashes:
        with pytest.raises(DuplicateHandlerError):
            store.task(**options)(two)
        with pytest.raises(DuplicateHandlerError):
            store.task(**options)(one)
    assert [made.alias for made in store.handlers] == ["new"]


def test_a_router_that_clashes_is_included_not_at_all():
    store, router = TaskStore("sqlite://"), TaskRouter()
    store.include(HelloWorld())

    @router.task
    async def fine() -> None: ...

    @router.task(former_aliases=["hello-world"])
    async def clashing() -> None: ...

    with pytest.raises(DuplicateHandlerError):
        store.include(router)
    assert [made.alias for made in store.handlers] == ["HelloWorld"]


# ── direct calls ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_class_handler_may_be_called_directly(sqlite_url: str):
    store = TaskStore(sqlite_url)
    for handler in (Answer(), Refusing()):
        store.include(handler)
    answer, refusing = store.handlers
    assert await answer(value=5) == 5
    assert await answer(value=True) is True
    with pytest.raises(HandlerReturnedFalseError, match=r"^handler returned False$"):
        await refusing()


async def test_a_function_without_self_among_the_attributes_is_no_method(store: TaskStore):
    class Patient(TaskHandler):
        max_attempts = 2
        backoff = staticmethod(lambda attempt, error: 0.0)

        async def handle(self, context: TaskContext) -> bool:
            return context.attempt == 2

    store.include(Patient())
    assert (await run(store, "Patient")).status == "succeeded"


async def test_a_failed_attempt_of_a_class_is_told_like_any_other(store: TaskStore):
    store.include(Refusing())
    handle = await store.enqueue("Refusing")
    await store.dispatcher().run_once()
    with pytest.raises(TaskFailedError, match="handler returned False"):
        await handle.result(LIMIT)
