"""Listeners, and the events that each of them receives."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVar
from uuid import UUID

from aiotaskstore.errors import ConfigurationError
from aiotaskstore.events import Event, ListenerFailed

_log = logging.getLogger("aiotaskstore")

E = TypeVar("E", bound=Event)
Listener = Callable[[Any], Any]
IsEnabled = Callable[[], bool]
"""Returns whether a listener needs events now."""


class Hooks:
    """The listeners of each kind of event.

    An error of a listener is logged and emitted as `ListenerFailed`, and changes nothing else.
    """

    def __init__(self) -> None:
        self._listeners: dict[type[Event], list[tuple[Listener, IsEnabled | None]]] = {}
        self._by_kind: dict[type[Event], tuple[tuple[Listener, IsEnabled | None], ...]] = {}
        self._spawn: Callable[[Any], object] | None = None

    def on(
        self, kind: type[E], listener: Callable[[E], Any], is_enabled: IsEnabled | None = None
    ) -> Callable[[], None]:
        """Call `listener` for events of `kind` and of its subclasses; return a function that ends this.

        While `is_enabled` returns false, events need not be made for this listener.
        """
        if not callable(listener):
            raise ConfigurationError(f"A listener is a function of the event, not {listener!r}.")
        registration = (listener, is_enabled)
        self._listeners.setdefault(check_kind(kind), []).append(registration)
        self._by_kind.clear()
        ended = False

        def end() -> None:
            nonlocal ended
            if not ended and registration in self._listeners[kind]:
                ended = True
                self._listeners[kind].remove(registration)
                self._by_kind.clear()

        return end

    def off(self, kind: type[E], listener: Listener) -> None:
        """Call `listener` no more for events of `kind`; one that is not registered is left as it is."""
        for registration in self._listeners.get(check_kind(kind), ()):
            if registration[0] == listener:
                self._listeners[kind].remove(registration)
                self._by_kind.clear()
                return

    def spawn_with(self, spawn: Callable[[Any], object] | None) -> None:
        """Set the function that runs the coroutines of async listeners."""
        self._spawn = spawn

    def has_listener(self, kind: type[Event]) -> bool:
        """Return whether there is a listener, so that events without one need not be made."""
        for _, is_enabled in self._for(kind):  # noqa: SIM110 - any() takes three times as long, twice a task
            if is_enabled is None or is_enabled():
                return True
        return False

    def emit(self, event: Event) -> None:
        """Emit an event. Listeners run in an empty context, so that they do not join a transaction of the emitter."""
        for listener, _ in self._for(type(event)):
            try:
                returned = Context().run(listener, event)
                if inspect.iscoroutine(returned):
                    self._later(returned, listener, event)
            except BaseException as error:  # noqa: BLE001 - an error of a listener, a CancelledError too, must not reach the emitter
                self._failed(listener, event, error)

    def report_failure(
        self, hook: Callable[..., Any], error: BaseException, queue: str | None, task_id: UUID | None
    ) -> None:
        """Log an error of a hook, and emit it."""
        _log.error("The hook %s raised; the work goes on", name_of(hook), exc_info=error)
        self.emit(ListenerFailed(hook, error, queue, task_id))

    def _failed(self, listener: Listener, event: Event, error: BaseException) -> None:
        kind = type(event).__name__
        _log.error("A listener for %s raised; the work goes on (%s)", kind, name_of(listener), exc_info=error)
        if not isinstance(event, ListenerFailed):
            queue, task_id = getattr(event, "queue", None), getattr(event, "task_id", None)
            self.emit(ListenerFailed(listener, error, queue, task_id))

    def _for(self, kind: type[Event]) -> tuple[tuple[Listener, IsEnabled | None], ...]:
        found = self._by_kind.get(kind)
        if found is None:
            found = self._by_kind[kind] = tuple(
                registration
                for listened_to, registrations in self._listeners.items()
                if issubclass(kind, listened_to)
                for registration in registrations
            )
        return found

    def _later(self, coroutine: Any, listener: Listener, event: Event) -> None:
        if self._spawn is None:
            coroutine.close()
            _log.error("An async listener received an event while the store was closed; it was not run")
            return
        guarded = self._guarded(coroutine, listener, event)
        try:
            self._spawn(guarded)
        except BaseException:
            guarded.close()
            coroutine.close()
            raise

    async def _guarded(self, coroutine: Any, listener: Listener, event: Event) -> None:
        try:
            await coroutine
        except asyncio.CancelledError:
            raise  # it ends this listener only
        except BaseException as error:  # noqa: BLE001 - see emit
            self._failed(listener, event, error)


def check_kind(kind: type[E]) -> type[E]:
    """Return `kind` if it is a class of events."""
    if not isinstance(kind, type) or not issubclass(kind, Event):
        raise ConfigurationError(f"{kind!r} is no kind of event; take a class such as TaskFinished.")
    return kind


def name_of(listener: Callable[..., Any]) -> str:
    """Return the name of a listener or a hook, for people."""
    return str(getattr(listener, "__qualname__", listener))
