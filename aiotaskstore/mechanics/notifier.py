"""The notifier of a store: it passes hints to every subscriber in this process."""

from __future__ import annotations

from collections.abc import Callable

from aiotaskstore.mechanics.hint import Hint

Subscriber = Callable[[Hint], None]
"""Receives every hint, and ignores the hints that do not concern it."""


class Notifier:
    """Passes the hints of one open store to its subscribers."""

    def __init__(self) -> None:
        self._subscribers: list[Subscriber] = []

    def subscribe(self, *subscribers: Subscriber) -> Callable[[], None]:
        """Pass hints to these subscribers from now on. Returns a function that unsubscribes them, safe to repeat."""
        self._subscribers.extend(subscribers)

        def unsubscribe() -> None:
            for subscriber in subscribers:
                if subscriber in self._subscribers:
                    self._subscribers.remove(subscriber)

        return unsubscribe

    def notify(self, hint: Hint) -> None:
        """Pass a hint to every subscriber."""
        for subscriber in self._subscribers:
            subscriber(hint)
