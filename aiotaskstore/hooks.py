"""Who hears which fact."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVar

from aiotaskstore.errors import ConfigurationError
from aiotaskstore.events import Event

_log = logging.getLogger("aiotaskstore")

E = TypeVar("E", bound=Event)
Listener = Callable[[Any], Any]


class Hooks:
    """Listeners by the kind of event. One that raises is logged and changes nothing."""

    def __init__(self) -> None:
        self._listeners: dict[type[Event], list[Listener]] = {}
        self._heard: dict[type[Event], tuple[Listener, ...]] = {}
        self._spawn: Callable[[Any], object] | None = None

    def on(self, kind: type[E], listener: Callable[[E], Any]) -> Callable[[], None]:
        """Let `listener` hear events of `kind` and of its subclasses; gives a function that ends it."""
        if not callable(listener):
            raise ConfigurationError(f"A listener is a function of the event, not {listener!r}.")
        self._listeners.setdefault(check_kind(kind), []).append(listener)
        self._heard.clear()
        ended = False

        def end() -> None:
            nonlocal ended
            if not ended:
                ended = True
                self._listeners[kind].remove(listener)
                self._heard.clear()

        return end

    def spawn_with(self, spawn: Callable[[Any], object] | None) -> None:
        """Say who runs listeners that are coroutines."""
        self._spawn = spawn

    def hears(self, kind: type[Event]) -> bool:
        """Tell whether anybody listens, so that events nobody hears need not be made."""
        return bool(self._for(kind))

    def emit(self, event: Event) -> None:
        """Tell a fact. Listeners see no transaction and no context of whoever tells it."""
        for listener in self._for(type(event)):
            try:
                answer = Context().run(listener, event)
                if inspect.iscoroutine(answer):
                    self._later(answer)
            except Exception:  # noqa: BLE001 - whatever a listener raises, the work goes on
                _log.exception("A listener for %s raised; the work goes on", type(event).__name__)

    def _for(self, kind: type[Event]) -> tuple[Listener, ...]:
        heard = self._heard.get(kind)
        if heard is None:
            heard = self._heard[kind] = tuple(
                listener
                for wanted, listeners in self._listeners.items()
                if issubclass(kind, wanted)
                for listener in listeners
            )
        return heard

    def _later(self, coroutine: Any) -> None:
        if self._spawn is None:
            coroutine.close()
            _log.error("An async listener heard an event while the store was closed; it was not run")
            return
        self._spawn(_guarded(coroutine))


def check_kind(kind: type[E]) -> type[E]:
    """Give `kind` back if it is a class of events."""
    if not isinstance(kind, type) or not issubclass(kind, Event):
        raise ConfigurationError(f"{kind!r} is no kind of event; take a class such as TaskFinished.")
    return kind


async def _guarded(coroutine: Any) -> None:
    try:
        await coroutine
    except asyncio.CancelledError:
        raise
    except Exception:  # noqa: BLE001 - see emit
        _log.exception("A listener raised; the work goes on")
