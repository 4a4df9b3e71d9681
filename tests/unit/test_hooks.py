"""Who hears which fact, and that hearing changes nothing."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from uuid import UUID

import pytest

from aiotaskstore import ConfigurationError, TaskEnqueued, TaskStarted, TaskStore
from aiotaskstore.events import BackgroundFailed, DispatcherStarted, Event, TaskEvent
from aiotaskstore.hooks import Hooks
from aiotaskstore.observe.logs import log_events

ID = UUID(int=7)
ENQUEUED = TaskEnqueued(ID, "alias", "queue")
STARTED = TaskStarted(ID, "alias", "queue", 1)
UP = DispatcherStarted(ID, "name", "poll")


def test_listeners_receive_their_kind_and_its_subclasses_in_the_order_they_came():
    hooks = Hooks()
    received: list[tuple[str, Event]] = []
    hooks.on(TaskEnqueued, lambda event: received.append(("enqueued", event)))
    hooks.on(TaskEvent, lambda event: received.append(("any task", event)))
    hooks.on(Event, lambda event: received.append(("any", event)))
    for event in (ENQUEUED, STARTED, UP):
        hooks.emit(event)
    assert received == [
        ("enqueued", ENQUEUED), ("any task", ENQUEUED), ("any", ENQUEUED),
        ("any task", STARTED), ("any", STARTED),
        ("any", UP),
    ]  # fmt: skip


def test_a_listener_that_is_taken_off_receives_nothing_more_of_that_kind():
    hooks = Hooks()
    received: list[Event] = []
    hooks.on(TaskEnqueued, received.append)
    hooks.on(TaskStarted, received.append)
    hooks.off(TaskEnqueued, received.append)
    hooks.off(TaskEnqueued, received.append)  # again, or one that never was: a no-op
    hooks.off(TaskEnqueued, print)
    hooks.emit(ENQUEUED)
    hooks.emit(STARTED)
    assert received == [STARTED]
    assert not hooks.has_listener(TaskEnqueued)


def test_events_nobody_receives_need_not_be_made():
    hooks = Hooks()
    assert not hooks.has_listener(TaskEnqueued)
    end = hooks.on(TaskEvent, print)
    assert hooks.has_listener(TaskEnqueued)
    assert hooks.has_listener(TaskStarted)
    assert not hooks.has_listener(DispatcherStarted)
    end()
    assert not hooks.has_listener(TaskEnqueued)


def test_a_listener_that_has_ended_receives_no_more():
    hooks = Hooks()
    received: list[Event] = []
    hooks.emit(ENQUEUED)
    end = hooks.on(TaskEnqueued, received.append)
    hooks.emit(ENQUEUED)
    end()
    end()
    hooks.emit(ENQUEUED)
    assert received == [ENQUEUED]


def test_ending_one_registration_leaves_the_others_of_the_same_function():
    hooks = Hooks()
    received: list[Event] = []
    first = hooks.on(TaskEnqueued, received.append)
    hooks.on(TaskEnqueued, received.append)
    hooks.on(Event, received.append)
    first()
    first()
    hooks.emit(ENQUEUED)
    assert received == [ENQUEUED, ENQUEUED]


def test_a_listener_may_end_itself_while_it_is_called():
    hooks = Hooks()
    received: list[Event] = []

    def once(event: TaskEnqueued) -> None:
        received.append(event)
        end()

    end = hooks.on(TaskEnqueued, once)
    hooks.on(TaskEnqueued, received.append)
    hooks.emit(ENQUEUED)
    hooks.emit(ENQUEUED)
    assert received == [ENQUEUED, ENQUEUED, ENQUEUED]


def test_a_listener_that_raises_is_logged_and_the_next_one_receives(caplog):
    hooks = Hooks()
    received: list[Event] = []

    def broken(_event: TaskEnqueued) -> None:
        raise RuntimeError("listener is broken")

    hooks.on(TaskEnqueued, broken)
    hooks.on(TaskEnqueued, received.append)
    hooks.emit(ENQUEUED)
    assert received == [ENQUEUED]
    assert "A listener for TaskEnqueued raised; the work goes on" in caplog.text
    assert "listener is broken" in caplog.text


async def test_an_async_listener_is_run_beside_the_work_and_guarded(caplog):
    hooks = Hooks()
    received: list[Event] = []
    running: list[asyncio.Task[None]] = []
    hooks.spawn_with(lambda coroutine: running.append(asyncio.get_running_loop().create_task(coroutine)))

    async def slow(event: TaskEnqueued) -> None:
        await asyncio.sleep(0)
        received.append(event)

    async def broken(_event: TaskEnqueued) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("async listener is broken")

    hooks.on(TaskEnqueued, slow)
    hooks.on(TaskEnqueued, broken)
    hooks.emit(ENQUEUED)
    assert received == []
    await asyncio.wait(running)
    assert received == [ENQUEUED]
    assert [task.exception() for task in running] == [None, None]
    assert "async listener is broken" in caplog.text


async def test_an_async_listener_is_cancelled_like_any_other_task():
    hooks = Hooks()
    running: list[asyncio.Task[None]] = []
    hooks.spawn_with(lambda coroutine: running.append(asyncio.get_running_loop().create_task(coroutine)))

    async def stuck(_event: TaskEnqueued) -> None:
        await asyncio.Event().wait()

    hooks.on(TaskEnqueued, stuck)
    hooks.emit(ENQUEUED)
    await asyncio.sleep(0)
    running[0].cancel()
    await asyncio.wait(running)
    assert running[0].cancelled()


def test_an_async_listener_with_nobody_to_run_it_is_said_and_leaves_no_warning(caplog):
    hooks = Hooks()

    async def late(_event: TaskEnqueued) -> None:
        raise AssertionError("not reached")

    hooks.on(TaskEnqueued, late)
    hooks.emit(ENQUEUED)
    assert "while the store was closed; it was not run" in caplog.text


def test_a_listener_sees_nothing_of_whoever_tells():
    variable: ContextVar[str] = ContextVar("variable", default="nothing")
    hooks = Hooks()
    seen: list[str] = []

    def look(_event: TaskEnqueued) -> None:
        seen.append(variable.get())
        variable.set("changed by the listener")

    hooks.on(TaskEnqueued, look)
    variable.set("the teller's")
    hooks.emit(ENQUEUED)
    assert seen == ["nothing"]
    assert variable.get() == "the teller's"


@pytest.mark.parametrize("kind", ["TaskEnqueued", None, int, Exception, ENQUEUED, (TaskEnqueued, TaskStarted)])
def test_what_is_no_kind_of_event_is_refused_when_it_is_asked_for(kind):
    with pytest.raises(ConfigurationError, match="is no kind of event"):
        Hooks().on(kind, print)
    with pytest.raises(ConfigurationError, match="is no kind of event"):
        TaskStore("sqlite://").on(kind)


@pytest.mark.parametrize("listener", ["print", 5])
def test_what_cannot_be_called_is_no_listener(listener):
    with pytest.raises(ConfigurationError, match="A listener is a function"):
        Hooks().on(TaskEnqueued, listener)


def test_the_store_takes_listeners_as_a_call_and_as_a_decorator():
    store = TaskStore("sqlite://")

    @store.on(TaskEnqueued)
    def decorated(_event: TaskEnqueued) -> None:
        pass

    def called(_event: TaskEnqueued) -> None:
        pass

    assert store.on(TaskEnqueued, called) is called
    assert decorated.__name__ == "decorated"


def test_an_error_that_cannot_be_printed_can_be_logged(caplog):
    class Unprintable(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError("no text")

    hooks = Hooks()
    log_events(hooks)
    hooks.emit(BackgroundFailed("claimer", Unprintable(), 1.0))
    assert "claimer: <Unprintable that cannot be printed>; again in 1 s" in caplog.text
